"""Inventory's commands as they once were, with the three races that review 1 found in them (I1, I2, I3): what the machine is
measured by. How they lock is as it was; how they write is today's."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from sqlalchemy import update
from sqlmodel import col

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.inventory import (
    ReleaseInventory,
    ReservationStatus,
    ReserveInventory,
    StockLine,
)
from services.inventory.commands import reservations, warehousing
from services.inventory.commands.choosing import AVAILABLE, stock_at
from services.inventory.model import Reservation, missing_lines, out_of_stock, outbox
from services.inventory.model.planning import planned
from tests.conftest import ADMIN
from tests.races import inventory
from tests.races.inventory import Shop
from tests.races.machine import Command, seeded_uuid

_OVERDUE = locked(
    Reservation,
    (col(Reservation.status) == ReservationStatus.RESERVED) & (col(Reservation.parcel) == 1),
    order_by=Reservation.created_at,
    limit=100,
    skip_locked=True,
)


@transaction
async def reserve_inventory(work: UnitOfWork, command: ReserveInventory) -> str:
    """I3: the warehouse is chosen by what could be seen without a lock, and by the time that it is locked it may have less."""
    reservation, is_new = await work.get_or_add(Reservation.asked(command))
    reservation.require_not_released()
    if is_new:
        reservation.warehouse_id = command.warehouse_id or await _warehouse_with(work, command.lines)
        stock = await stock_at(work, reservation.warehouse_id, command.lines)
        if short := missing_lines(command.lines, stock):
            raise out_of_stock(short)
        alerts = [stock[line.product_id].reserve(line.quantity) for line in command.lines]
        outbox.add(work, *[alert for alert in alerts if alert], reservation.reserved())
    return reservation.status


async def _warehouse_with(work: UnitOfWork, lines: Sequence[StockLine]) -> str:
    rows = await work.rows(AVAILABLE, products=[line.product_id for line in lines])
    seen: dict[str, dict[str, int]] = {}
    for row in rows:
        seen.setdefault(row["warehouse_id"], {})[row["product_id"]] = row["on_hand"] - row["reserved"]
    plan = planned(lines, seen)
    if plan.short:
        raise out_of_stock(plan.short)
    return plan.parts[0].warehouse_id


@transaction
async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> str:
    """I1: an advisory lock, which the sweep does not take, and a plain read, which may be outdated by the time of the write."""
    await work.lock(command.order_id)
    reservation = await work.read(Reservation, command.order_id, command.parcel)
    if reservation is None:
        work.add(Reservation.tombstone(command))
        return ReservationStatus.RELEASED
    event = reservation.release(command.reason)
    if event is not None:
        stock = await stock_at(work, reservation.warehouse_id or "", reservation.stock_lines)
        for line in event.lines:
            stock[line.product_id].release(line.quantity)
        of_parcel = (col(Reservation.order_id) == command.order_id) & (col(Reservation.parcel) == command.parcel)
        await work.rows(update(Reservation).where(of_parcel).values(status=reservation.status))
        outbox.add(work, event)
    return reservation.status


@transaction
async def expire_reservations(work: UnitOfWork) -> int:
    """I2: the stock of one reservation after the other is locked, so that of all together in no fixed order."""
    reservations = await work.all(_OVERDUE)
    for reservation in reservations:
        event = reservation.release("not paid in time")
        if event is not None:
            stock = await stock_at(work, reservation.warehouse_id or "", reservation.stock_lines)
            for line in event.lines:
                stock[line.product_id].release(line.quantity)
            outbox.add(work, event)
    return len(reservations)


async def prepare(database: Database, random: Random) -> Shop:
    """Today's world, with goods beside that are promised to others and not overdue: what is given back twice is theirs."""
    shop = await inventory.prepare(database, random)
    for warehouse in inventory.WAREHOUSES:
        goods = tuple(StockLine(product_id=product, quantity=9) for product in inventory.PRODUCTS)
        key = IdempotencyKey("prepare", f"more at {warehouse}", "")
        await warehousing.receive_stock(database, ADMIN, warehouse, goods, key, reference="test")
        others = ReserveInventory(
            order_id=seeded_uuid(random), parcel=2, customer_id=seeded_uuid(random), lines=goods, warehouse_id=warehouse
        )
        await reservations.reserve_inventory(database, others)
    return shop


def reserve(shop: Shop, random: Random) -> Command:
    command = shop.reserve(random).model_copy(update={"warehouse_id": None})
    return lambda database: reserve_inventory(database, command)


def release(shop: Shop, random: Random) -> Command:
    command = ReleaseInventory(order_id=shop.order(random), reason="test")
    return lambda database: release_inventory(database, command)


def sweep(shop: Shop, random: Random) -> Command:
    return lambda database: expire_reservations(database)


SUBJECT = replace(inventory.SUBJECT, prepare=prepare, commands={"reserve": reserve, "release": release, "sweep": sweep})
