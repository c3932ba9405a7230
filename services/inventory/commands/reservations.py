"""Reservations: what an order's saga reserves, gives back, ships and puts on the shelf again.

Every command about a reservation locks its row first, then (to reserve) the customer, then stock in the order of its keys, as
whoever moves stock does: they never wait for each other in a circle, and what one of them reads of the row stays true until it
commits. Stock comes last, because many wait for that of a product which everybody wants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chassis.database import Database
from chassis.statements import sql
from chassis.store import UnitOfWork, transaction
from chassis.telemetry import RequestContext
from chassis.together import Together
from contracts import inventory as contract
from contracts.errors import Refusal
from contracts.inventory import MovementKind, ReleaseInventory, ReserveInventory, RestockInventory, ShipInventory
from services.inventory.commands.choosing import Overtaken, chosen, stock_of, stock_of_all
from services.inventory.commands.ledger import record
from services.inventory.model import (
    PROMISED_UNITS,
    Cause,
    Reservation,
    Stock,
    Warehouse,
    missing_lines,
    out_of_stock,
    outbox,
    require_within_limit,
    unknown_reservation,
    unknown_warehouse,
)

_PROMISED = sql("""
    select customer_id, line.product_id, sum(line.quantity) as units
    from reservations, jsonb_to_recordset(lines) as line (product_id text, quantity int)
    where customer_id = any(:customers) and status = 'RESERVED' and line.product_id = any(:products)
      and not (parcel = 1 and order_id = any(:orders))
    group by customer_id, line.product_id
""")
"""What other reservations than the first parcels of these orders keep for customers."""
Promised = dict[UUID, dict[str, int]]
"""Units of each product that are kept for each customer."""


async def reserve_inventory(
    database: Database, command: ReserveInventory, *, limit: int = PROMISED_UNITS
) -> contract.Reservation:
    """Promise every line at one warehouse, or nothing. `limit`: units of one product that a customer may be promised at a time.

    Refusals: out_of_stock, warehouse_unknown, purchase_limit, reservation_released.
    """
    if command.warehouse_id:
        [reply] = await reserve_together(database, [Asked(command)], limit)
        if isinstance(reply, Refusal):
            raise reply
        return reply
    hold_all = False
    while True:
        try:
            return await _reserve_anywhere(database, command, limit, hold_all=hold_all)
        except Overtaken:
            hold_all = True


@dataclass(frozen=True)
class Asked:
    """A command, and what it is done for."""

    command: ReserveInventory
    context: RequestContext = field(default_factory=RequestContext)


class Reservations:
    """Where sagas ask for what they reserve: those who ask at one moment share a transaction, so that a product that everybody
    wants is locked once for all of them."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database, self._limit = database, limit
        self._together: Together[Asked, contract.Reservation] = Together(lambda asked: reserve_together(database, asked, limit))

    async def reserve(self, command: ReserveInventory) -> contract.Reservation:
        """As `reserve_inventory`."""
        if command.warehouse_id:
            return await self._together(Asked(command))
        return await reserve_inventory(self._database, command, limit=self._limit)


@transaction
async def reserve_together(work: UnitOfWork, asked: Sequence[Asked], limit: int) -> list[contract.Reservation | Refusal]:
    """Reserve for each, at the warehouse that it names, as if they came one after the other; the answer to each."""
    reservations = await work.get_or_add_all([Reservation.asked(one.command) for one in asked])
    new = [one.command for one, (_, is_new) in zip(asked, reservations, strict=True) if is_new]
    promised = await _promised_otherwise(work, new)
    stock = await stock_of_all(work, new)
    refused: dict[int, Refusal] = {}
    to_forget: list[Reservation] = []
    answers: list[contract.Reservation | Refusal] = []
    for one, (reservation, is_new) in zip(asked, reservations, strict=True):
        try:
            if is_new:
                _promise(work, one, reservation, stock.get(reservation.warehouse_id or "", {}), promised, limit)
            elif id(reservation) in refused:  # asked twice at one moment
                raise refused[id(reservation)]
            reservation.require_not_released()
            answers.append(reservation.reply())
        except Refusal as refusal:
            if is_new:
                refused[id(reservation)] = refusal = await _unknown_or(work, refusal, reservation.warehouse_id or "", stock)
                to_forget.append(reservation)
            answers.append(refusal)
    await work.delete(*to_forget)
    return answers


