"""Reservations: what an order's saga reserves, gives back and ships.

Every command about a reservation locks its row first, then (to reserve) the customer, then stock in the order of its keys, as
whoever moves stock does: they never wait for each other in a circle, and what one of them reads of the row stays true until it
commits. Stock comes last, because many wait for that of a product which everybody wants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from chassis.database import Database
from chassis.statements import locked, sql
from chassis.store import UnitOfWork, transaction
from chassis.telemetry import RequestContext
from chassis.together import Together
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import (
    MovementKind,
    MoveReservation,
    ReleaseInventory,
    ReservationStatus,
    ReservedParcel,
    ReserveInventory,
    ShipInventory,
    SplitReservation,
    WhenShort,
)
from services.inventory.commands.choosing import Overtaken, chosen, stock_at_all, stock_of
from services.inventory.commands.ledger import record
from services.inventory.commands.waiting import fill, fill_parts, parcels_to_wait, who_waits
from services.inventory.model import (
    HAS_LEFT,
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
from services.inventory.model.planning import MOST_PARCELS

_other = aliased(Reservation)
_PROMISED = sql("""
    select customer_id, line.product_id, sum(line.quantity) as units
    from reservations, jsonb_to_recordset(lines) as line (product_id text, quantity int)
    where customer_id = any(:customers) and status in ('RESERVED', 'AWAITED') and line.product_id = any(:products)
      and (order_id, parcel) not in (select * from unnest(cast(:orders as uuid[]), cast(:parcels as int[])))
    group by customer_id, line.product_id
""")
"""What other reservations than these parcels of these orders keep for customers, or will when their goods are there."""
_OF_PLAN = sql("""
    select parcel, status, warehouse_id, lines, expected_on from reservations
    where order_id = :order_id and plan = :plan order by parcel
