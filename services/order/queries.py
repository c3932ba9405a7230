"""Reads of orders."""

from typing import Any
from uuid import UUID

from sqlalchemy import tuple_
from sqlmodel import col, select

from chassis.database import Database
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import OrderStatus
from contracts.paging import Page
from services.order.model import Order
from services.order.schemas import OrderSummary


async def find_order(database: Database, order_id: UUID) -> Order | None:
    """The order's record, if it was opened."""
    async with database.reading() as session:
        return await session.get(Order, order_id)


async def get_order(database: Database, order_id: UUID, caller: Principal) -> Order:
    """The order's record, for its customer or staff. Refusal: not_found."""
    order = await find_order(database, order_id)
    if order is None or not caller.may_see(order.customer_id):
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such order.")
    return order


async def list_orders(
    database: Database,
    *,
    caller: Principal,
    customer_id: UUID | None,
    status: OrderStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[OrderSummary]:
    """Orders, newest first: a customer's own, or whichever staff ask for. Refusals: forbidden, invalid_cursor."""
    if not caller.is_staff:
        if customer_id not in (None, caller.subject):
            raise Refusal(ErrorCode.FORBIDDEN, "Only staff may list other customers' orders.")
        customer_id = caller.subject
    place = tuple_(col(Order.placed_at), col(Order.order_id))
    query = select(*_SUMMARY).order_by(col(Order.placed_at).desc(), col(Order.order_id).desc()).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TIME, KeyPart.ID)
    if after:
        query = query.where(place < after)
    if customer_id:
        query = query.where(Order.customer_id == customer_id)
    if status:
        query = query.where(Order.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, _summary, lambda row: (row.placed_at.isoformat(), row.order_id))


_SUMMARY: Any = (
    Order.order_id,
    Order.customer_id,
    Order.status,
    Order.currency,
    Order.total_minor,
    Order.refunded_minor,
    Order.code,
    Order.tracking_number,
    Order.placed_at,
    Order.updated_at,
)
"""A list does not load each order's lines, address and history."""


def _summary(row: Any) -> OrderSummary:
    return OrderSummary(
        order_id=row.order_id,
        customer_id=row.customer_id,
        status=row.status,
        total=Money.from_minor(row.total_minor, row.currency),
        refunded=Money.from_minor(row.refunded_minor, row.currency),
        code=ErrorCode(row.code) if row.code else None,
        tracking_number=row.tracking_number,
        placed_at=row.placed_at,
        updated_at=row.updated_at,
    )
