"""What changes inventory. Each function is one transaction; each is idempotent."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database, lock
from chassis.idempotency import IdempotencyKey
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import HoldReservation, ReleaseInventory, ReservationStatus, ReserveInventory, ShipInventory, StockLine
from services.inventory.model import (
    UNPAID_UNITS,
    Movement,
    Reservation,
    Stock,
    Warehouse,
    idempotency,
    missing_lines,
    out_of_stock,
    outbox,
    released,
    require_within_limit,
)
from services.inventory.schemas import ReceiptRequest, StockView, WarehouseView

RESERVATION_LASTS = timedelta(minutes=15)
"""How long stock is promised to an order that has not been paid and is not held."""
_UNPAID = text("""
    select line.product_id, sum(line.quantity) as units
    from reservations, jsonb_to_recordset(lines) as line (product_id text, quantity int)
    where customer_id = :customer and expires_at is not null and order_id <> :order and line.product_id = any(:products)
    group by line.product_id
""")
"""What a customer's other orders hold and have not paid: only such reservations end by themselves."""


async def reserve_inventory(database: Database, command: ReserveInventory, *, limit: int = UNPAID_UNITS) -> contract.Reservation:
    """Promise every line at one warehouse, or nothing. `limit`: units of one product that a customer may hold unpaid.

    Refusals: out_of_stock, warehouse_unknown, purchase_limit, reservation_released.
    """
    async with database.transaction() as session:
        await lock(session, command.order_id)
        # Locked before stock and customer, as `hold_reservation` does: the two must never wait for each other.
        existing = await session.get(Reservation, command.order_id, with_for_update=True)
        if existing is not None:
            if existing.status == ReservationStatus.RELEASED:
                raise released()
            if existing.status != ReservationStatus.EXPIRED:
                return existing.reply()
        warehouse_id = command.warehouse_id or await _warehouse_with(session, command.lines)
        await _promise(session, warehouse_id, command.lines)
        await _require_within_limit(session, command.customer_id, command.order_id, command.lines, limit)
        reservation = existing or Reservation(order_id=command.order_id, status=ReservationStatus.RESERVED)
        reservation.customer_id = command.customer_id
        reservation.warehouse_id = warehouse_id
        reservation.status = ReservationStatus.RESERVED
        reservation.lines = [line.model_dump() for line in command.lines]
        reservation.expires_at = utc_now() + RESERVATION_LASTS
        session.add(reservation)
        await outbox.add(session, reservation.reserved())
        return reservation.reply()


async def hold_reservation(database: Database, command: HoldReservation, *, limit: int = UNPAID_UNITS) -> contract.Reservation:
    """Keep the promise; make it again if it had expired.

    Refusals: out_of_stock, purchase_limit, reservation_released, not_found.
    """
    async with database.transaction() as session:
        reservation = await session.get(Reservation, command.order_id, with_for_update=True)
        if reservation is None or reservation.warehouse_id is None:
            raise Refusal(ErrorCode.NOT_FOUND, "No stock was reserved for this order.")
        if reservation.status == ReservationStatus.EXPIRED:
            await _promise(session, reservation.warehouse_id, reservation.stock_lines)
            if command.until is not None:  # it is not paid yet
                lines = reservation.stock_lines
                await _require_within_limit(session, reservation.customer_id, command.order_id, lines, limit)
            await outbox.add(session, reservation.reserved())
        elif reservation.status == ReservationStatus.SHIPPED:
            return reservation.reply()
        elif not reservation.is_open:
            raise released()
        reservation.hold(command.until)
        return reservation.reply()


async def release_inventory(database: Database, command: ReleaseInventory) -> contract.Reservation:
    """Undo of reserve, also of one that has not arrived yet. Refusal: reservation_shipped."""
    async with database.transaction() as session:
        await lock(session, command.order_id)
        reservation = await session.get(Reservation, command.order_id)
        if reservation is None:
            reservation = Reservation(order_id=command.order_id, status=ReservationStatus.RELEASED)
            session.add(reservation)
            return reservation.reply()
        await _end(session, reservation, ReservationStatus.RELEASED, command.reason)
        return reservation.reply()


async def ship_inventory(database: Database, command: ShipInventory) -> contract.Reservation:
    """Take what was promised off the shelf. Refusals: reservation_released, not_found."""
    async with database.transaction() as session:
        reservation = await session.get(Reservation, command.order_id, with_for_update=True)
        if reservation is None or reservation.warehouse_id is None:
            raise Refusal(ErrorCode.NOT_FOUND, "No stock was reserved for this order.")
        if reservation.status == ReservationStatus.SHIPPED:
            return reservation.reply()
        reservation.ship()
        stock = await _locked_stock(session, reservation.warehouse_id, reservation.stock_lines)
        events = [stock[line.product_id].ship(line.quantity) for line in reservation.stock_lines]
        reference = f"order {command.order_id}"
        session.add_all(
            Movement(warehouse_id=event.warehouse_id, product_id=event.product_id, change=event.change, reference=reference)
            for event in events
        )
        await outbox.add(session, *events)
        return reservation.reply()