""")
_PLANNED_TOGETHER = locked(
    Reservation,
    (col(Reservation.order_id) == bindparam("order_id"))
    & or_(
        col(Reservation.parcel) == bindparam("parcel"),
        col(Reservation.plan)
        == select(col(_other.plan))
        .where(col(_other.order_id) == bindparam("order_id"), col(_other.parcel) == bindparam("parcel"))
        .scalar_subquery(),
    ),
)
"""A parcel, and all that were planned together with it."""
Promised = dict[UUID, dict[str, int]]
"""Units of each product that are kept for each customer."""


async def reserve_inventory(
    database: Database, command: ReserveInventory, *, limit: int = PROMISED_UNITS
) -> contract.Reservation:
    """Promise every line, or what `when_short` leaves of them. `limit`: units of one product that a customer may be promised at a
    time.

    Refusals: out_of_stock, warehouse_unknown, purchase_limit, reservation_released.
    """
    if not command.warehouse_id:
        return await _reserve_planned_until_done(database, command, limit)
    [reply] = await reserve_together(database, [Asked(command)], limit)
    if not isinstance(reply, Refusal):
        return reply
    if not _does_with_less(command, reply):
        raise reply
    return await _reserve_planned_until_done(database, command, limit)


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
            try:
                return await self._together(Asked(command))
            except Refusal as refusal:
                if not _does_with_less(command, refusal):
                    raise
        return await _reserve_planned_until_done(self._database, command, self._limit)


def _does_with_less(command: ReserveInventory, refusal: Refusal) -> bool:
    """Whether the customer takes less than all for now, and that is why it was refused."""
    return refusal.code == ErrorCode.OUT_OF_STOCK and command.when_short != WhenShort.REFUSE


async def _reserve_planned_until_done(database: Database, command: ReserveInventory, limit: int) -> contract.Reservation:
    hold_all = False
    while True:
        try:
            return await _reserve_planned(database, command, limit, hold_all=hold_all)
        except Overtaken:
            hold_all = True


@transaction
async def reserve_together(work: UnitOfWork, asked: Sequence[Asked], limit: int) -> list[contract.Reservation | Refusal]:
    """Reserve for each, at the warehouse that it names, as if they came one after the other; the answer to each."""
    reservations = await work.get_or_add_all([Reservation.asked(one.command) for one in asked])
    new = [one.command for one, (_, is_new) in zip(asked, reservations, strict=True) if is_new]
    promised = await _promised_otherwise(work, new)
    stock = await stock_at_all(work, ((command.warehouse_id or "", command.lines) for command in new))
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
            answers.append(await told(work, reservation))
        except Refusal as refusal:
            if is_new:
                refused[id(reservation)] = refusal = await _unknown_or(work, refusal, reservation.warehouse_id or "", stock)
                to_forget.append(reservation)
            answers.append(refusal)
    await work.delete(*to_forget)
    return answers


@transaction
async def _reserve_planned(work: UnitOfWork, command: ReserveInventory, limit: int, *, hold_all: bool) -> contract.Reservation:
    """`hold_all`: see `chosen`, which raises Overtaken."""
    first, is_new = await work.get_or_add(Reservation.asked(command))
    first.require_not_released()
    if not is_new:
        return await told(work, first)
    promised = await _promised_otherwise(work, [command])
    plan, stock = await chosen(work, command, hold_all=hold_all)
    waits = command.when_short in (WhenShort.WAIT, WhenShort.ASK)
    if _is_limited(command):
        require_within_limit(command.lines if waits else plan.sent(command.lines), promised.get(command.customer_id, {}), limit)
    if command.may_split or command.when_short != WhenShort.REFUSE:
        first.plan = command.parcel
    parcels: list[Reservation] = []
    for part in plan.parts:
        parcels.append(parcel := await _next_parcel(work, first, parcels))
        parcel.promise(part.warehouse_id, part.lines)
        shelf = stock[part.warehouse_id]
        alerts = [shelf[line.product_id].reserve(line.quantity) for line in part.lines]
        outbox.add(work, *(alert for alert in alerts if alert), parcel.reserved())
    if plan.short and waits:  # only now: what waits expects nothing of what the parts have just taken
        at = command.warehouse_id or (plan.parts[0].warehouse_id if plan.parts and not command.may_split else None)
        room = MOST_PARCELS + 1 - command.parcel - len(plan.parts)
        for lines, expected_on in await parcels_to_wait(work, at, plan.rest, room if command.day_by_day else 1):
            parcels.append(parcel := await _next_parcel(work, first, parcels))
            parcel.wait(at, lines, expected_on)
    if plan.short and not waits:
        first.dropped = [line.model_dump() for line in plan.short]
    return first.reply([parcel.as_parcel() for parcel in parcels] if first.plan else ())


async def _next_parcel(work: UnitOfWork, first: Reservation, parcels: Sequence[Reservation]) -> Reservation:
    """The one that comes after these of an order: its first, or a new one with the next number that is free. Refusal: conflict,
    if none is."""
    if not parcels:
        return first
    for number in range(parcels[-1].parcel + 1, MOST_PARCELS + 1):
        new, is_new = await work.get_or_add(Reservation.beside(first, number))
        if is_new:
            return new
    raise Refusal(ErrorCode.CONFLICT, f"An order has no more than {MOST_PARCELS} parcels.")


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
    if _is_limited(command):
        require_within_limit(command.lines, of_customer, limit)
    alerts = [stock[line.product_id].reserve(line.quantity) for line in command.lines]
    for line in command.lines:
        of_customer[line.product_id] = of_customer.get(line.product_id, 0) + line.quantity
    events = [*(alert for alert in alerts if alert), reservation.reserved()]
    outbox.add(work, *events, causes=[asked.context] * len(events))


async def told(work: UnitOfWork, reservation: Reservation) -> contract.Reservation:
    """The reply about a reservation, with all that were planned together with it."""
    if reservation.plan is None:
        return reservation.reply()
    rows = await work.rows(_OF_PLAN, order_id=reservation.order_id, plan=reservation.plan)
    return reservation.reply([ReservedParcel.model_validate(dict(row)) for row in rows])


@transaction
async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> contract.Reservation:
    """Undo of reserve, also of one that has not arrived yet. Refusal: reservation_shipped."""
    if command.planned:
        together = await work.all(_PLANNED_TOGETHER, order_id=command.order_id, parcel=command.parcel)
    else:
        one = await work.get(Reservation, command.order_id, command.parcel)
        together = [one] if one is not None else []
    reservation = next((one for one in together if one.parcel == command.parcel), None)
    if reservation is None:
        reservation, is_new = await work.get_or_add(Reservation.tombstone(command))
        together = [reservation]
        if not is_new and command.planned and reservation.plan is not None:  # the reservation came in between
            together = await work.all(_PLANNED_TOGETHER, order_id=command.order_id, parcel=command.parcel)
    reservation.require_not_left()
    ended = [one for one in together if one.status not in HAS_LEFT]
    promised = [one for one in ended if one.status == ReservationStatus.RESERVED]
    if promised:
        stock = await stock_of(work, *promised)
        waiting = await who_waits(work, stock)
        for one in promised:
            for line in one.stock_lines:
                stock[one.warehouse_id or ""][line.product_id].release(line.quantity)
    events = [one.release(command.reason) for one in ended]
    outbox.add(work, *(event for event in events if event))
    if promised:
        await fill(work, stock, waiting)
    return await told(work, reservation) if command.planned else reservation.reply()


@transaction
async def ship_inventory(work: UnitOfWork, command: ShipInventory) -> contract.Reservation:
    """Take what was promised off the shelf. Refusals: reservation_released, conflict, not_found."""
    reservation = await _existing(work, command.order_id, command.parcel)
    if reservation.ship():
        stock = (await stock_of(work, reservation))[reservation.warehouse_id or ""]
        cause = Cause(MovementKind.SHIPMENT, reservation.reference)
        record(work, [stock[line.product_id].ship(line.quantity, cause) for line in reservation.stock_lines])
    return reservation.reply()


@transaction
async def split_reservation(work: UnitOfWork, command: SplitReservation) -> contract.Reservation:
    """Let some of what a parcel was promised go in a parcel of its own. The stock stays promised; who waits, waits on.

    Refusals: not_found, reservation_released, reservation_shipped, conflict."""
    source = await _existing(work, command.order_id, command.parcel)
    new, is_new = await work.get_or_add(Reservation.beside(source, command.into))
    if is_new:
        outbox.add(work, source.split(command, new))
        await fill_parts(work, [source, new])
    elif new.split_from != command.parcel:
        new.require_not_released()
        raise Refusal(ErrorCode.CONFLICT, f"There is another parcel {command.into}.")
    return await told(work, new)


@transaction
async def move_reservation(work: UnitOfWork, command: MoveReservation) -> contract.Reservation:
    """Let what a parcel was promised go under another number. The stock stays promised.

    Refusals: not_found, reservation_released, reservation_shipped, conflict."""
    source = await _existing(work, command.order_id, command.parcel)
    new, is_new = await work.get_or_add(Reservation.beside(source, command.into))
    if is_new:
        outbox.add(work, *source.move(new))
    elif new.split_from != command.parcel:
        new.require_not_released()
        raise Refusal(ErrorCode.CONFLICT, f"There is another parcel {command.into}.")
    return await told(work, new)


async def _promised_otherwise(work: UnitOfWork, commands: Sequence[ReserveInventory]) -> Promised:
    """What reservations other than these keep for their customers. Of a customer's orders at once, each waits here for the commit
    of the one before, so that this stays true."""
    limited = [command for command in commands if _is_limited(command)]
    if not limited:
        return {}
    customers = sorted({command.customer_id for command in limited})
    await work.lock(*[f"customer {customer}" for customer in customers])
    rows = await work.rows(
        _PROMISED,
        customers=customers,
        orders=[command.order_id for command in limited],
        parcels=[command.parcel for command in limited],
        products=sorted({line.product_id for command in limited for line in command.lines}),
    )
    promised: Promised = {}
    for row in rows:
        promised.setdefault(row["customer_id"], {})[row["product_id"]] = row["units"]
    return promised


def _is_limited(command: ReserveInventory) -> bool:
    """Whether the purchase limit holds for it: what is sent again has been paid for, and is not refused."""
    return command.parcel == 1 or command.is_more


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
