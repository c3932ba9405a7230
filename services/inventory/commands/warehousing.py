"""What people do in warehouses: goods arrive, are found, lost, counted, and taken from one to another."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col

from chassis.access import Grant
from chassis.idempotency import IdempotencyKey
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts import inventory as contract
from contracts.inventory import MovementKind, StockLine
from services.inventory.commands.choosing import ShelfKey, by_warehouse, stock_added
from services.inventory.commands.ledger import record
from services.inventory.commands.waiting import fill, who_waits
from services.inventory.model import (
    Cause,
    ExpectedReceipt,
    Moved,
    Stock,
    Warehouse,
    idempotency,
    no_such_warehouse,
    require_unpromised,
    unknown_receipt,
    unknown_warehouse,
)

_ANNOUNCED = locked(ExpectedReceipt, col(ExpectedReceipt.receipt_id) == any_(bindparam("receipts", type_=ARRAY(Uuid))))
Versions = Mapping[str, int]
"""By product: the version of its stock that the caller has seen. What is not in it may have changed since."""
NOTHING_SEEN: Versions = MappingProxyType({})
NOTHING_ANNOUNCED: Mapping[str, UUID] = MappingProxyType({})


@transaction
async def put_warehouse(
    work: UnitOfWork,
    caller: Grant,
    warehouse_id: str,
    name: str,
    seen: int | None = None,
    *,
    place: contract.Place | None = None,
) -> Warehouse:
    """Add a warehouse, rename it, or say where it is; None: that stays as it is. `seen`: the version that the caller has seen.

    Refusals: not_found (out of the caller's reach, or never there although it was seen), stale_version."""
    if not caller.reaches(warehouse=warehouse_id):
        raise no_such_warehouse()
    warehouse, is_new = await work.get_or_add(Warehouse(warehouse_id=warehouse_id, name=name))
    if is_new and seen is not None:
        raise no_such_warehouse()
    warehouse.require_version(seen)
    warehouse.name = name
    if place is not None:
        warehouse.country, warehouse.region, warehouse.postal_code = place.country, place.region, place.postal_code
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
    announced: Mapping[str, UUID] = NOTHING_ANNOUNCED,
) -> list[Stock]:
    """Put goods on the shelf, each product on one line; returns the levels after, in the order of the lines.

    `reference`: of the delivery note. `announced`: by product, the expected receipt that has arrived.
    Refusals: warehouse_unknown, not_found, conflict, stale_version, idempotency_key_reused."""
    await _require_warehouses(work, caller, warehouse_id)
    if (earlier := await _earlier_levels(work, key)) is not None:
        return earlier
    await _receive_announced(work, warehouse_id, lines, announced)
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


async def _require_warehouses(work: UnitOfWork, caller: Grant, *warehouse_ids: str) -> None:
    """They are there and within the caller's reach. Refusal: warehouse_unknown."""
    for warehouse_id in warehouse_ids:
        if not caller.reaches(warehouse=warehouse_id) or await work.read(Warehouse, warehouse_id) is None:
            raise unknown_warehouse(warehouse_id)


async def _receive_announced(
    work: UnitOfWork, warehouse_id: str, lines: Sequence[StockLine], announced: Mapping[str, UUID]
) -> None:
    """What was announced has arrived. Refusals: not_found, conflict."""
    if not announced:
        return
    receipts = {receipt.receipt_id: receipt for receipt in await work.all(_ANNOUNCED, receipts=list(announced.values()))}
    for line in lines:
        if line.product_id in announced:
            receipt = receipts.get(announced[line.product_id])
            if receipt is None:
                raise unknown_receipt()
            receipt.receive(warehouse_id, line.product_id, line.quantity)


async def _earlier_levels(work: UnitOfWork, key: IdempotencyKey) -> list[Stock] | None:
    """What this key was answered before. Refusal: idempotency_key_reused."""
    earlier = await idempotency.earlier_reply(work, key)
    return None if earlier is None else [Stock.model_validate(level) for level in earlier]


async def _stock_to_move(
    work: UnitOfWork, warehouses: Sequence[str], products: Collection[str], seen: Versions
) -> dict[ShelfKey, Stock]:
    """The stock of the products at each of the warehouses, locked; added where there was none. `seen`: versions of what is at the
    first warehouse. Refusal: stale_version."""
    stock = await stock_added(work, warehouses, products)
    for product, version in seen.items():
        stock[warehouses[0], product].require_version(version)
    return stock


def _move(stock: Mapping[ShelfKey, Stock], warehouse_id: str, changes: Mapping[str, int], cause: Cause) -> list[Moved]:
    """Refusals: stock_promised, conflict."""
    changing = [(stock[warehouse_id, product], change) for product, change in changes.items()]
    require_unpromised(changing)  # all of them at once, so that who counted a hundred products is told all that is wrong
    return [item.move(change, cause) for item, change in changing]


async def _levels_after(
    work: UnitOfWork, key: IdempotencyKey, moved: Sequence[Moved], stock: Mapping[ShelfKey, Stock]
) -> list[Stock]:
    """Record what moved, and let those have it who wait for it; the levels after that, also for retries."""
    record(work, moved)
    held = by_warehouse(list(stock.values()))
    await fill(work, held, await who_waits(work, held))
    await work.write()
    levels = [stock[one.movement.warehouse_id, one.movement.product_id] for one in moved]
    await idempotency.remember(work, key, [level.model_dump() for level in levels])
    return levels