async def expire_reservations(database: Database, *, limit: int = 100) -> int:
    """Give back what was promised to orders that did not go on in time; returns how many reservations ended."""
    async with database.transaction() as session:
        overdue = (
            select(Reservation)
            .where(col(Reservation.expires_at) < func.now())
            .order_by(col(Reservation.expires_at))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        reservations = (await session.exec(overdue)).all()
        for reservation in reservations:
            await _end(session, reservation, ReservationStatus.EXPIRED, "not paid in time")
        return len(reservations)


async def add_warehouse(database: Database, view: WarehouseView) -> WarehouseView:
    """Add a warehouse, or rename it."""
    async with database.transaction() as session:
        await session.merge(Warehouse(**view.model_dump()))
        return view


async def receive_stock(database: Database, receipt: ReceiptRequest, key: IdempotencyKey) -> list[StockView]:
    """Put goods on the shelf; returns the levels after. Refusals: warehouse_unknown, conflict, idempotency_key_reused."""
    async with database.transaction() as session:
        earlier = await idempotency.earlier_reply(session, key)
        if earlier is not None:
            return [StockView.model_validate(view) for view in earlier]
        if await session.get(Warehouse, receipt.warehouse_id) is None:
            raise unknown_warehouse(receipt.warehouse_id)
        rows = [{"warehouse_id": receipt.warehouse_id, "product_id": line.product_id} for line in receipt.lines]
        blank = {"on_hand": 0, "reserved": 0, "low_stock_threshold": 0}
        await session.exec(insert(Stock).values([row | blank for row in rows]).on_conflict_do_nothing())
        stock = await _locked_stock(session, receipt.warehouse_id, receipt.lines)
        events = [stock[line.product_id].receive(line.quantity) for line in receipt.lines]
        if receipt.low_stock_threshold is not None:
            for item in stock.values():
                item.low_stock_threshold = receipt.low_stock_threshold
        session.add_all(
            Movement(
                warehouse_id=event.warehouse_id, product_id=event.product_id, change=event.change, reference=receipt.reference
            )
            for event in events
        )
        await outbox.add(session, *events)
        views = [StockView.of(stock[line.product_id]) for line in receipt.lines]
        await idempotency.remember(session, key, [view.model_dump() for view in views])
        return views


async def _promise(session: AsyncSession, warehouse_id: str, lines: Sequence[StockLine]) -> None:
    stock = await _locked_stock(session, warehouse_id, lines)
    short = missing_lines(lines, stock)
    if short:
        if not stock and await session.get(Warehouse, warehouse_id) is None:
            raise unknown_warehouse(warehouse_id)
        raise out_of_stock(short)
    alerts = [stock[line.product_id].reserve(line.quantity) for line in lines]
    await outbox.add(session, *[alert for alert in alerts if alert])


async def _require_within_limit(
    session: AsyncSession, customer_id: UUID | None, order_id: UUID, lines: Sequence[StockLine], limit: int
) -> None:
    """Refusal: purchase_limit. Of a customer's orders at once, each waits here for the commit of the one before."""
    await lock(session, f"customer {customer_id}")
    which = {"customer": customer_id, "order": order_id, "products": [line.product_id for line in lines]}
    unpaid = (await session.execute(_UNPAID, which)).all()
    require_within_limit(lines, {row.product_id: row.units for row in unpaid}, limit)


async def _end(session: AsyncSession, reservation: Reservation, status: ReservationStatus, reason: str) -> None:
    event = reservation.end(status, reason)
    if event is None:
        return
    stock = await _locked_stock(session, event.warehouse_id, event.lines)
    for line in event.lines:
        stock[line.product_id].release(line.quantity)
    await outbox.add(session, event)


async def _locked_stock(session: AsyncSession, warehouse_id: str, lines: Sequence[StockLine]) -> dict[str, Stock]:
    """The stock of these lines, locked in one fixed order, so that two orders can never wait for each other."""
    products = [line.product_id for line in lines]
    query = (
        select(Stock)
        .where(Stock.warehouse_id == warehouse_id, col(Stock.product_id).in_(products))
        .order_by(Stock.product_id)
        .with_for_update()
    )
    return {stock.product_id: stock for stock in (await session.exec(query)).all()}


async def _warehouse_with(session: AsyncSession, lines: Sequence[StockLine]) -> str:
    """A warehouse that had every line when we looked. Refusal: out_of_stock, measured at the warehouse that has most lines."""
    wanted = {line.product_id: line.quantity for line in lines}
    query = select(Stock).where(col(Stock.product_id).in_(wanted)).order_by(Stock.warehouse_id)
    by_warehouse: dict[str, dict[str, Stock]] = {}
    for stock in (await session.exec(query)).all():
        by_warehouse.setdefault(stock.warehouse_id, {})[stock.product_id] = stock
        session.expunge(stock)  # read without a lock; `_promise` reads it again with one
    shortest = min(
        ((missing_lines(lines, stock), warehouse_id) for warehouse_id, stock in by_warehouse.items()),
        key=lambda option: (len(option[0]), option[1]),
        default=(missing_lines(lines, {}), ""),
    )
    if shortest[0]:
        raise out_of_stock(shortest[0])
    return shortest[1]


def unknown_warehouse(warehouse_id: str) -> Refusal:
    return Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {warehouse_id}.")