@transaction
async def _reserve_anywhere(work: UnitOfWork, command: ReserveInventory, limit: int, *, hold_all: bool) -> contract.Reservation:
    """`hold_all`: see `chosen`, which raises Overtaken."""
    reservation, is_new = await work.get_or_add(Reservation.asked(command))
    reservation.require_not_released()
    if is_new:
        promised = await _promised_otherwise(work, [command])
        reservation.warehouse_id, stock = await chosen(work, command.lines, hold_all=hold_all)
        _promise(work, Asked(command), reservation, stock, promised, limit)
    return reservation.reply()


def _promise(
    work: UnitOfWork,
    asked: Asked,
    reservation: Reservation,
    stock: Mapping[str, Stock],
    promised: Promised,
    limit: int,
) -> None:
    """Promise every line, or change nothing. Refusals: out_of_stock, purchase_limit."""
    command = asked.command
    if short := missing_lines(command.lines, stock):
        raise out_of_stock(short)
    of_customer = promised.setdefault(command.customer_id, {})
    if command.parcel == 1:  # what is sent again has been paid for, and is not refused
        require_within_limit(command.lines, of_customer, limit)
    alerts = [stock[line.product_id].reserve(line.quantity) for line in command.lines]
    for line in command.lines:
        of_customer[line.product_id] = of_customer.get(line.product_id, 0) + line.quantity
    events = [*(alert for alert in alerts if alert), reservation.reserved()]
    outbox.add(work, *events, causes=[asked.context] * len(events))


@transaction
async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> contract.Reservation:
    """Undo of reserve, also of one that has not arrived yet. Refusal: reservation_shipped."""
    reservation = await work.get(Reservation, command.order_id, command.parcel)
    if reservation is None:
        reservation, _ = await work.get_or_add(Reservation.tombstone(command))
    event = reservation.release(command.reason)
    if event is not None:
        stock = await stock_of(work, reservation)
        for line in event.lines:
            stock[line.product_id].release(line.quantity)
        outbox.add(work, event)
    return reservation.reply()


@transaction
async def ship_inventory(work: UnitOfWork, command: ShipInventory) -> contract.Reservation:
    """Take what was promised off the shelf. Refusals: reservation_released, not_found."""
    reservation = await _existing(work, command.order_id, command.parcel)
    if reservation.ship():
        stock = await stock_of(work, reservation)
        cause = Cause(MovementKind.SHIPMENT, reservation.reference)
        record(work, [stock[line.product_id].ship(line.quantity, cause) for line in reservation.stock_lines])
    return reservation.reply()


@transaction
async def restock_inventory(work: UnitOfWork, command: RestockInventory) -> contract.Reservation:
    """Put what was shipped, and has come back, on the shelf again. Refusals: conflict, not_found."""
    reservation = await _existing(work, command.order_id, command.parcel)
    event = reservation.restock(command.reason)
    if event is not None:
        stock = await stock_of(work, reservation)
        cause = Cause(MovementKind.RETURN, f"return of {reservation.reference}")
        record(work, [stock[line.product_id].move(line.quantity, cause) for line in event.lines])
        outbox.add(work, event)
    return reservation.reply()


async def _promised_otherwise(work: UnitOfWork, commands: Sequence[ReserveInventory]) -> Promised:
    """What reservations other than these keep for their customers. Of a customer's orders at once, each waits here for the commit
    of the one before, so that this stays true."""
    limited = [command for command in commands if command.parcel == 1]
    if not limited:
        return {}
    customers = sorted({command.customer_id for command in limited})
    await work.lock(*[f"customer {customer}" for customer in customers])
    rows = await work.rows(
        _PROMISED,
        customers=customers,
        orders=[command.order_id for command in limited],
        products=sorted({line.product_id for command in limited for line in command.lines}),
    )
    promised: Promised = {}
    for row in rows:
        promised.setdefault(row["customer_id"], {})[row["product_id"]] = row["units"]
    return promised


async def _existing(work: UnitOfWork, order_id: UUID, parcel: int) -> Reservation:
    """The reservation of an order's parcel, locked. Refusal: not_found."""
    reservation = await work.get(Reservation, order_id, parcel)
    if reservation is None:
        raise unknown_reservation()
    return reservation


async def _unknown_or(work: UnitOfWork, refusal: Refusal, warehouse_id: str, stock: Mapping[str, Mapping[str, Stock]]) -> Refusal:
    """The refusal, or that there is no such warehouse, if that is why."""
    if warehouse_id not in stock and await work.read(Warehouse, warehouse_id) is None:
        return unknown_warehouse(warehouse_id)
    return refusal
