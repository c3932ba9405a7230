"""What changes inventory. Each function marked so is one transaction; each is idempotent.

Every command about a reservation locks its row first, then (to reserve) the customer, then stock in the order of its keys, as
whoever moves stock does: they never wait for each other in a circle, and what one of them reads of the row stays true until it
commits. Stock comes last, because many wait for that of a product which everybody wants.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import ARRAY, String, any_, bindparam, func, tuple_
from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.statements import locked, prepared, sql
from chassis.store import UnitOfWork, transaction
from chassis.telemetry import trace_headers
from chassis.together import Together
from contracts import inventory as contract
from contracts.errors import Refusal
from contracts.inventory import MovementKind, ReleaseInventory, ReserveInventory, RestockInventory, ShipInventory, StockLine
from services.inventory.model import (
    PROMISED_UNITS,
    Cause,
    Moved,
    Reservation,
    Stock,
    Warehouse,
    idempotency,
    missing_lines,
    no_such_warehouse,
    out_of_stock,
    outbox,
    require_unpromised,
    require_within_limit,
    unknown_reservation,
    unknown_warehouse,
)

_OF_THESE = col(Stock.product_id) == any_(bindparam("products", type_=ARRAY(String)))
_HERE = locked(Stock, (col(Stock.warehouse_id) == bindparam("warehouse")) & _OF_THESE)
_ANYWHERE = locked(Stock, _OF_THESE)
_AVAILABLE = prepared(select(*map(col, (Stock.warehouse_id, Stock.product_id, Stock.on_hand, Stock.reserved))).where(_OF_THESE))
_AT_THESE = locked(Stock, (col(Stock.warehouse_id) == any_(bindparam("warehouses", type_=ARRAY(String)))) & _OF_THESE)
_AT_PLACES = locked(
    Stock,
    tuple_(col(Stock.warehouse_id), col(Stock.product_id)).in_(
        select(
            func.unnest(bindparam("warehouses", type_=ARRAY(String))),
            func.unnest(bindparam("products", type_=ARRAY(String))),
        )
    ),
)
"""At the n-th warehouse the n-th product."""
_ADD_MISSING = sql("""
    insert into stock (warehouse_id, product_id, on_hand, reserved, low_stock_threshold)
    select warehouse_id, product_id, 0, 0, 0
    from unnest(cast(:warehouses as text[])) as warehouse_id, unnest(cast(:products as text[])) as product_id
    order by warehouse_id, product_id
    on conflict do nothing
