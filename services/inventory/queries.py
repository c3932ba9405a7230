"""Reads of inventory."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, text, tuple_
from sqlmodel import col, select

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts import inventory as contract
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import MovementKind
from contracts.paging import Page
from services.inventory.model import (
    ExpectedReceipt,
    ExpectedStatus,
    Movement,
    Reservation,
    Stock,
    Warehouse,
    no_such_warehouse,
    unknown_receipt,
    unknown_reservation,
)
from services.inventory.model.waiting import Announced, Awaiting, expected_days
from services.inventory.schemas import (
    BackorderView,
    ExpectedReceiptView,
    MovementView,
    OutlookView,
    StockView,
    WarehouseView,
)


@may_lag
async def list_warehouses(database: Reader, caller: Grant, cursor: str | None, limit: int) -> Page[WarehouseView]:
    """Warehouses within the caller's reach, by id."""
    within_reach = caller.rows(warehouse=col(Warehouse.warehouse_id))
    query = select(Warehouse).where(within_reach).order_by(Warehouse.warehouse_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Warehouse.warehouse_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, WarehouseView.of, lambda row: (row.warehouse_id,))


@may_lag
async def list_stock(
    database: Reader,
    caller: Grant,
    *,
    warehouse_id: str | None,
    product_id: str | None,
    low: bool,
    cursor: str | None,
    limit: int,
) -> Page[StockView]:
    """Stock within the caller's reach, by warehouse and product; `low`: only what is at or under its alert threshold."""
    place = tuple_(col(Stock.warehouse_id), col(Stock.product_id))
    query = select(Stock).where(caller.rows(warehouse=col(Stock.warehouse_id))).order_by(place).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT, KeyPart.TEXT)
    if after:
        query = query.where(place > after)
    if warehouse_id:
        query = query.where(Stock.warehouse_id == warehouse_id)
    if product_id:
        query = query.where(Stock.product_id == product_id)
    if low:
        query = query.where(col(Stock.on_hand) - col(Stock.reserved) <= col(Stock.low_stock_threshold))
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, StockView.of, lambda row: (row.warehouse_id, row.product_id))


async def get_warehouse(database: Database, caller: Grant, warehouse_id: str) -> WarehouseView:
    """Refusal: not_found."""
    async with database.reading() as session:
        warehouse = await session.get(Warehouse, warehouse_id) if caller.reaches(warehouse=warehouse_id) else None
    if warehouse is None:
        raise no_such_warehouse()
    return WarehouseView.of(warehouse)


async def get_stock(database: Database, caller: Grant, warehouse_id: str, product_id: str) -> StockView:
    """Refusal: not_found."""
    async with database.reading() as session:
        stock = await session.get(Stock, (warehouse_id, product_id)) if caller.reaches(warehouse=warehouse_id) else None
    if stock is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There has never been any of this product at this warehouse.")
    return StockView.of(stock)


async def list_movements(
    database: Database,
    caller: Grant,
    *,
    warehouse_id: str | None,
    product_id: str | None,
    kind: MovementKind | None,
    cursor: str | None,
    limit: int,
) -> Page[MovementView]:
    """The ledger within the caller's reach, newest first."""
    number = col(Movement.movement_id)
    query = select(Movement).where(caller.rows(warehouse=col(Movement.warehouse_id))).order_by(number.desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.NUMBER)
    if before:
        query = query.where(number < before[0])
    if warehouse_id:
        query = query.where(Movement.warehouse_id == warehouse_id)
    if product_id:
        query = query.where(Movement.product_id == product_id)
    if kind:
        query = query.where(Movement.kind == kind)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, MovementView.of, lambda row: (row.movement_id,))


async def list_expected_receipts(
    database: Database,
    caller: Grant,
    *,
    warehouse_id: str | None,
    product_id: str | None,
    status: ExpectedStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[ExpectedReceiptView]:
    """Goods announced to warehouses within the caller's reach, by the day that they are expected."""
    key = tuple_(col(ExpectedReceipt.expected_on), col(ExpectedReceipt.receipt_id))
    within_reach = caller.rows(warehouse=col(ExpectedReceipt.warehouse_id))
    query = select(ExpectedReceipt).where(within_reach).order_by(key).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.DAY, KeyPart.ID)
    if after:
        query = query.where(key > after)
    if warehouse_id:
        query = query.where(ExpectedReceipt.warehouse_id == warehouse_id)
    if product_id:
        query = query.where(ExpectedReceipt.product_id == product_id)
    if status:
        query = query.where(ExpectedReceipt.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, ExpectedReceiptView.of, lambda row: (row.expected_on, row.receipt_id))