""")
"""In the order of their keys, so that two who add the same never wait for each other."""
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
Place = tuple[str, str]
"""Warehouse and product."""
Versions = Mapping[str, int]
"""By product: the version of its stock that the caller has seen. What is not in it may have changed since."""
NOTHING_SEEN: Versions = MappingProxyType({})


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
        except _Overtaken:
            hold_all = True


@dataclass(frozen=True)
class Asked:
    """A command, and the trace that it belongs to."""

    command: ReserveInventory
    traceparent: str | None = field(default_factory=lambda: trace_headers().get("traceparent"))


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
    stock = await _stock_of_all(work, new)
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
    """`hold_all`: see `_chosen`, which raises _Overtaken."""
    reservation, is_new = await work.get_or_add(Reservation.asked(command))
    reservation.require_not_released()
    if is_new:
        promised = await _promised_otherwise(work, [command])
        reservation.warehouse_id, stock = await _chosen(work, command.lines, hold_all=hold_all)
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
    outbox.add(work, *events, traceparents=[asked.traceparent] * len(events))


@transaction
async def release_inventory(work: UnitOfWork, command: ReleaseInventory) -> contract.Reservation:
    """Undo of reserve, also of one that has not arrived yet. Refusal: reservation_shipped."""
    reservation = await work.get(Reservation, command.order_id, command.parcel)
    if reservation is None:
        reservation, _ = await work.get_or_add(Reservation.tombstone(command))
    event = reservation.release(command.reason)
    if event is not None:
        stock = await _stock_of(work, reservation)
        for line in event.lines:
            stock[line.product_id].release(line.quantity)
        outbox.add(work, event)
    return reservation.reply()


@transaction
async def ship_inventory(work: UnitOfWork, command: ShipInventory) -> contract.Reservation:
    """Take what was promised off the shelf. Refusals: reservation_released, not_found."""
    reservation = await _existing(work, command.order_id, command.parcel)
    if reservation.ship():
        stock = await _stock_of(work, reservation)
        cause = Cause(MovementKind.SHIPMENT, reservation.reference)
        _record(work, [stock[line.product_id].ship(line.quantity, cause) for line in reservation.stock_lines])
    return reservation.reply()


@transaction
async def restock_inventory(work: UnitOfWork, command: RestockInventory) -> contract.Reservation:
    """Put what was shipped, and has come back, on the shelf again. Refusals: conflict, not_found."""
    reservation = await _existing(work, command.order_id, command.parcel)
    event = reservation.restock(command.reason)
    if event is not None:
        stock = await _stock_of(work, reservation)
        cause = Cause(MovementKind.RETURN, f"return of {reservation.reference}")
        _record(work, [stock[line.product_id].move(line.quantity, cause) for line in event.lines])
        outbox.add(work, event)
    return reservation.reply()


@transaction
async def put_warehouse(work: UnitOfWork, caller: Grant, warehouse_id: str, name: str, seen: int | None = None) -> Warehouse:
    """Add a warehouse, or rename it. `seen`: the version that the caller has seen.

    Refusals: not_found (out of the caller's reach, or never there although it was seen), stale_version."""
    if not caller.reaches(warehouse=warehouse_id):
        raise no_such_warehouse()
    warehouse, is_new = await work.get_or_add(Warehouse(warehouse_id=warehouse_id, name=name))
    if is_new and seen is not None:
        raise no_such_warehouse()
    warehouse.require_version(seen)
    warehouse.name = name
    return warehouse


@transaction
async def receive_stock(
    work: UnitOfWork,
    caller: Grant,
    warehouse_id: str,
    lines: Sequence[StockLine],
    key: IdempotencyKey,
    *,
    reference: str,
    low_stock_threshold: int | None = None,
    seen: Versions = NOTHING_SEEN,
) -> list[Stock]:
    """Put goods on the shelf, each product on one line; returns the levels after, in the order of the lines.

    `reference`: of the delivery note. Refusals: warehouse_unknown, conflict, stale_version, idempotency_key_reused."""
    await _require_warehouses(work, caller, warehouse_id)
    if (earlier := await _earlier_levels(work, key)) is not None:
        return earlier
    stock = await _stock_to_move(work, [warehouse_id], [line.product_id for line in lines], seen)
    cause = Cause(MovementKind.RECEIPT, reference, actor=caller.subject)
    moved = _move(stock, warehouse_id, {line.product_id: line.quantity for line in lines}, cause)
    if low_stock_threshold is not None:
        for item in stock.values():
            item.low_stock_threshold = low_stock_threshold
    return await _levels_after(work, key, moved, stock)


@transaction
async def adjust_stock(
    work: UnitOfWork,
    caller: Grant,
    warehouse_id: str,
    changes: Mapping[str, int],
    key: IdempotencyKey,
    *,
    reason: str,
    reference: str | None = None,
    seen: Versions = NOTHING_SEEN,
) -> list[Stock]:
    """Write down what was found (more than nothing) or was lost or damaged (less than nothing), by product; returns the levels
    after, in that order. Refusals: warehouse_unknown, stock_promised, conflict, stale_version, idempotency_key_reused."""
    await _require_warehouses(work, caller, warehouse_id)
    if (earlier := await _earlier_levels(work, key)) is not None:
        return earlier
    stock = await _stock_to_move(work, [warehouse_id], changes, seen)
    cause = Cause(MovementKind.ADJUSTMENT, reference, reason, caller.subject)
    return await _levels_after(work, key, _move(stock, warehouse_id, changes, cause), stock)


@transaction
async def count_stock(
    work: UnitOfWork,
    caller: Grant,
    warehouse_id: str,
    counted: Mapping[str, int],
    key: IdempotencyKey,
    *,
    reason: str,
    reference: str | None = None,
    seen: Versions = NOTHING_SEEN,
) -> list[Stock]:
    """What was counted, by product, is what is on hand: the differences are recorded, none too. What is packed for an order and
    has not left counts. Returns the levels after.

    Refusals: warehouse_unknown, stock_promised, stale_version, idempotency_key_reused."""
    await _require_warehouses(work, caller, warehouse_id)
    if (earlier := await _earlier_levels(work, key)) is not None:
        return earlier
    stock = await _stock_to_move(work, [warehouse_id], counted, seen)
    cause = Cause(MovementKind.COUNT, reference, reason, caller.subject)
    differences = {product: found - stock[warehouse_id, product].on_hand for product, found in counted.items()}
    return await _levels_after(work, key, _move(stock, warehouse_id, differences, cause), stock)


@transaction
async def transfer_stock(
    work: UnitOfWork,
    caller: Grant,
    from_warehouse_id: str,
    to_warehouse_id: str,
    quantities: Mapping[str, int],
    key: IdempotencyKey,
    *,
    reason: str,
    reference: str | None = None,
    seen: Versions = NOTHING_SEEN,
) -> list[Stock]:
    """Take quantities, by product, from one warehouse to another. `seen`: versions of the stock that they leave. Returns the
    levels after of the one, then of the other.

    Refusals: warehouse_unknown, stock_promised, conflict, stale_version, idempotency_key_reused."""
    await _require_warehouses(work, caller, from_warehouse_id, to_warehouse_id)
    if (earlier := await _earlier_levels(work, key)) is not None:
        return earlier
    stock = await _stock_to_move(work, [from_warehouse_id, to_warehouse_id], quantities, seen)
    leaving = Cause(MovementKind.TRANSFER, reference, reason, caller.subject, to_warehouse_id)
    arriving = replace(leaving, other_warehouse_id=from_warehouse_id)
    moved = _move(stock, from_warehouse_id, {product: -quantity for product, quantity in quantities.items()}, leaving)
    moved += _move(stock, to_warehouse_id, quantities, arriving)
    return await _levels_after(work, key, moved, stock)


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


async def _stock_of_all(work: UnitOfWork, commands: Sequence[ReserveInventory]) -> dict[str, dict[str, Stock]]:
    """The stock of the lines of all, locked, by warehouse and product."""
    places = sorted({(command.warehouse_id, line.product_id) for command in commands for line in command.lines})
    if not places:
        return {}
    warehouses, products = map(list, zip(*places, strict=True))
    return _by_warehouse(await work.all(_AT_PLACES, warehouses=warehouses, products=products))


async def _require_warehouses(work: UnitOfWork, caller: Grant, *warehouse_ids: str) -> None:
    """They are there and within the caller's reach. Refusal: warehouse_unknown."""
    for warehouse_id in warehouse_ids:
        if not caller.reaches(warehouse=warehouse_id) or await work.read(Warehouse, warehouse_id) is None:
            raise unknown_warehouse(warehouse_id)


async def _earlier_levels(work: UnitOfWork, key: IdempotencyKey) -> list[Stock] | None:
    """What this key was answered before. Refusal: idempotency_key_reused."""
    earlier = await idempotency.earlier_reply(work, key)
    return None if earlier is None else [Stock.model_validate(level) for level in earlier]


async def _stock_to_move(
    work: UnitOfWork, warehouses: Sequence[str], products: Collection[str], seen: Versions
) -> dict[Place, Stock]:
    """The stock of the products at each of the warehouses, locked; added where there was none. `seen`: versions of what is at the
    first warehouse. Refusal: stale_version."""
    where = {"warehouses": list(warehouses), "products": list(products)}
    await work.rows(_ADD_MISSING, **where)
    stock = {(item.warehouse_id, item.product_id): item for item in await work.all(_AT_THESE, **where)}
    for product, version in seen.items():
        stock[warehouses[0], product].require_version(version)
    return stock


def _move(stock: Mapping[Place, Stock], warehouse_id: str, changes: Mapping[str, int], cause: Cause) -> list[Moved]:
    """Refusals: stock_promised, conflict."""
    changing = [(stock[warehouse_id, product], change) for product, change in changes.items()]
    require_unpromised(changing)  # all of them at once, so that who counted a hundred products is told all that is wrong
    return [item.move(change, cause) for item, change in changing]


async def _levels_after(
    work: UnitOfWork, key: IdempotencyKey, moved: Sequence[Moved], stock: Mapping[Place, Stock]
) -> list[Stock]:
    """Record what moved; the levels after, also for retries."""
    _record(work, moved)
    await work.write()
    levels = [stock[one.movement.warehouse_id, one.movement.product_id] for one in moved]
    await idempotency.remember(work, key, [level.model_dump() for level in levels])
    return levels


def _record(work: UnitOfWork, moved: Sequence[Moved]) -> None:
    """Add movements to the ledger, and tell of them."""
    work.add(*[one.movement for one in moved])
    outbox.add(work, *[event for one in moved for event in one.events])


async def _existing(work: UnitOfWork, order_id: UUID, parcel: int) -> Reservation:
    """The reservation of an order's parcel, locked. Refusal: not_found."""
    reservation = await work.get(Reservation, order_id, parcel)
    if reservation is None:
        raise unknown_reservation()
    return reservation


async def _stock_of(work: UnitOfWork, reservation: Reservation) -> dict[str, Stock]:
    return await _stock_at(work, reservation.warehouse_id or "", reservation.stock_lines)


async def _stock_at(work: UnitOfWork, warehouse_id: str, lines: Sequence[StockLine]) -> dict[str, Stock]:
    stock = await work.all(_HERE, warehouse=warehouse_id, products=[line.product_id for line in lines])
    return {item.product_id: item for item in stock}


class _Overtaken(Exception):
    """Others were faster: the warehouse that had every line when we looked has not any more, now that its stock is locked."""


async def _chosen(work: UnitOfWork, lines: Sequence[StockLine], *, hold_all: bool) -> tuple[str, dict[str, Stock]]:
    """A warehouse that has every line, and its stock of them, locked.

    All warehouses are looked at in one statement, so that "out of stock" is true of all of them at one moment. Locked is only the
    stock of the one that is chosen. Who was overtaken there locks the stock of all before it chooses (`hold_all`). A warehouse
    that got its first stock of a product meanwhile is not locked then, since that would be out of turn: who needs it begins anew.
    Refusal: out_of_stock, measured at the warehouse that lacks fewest lines. Raises _Overtaken.
    """
    products = [line.product_id for line in lines]
    if hold_all:
        held = _by_warehouse(await work.all(_ANYWHERE, products=products))
        if any(not missing_lines(lines, stock) for stock in held.values()):
            warehouse_id = _best(lines, held)
            return warehouse_id, held[warehouse_id]
    seen = [Stock.model_construct(**dict(row)) for row in await work.rows(_AVAILABLE, products=products)]
    warehouse_id = _best(lines, _by_warehouse(seen))
    stock = {} if hold_all else await _stock_at(work, warehouse_id, lines)
    if missing_lines(lines, stock):
        raise _Overtaken
    return warehouse_id, stock


def _by_warehouse(stock: Sequence[Stock]) -> dict[str, dict[str, Stock]]:
    by_warehouse: dict[str, dict[str, Stock]] = {}
    for item in stock:
        by_warehouse.setdefault(item.warehouse_id, {})[item.product_id] = item
    return by_warehouse


def _best(lines: Sequence[StockLine], by_warehouse: dict[str, dict[str, Stock]]) -> str:
    """Refusal: out_of_stock."""
    short, warehouse_id = min(
        ((missing_lines(lines, stock), warehouse_id) for warehouse_id, stock in by_warehouse.items()),
        key=lambda option: (len(option[0]), option[1]),
        default=(missing_lines(lines, {}), ""),
    )
    if short:
        raise out_of_stock(short)
    return warehouse_id


async def _unknown_or(work: UnitOfWork, refusal: Refusal, warehouse_id: str, stock: Mapping[str, Mapping[str, Stock]]) -> Refusal:
    """The refusal, or that there is no such warehouse, if that is why."""
    if warehouse_id not in stock and await work.read(Warehouse, warehouse_id) is None:
        return unknown_warehouse(warehouse_id)
    return refusal