async def get_expected_receipt(database: Database, caller: Grant, receipt_id: UUID) -> ExpectedReceiptView:
    """Refusal: not_found."""
    async with database.reading() as session:
        receipt = await session.get(ExpectedReceipt, receipt_id)
    if receipt is None or not caller.reaches(warehouse=receipt.warehouse_id):
        raise unknown_receipt()
    return ExpectedReceiptView.of(receipt)


async def list_backorders(
    database: Database, caller: Grant, *, product_id: str | None, cursor: str | None, limit: int
) -> Page[BackorderView]:
    """Parcels that wait for goods, and may come from a warehouse within the caller's reach; those that wait longest first."""
    key = tuple_(col(Reservation.created_at), col(Reservation.order_id), col(Reservation.parcel))
    may_come = or_(col(Reservation.warehouse_id).is_(None), caller.rows(warehouse=col(Reservation.warehouse_id)))
    query = select(Reservation).where(text("status = 'AWAITED'"), may_come).order_by(key).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TIME, KeyPart.ID, KeyPart.NUMBER)
    if after:
        query = query.where(key > after)
    if product_id:
        query = query.where(col(Reservation.lines).contains([{"product_id": product_id}]))
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, BackorderView.of, lambda row: (row.created_at, row.order_id, row.parcel))


async def get_outlook(database: Database, product_id: str) -> OutlookView:
    """When there will be some of a product that is not promised to anybody. One who asks for a single unit is told what one who
    began to wait now would be."""
    today = utc_now().date()
    waits = (
        select(Reservation)
        .where(text("status = 'AWAITED'"))
        .order_by(col(Reservation.created_at), col(Reservation.order_id), col(Reservation.parcel))
    )
    of_product = col(Reservation.lines).contains([{"product_id": product_id}])
    async with database.reading() as session:
        waiting = (await session.exec(waits.where(of_product))).all()
        products = sorted({line.product_id for parcel in waiting for line in parcel.stock_lines} | {product_id})
        stock = (await session.exec(select(Stock).where(col(Stock.product_id).in_(products)))).all()
        open_ = select(ExpectedReceipt).where(
            col(ExpectedReceipt.product_id).in_(products), ExpectedReceipt.status == ExpectedStatus.EXPECTED
        )
        receipts = (await session.exec(open_.order_by(col(ExpectedReceipt.receipt_id)))).all()
    free: dict[str, dict[str, int]] = {}
    for item in stock:
        free.setdefault(item.warehouse_id, {})[item.product_id] = item.available
    announced = [Announced(one.warehouse_id, one.product_id, one.quantity, one.expected_on) for one in receipts]
    queue = [Awaiting((one.order_id, one.parcel), one.stock_lines, one.warehouse_id) for one in waiting]
    new = Awaiting((UUID(int=0), 0), [contract.StockLine(product_id=product_id, quantity=1)])
    lines = [line for parcel in waiting for line in parcel.stock_lines if line.product_id == product_id]
    return OutlookView(
        product_id=product_id,
        available=sum(shelf.get(product_id, 0) for shelf in free.values()),
        waiting=len(waiting),
        awaited=sum(line.quantity for line in lines),
        expected=sum(one.quantity for one in announced if one.product_id == product_id and one.expected_on >= today),
        next_on=expected_days([*queue, new], free, announced, today)[new.key],
    )


async def who_waits(database: Database) -> tuple[int, datetime | None]:
    """How many parcels wait for goods, and since when the first of them does."""
    query = select(func.count(), func.min(Reservation.created_at)).select_from(Reservation).where(text("status = 'AWAITED'"))
    async with database.reading() as session:
        waiting, since = (await session.exec(query)).one()
    return waiting, since


async def get_reservation(database: Database, order_id: UUID, parcel: int = 1) -> contract.Reservation:
    """What a parcel of an order has been promised. Refusal: not_found."""
    async with database.reading() as session:
        reservation = await session.get(Reservation, (order_id, parcel))
        if reservation is None:
            raise unknown_reservation()
        together = select(Reservation).where(Reservation.order_id == order_id, Reservation.plan == reservation.plan)
        planned = (await session.exec(together.order_by(col(Reservation.parcel)))).all() if reservation.plan else ()
    return reservation.reply([parcel.as_parcel() for parcel in planned])
