"""Reads of orders: from their record, and from their sagas what only those know."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import func, tuple_
from sqlalchemy.orm import defer
from sqlmodel import col, select

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.statements import sql
from contracts.errors import ErrorCode, Refusal
from contracts.keys import WrappedKey
from contracts.orders import FINAL_STATUSES, OrderState, OrderStatus
from contracts.paging import Page
from services.order.explaining import Explanation, StaffExplanation, explained, explained_to_customer
from services.order.model import (
    CustomerKey,
    Discount,
    DiscountUses,
    Order,
    Redemption,
    Return,
    existing,
    no_such_discount,
    within_reach,
)
from services.order.returns_explaining import ReturnSeen, with_returns, with_returns_for_staff
from services.order.schemas import (
    CurrentOrderView,
    ErasureProgress,
    OrderSummary,
    OrderTimeline,
    RedemptionView,
    StaffOrderTimeline,
    StaffOrderView,
    StaffTimelineItem,
    TimelineItem,
    UsedDiscountView,
)
from temporal.explaining import SagaSeen
from temporal.orders import OrderSagas
from temporal.returns import ReturnSagas

ASK_SECONDS = 1.0
"""How long a saga may take to answer a question before the record answers it."""
_NOT_LISTED: tuple[Any, ...] = (
    *(Order.lines, Order.ship_to, Order.history, Order.charges, Order.placement, Order.outcome, Order.parcels),
)
"""A list does not load each order's lines, charges, parcels, address and history, nor what it was placed with."""
_WITH_USES = select(Discount, DiscountUses.times_used).join(DiscountUses, col(DiscountUses.code) == col(Discount.code))
Answer = TypeVar("Answer")
_OPEN = ", ".join(f"'{status}'" for status in OrderStatus if status not in FINAL_STATUSES)
_IN_FLIGHT = sql(f"""
    select status, count(*) as orders,
           min(updated_at) filter (where parcels is null or not parcels @> '[{{"status": "AWAITED"}}]') as since
    from orders where status in ({_OPEN}) group by status
""")  # noqa: S608 - of constants
_REFUNDS_OWED = sql("""
    select currency, count(*) as orders, cast(sum(total_minor - refunded_minor) as bigint) as minor, min(updated_at) as since
    from orders where status = 'CANCELLING' and history @> '[{"status": "PAID"}]' group by currency
""")


async def get_order(database: Database, sagas: OrderSagas, order_id: UUID, caller: Grant) -> StaffOrderView | CurrentOrderView:
    """The order as the caller may see it. Refusal: not_found."""
    order = await _order(database, order_id, caller)
    asks_saga = _is_staff_of(order, caller) and not order.is_over
    return as_seen_by(caller, order, await in_time(sagas.state(order_id)) if asks_saga else None)


def as_seen_by(caller: Grant, order: Order, state: OrderState | None = None) -> StaffOrderView | CurrentOrderView:
    """The order as the caller may see it; to staff with what its saga tells, if that was asked."""
    return StaffOrderView.of_saga(order, state) if _is_staff_of(order, caller) else CurrentOrderView.of(order)


async def erasure_of(database: Database, customer_id: UUID) -> ErasureProgress:
    """How far a customer's orders are who is to be forgotten. Refusal: not_found, for one who is not."""
    left = select(func.count()).where(Order.customer_id == customer_id, col(Order.forgotten_at).is_(None))
    async with database.reading() as session:
        key = await session.get(CustomerKey, customer_id)
        if key is None or key.forget_requested_at is None:
            raise Refusal(ErrorCode.NOT_FOUND, "Nobody has asked to forget such a customer.")
        orders_left = (await session.exec(left)).one()
    return ErasureProgress(
        customer_id=customer_id,
        requested_at=key.forget_requested_at,
        orders_left=orders_left,
        forgotten_at=key.forgotten_at,
    )


async def get_discount(database: Database, code: str) -> UsedDiscountView:
    """A discount code. Refusal: not_found."""
    async with database.reading() as session:
        found = (await session.exec(_WITH_USES.where(Discount.code == code))).first()
    if found is None:
        raise no_such_discount()
    return UsedDiscountView.of(found[0], times_used=found[1])


@may_lag
async def list_discounts(database: Reader, cursor: str | None, limit: int) -> Page[UsedDiscountView]:
    """Discount codes, by code. Refusal: invalid_cursor."""
    query = _WITH_USES.order_by(Discount.code).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Discount.code) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: UsedDiscountView.of(row[0], times_used=row[1]), lambda row: (row[0].code,))


@may_lag
async def list_redemptions(database: Reader, code: str, cursor: str | None, limit: int) -> Page[RedemptionView]:
    """The orders that use a code, the newest first. Refusals: not_found, invalid_cursor."""
    place = tuple_(col(Redemption.redeemed_at), col(Redemption.order_id))
    query = select(Redemption).where(Redemption.code == code).limit(limit + 1)
    query = query.order_by(col(Redemption.redeemed_at).desc(), col(Redemption.order_id).desc())
    before = decode_cursor(cursor, KeyPart.TIME, KeyPart.ID)
    if before:
        query = query.where(place < before)
    async with database.reading() as session:
        if await session.get(Discount, code) is None:
            raise no_such_discount()
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, RedemptionView.of, lambda row: (row.redeemed_at, row.order_id))


async def version_of(database: Database, order_id: UUID) -> int:
    """The version of an order that exists."""
    async with database.reading() as session:
        return (await session.exec(select(Order.version).where(Order.order_id == order_id))).one()


async def get_timeline(
    database: Database, sagas: OrderSagas, order_id: UUID, caller: Grant
) -> OrderTimeline | StaffOrderTimeline:
    """What happened to an order, as the caller may know it. Refusal: not_found."""
    order = await _order(database, order_id, caller)
    of_saga = await in_time(sagas.timeline(order_id))
    source: Literal["workflow", "history"] = "history" if of_saga is None else "workflow"
    entries = order.timeline() if of_saga is None else of_saga
    if _is_staff_of(order, caller):
        return StaffOrderTimeline(order_id=order_id, source=source, entries=tuple(map(StaffTimelineItem.of, entries)))
    return OrderTimeline(order_id=order_id, source=source, entries=tuple(map(TimelineItem.of, entries)))


async def explain(
    database: Database, sagas: OrderSagas, sagas_of_returns: ReturnSagas, order_id: UUID, caller: Grant
) -> Explanation | StaffExplanation:
    """Where an order is and why, with its open returns, as the caller may know it. Refusal: not_found."""
    order = await _order(database, order_id, caller)
    if _is_staff_of(order, caller):
        return await _explain_to_staff(database, sagas, sagas_of_returns, order)
    order, seen, _ = await _seen(database, sagas, order)
    return with_returns(explained_to_customer(order, seen), await _open_returns(database, order_id))


async def explain_to_operator(
    database: Database, sagas: OrderSagas, sagas_of_returns: ReturnSagas, order_id: UUID
) -> StaffExplanation:
    """The same for whoever has the platform's own databases at hand. Refusal: not_found."""
    async with database.reading() as session:
        order = existing(await session.get(Order, order_id))
    return await _explain_to_staff(database, sagas, sagas_of_returns, order)


@may_lag
async def list_orders(
    database: Reader,
    caller: Grant,
    *,
    customer_id: UUID | None,
    status: OrderStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[OrderSummary]:
    """Orders within the caller's reach, newest first. Refusal: invalid_cursor."""
    place = tuple_(col(Order.placed_at), col(Order.order_id))
    query = select(Order).order_by(col(Order.placed_at).desc(), col(Order.order_id).desc()).limit(limit + 1)
    query = query.options(*[defer(column, raiseload=True) for column in _NOT_LISTED])
    query = query.where(caller.rows(owner=col(Order.customer_id)))
    after = decode_cursor(cursor, KeyPart.TIME, KeyPart.ID)
    if after:
        query = query.where(place < after)
    if customer_id:
        query = query.where(Order.customer_id == customer_id)
    if status:
        query = query.where(Order.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, OrderSummary.of, lambda row: (row.placed_at.isoformat(), row.order_id))


async def keys_by_master(database: Database) -> list[tuple[str | None, int]]:
    """How many keys of customers each master key wraps; None: how many are destroyed."""
    count = func.count()
    query = select(col(CustomerKey.master_key_id), count).group_by(col(CustomerKey.master_key_id)).order_by(count.desc())
    async with database.reading() as session:
        return [(key_id, number) for key_id, number in (await session.exec(query)).all()]


async def keys_not_wrapped_by(database: Database, master_key_id: str, after: UUID | None, limit: int) -> list[WrappedKey]:
    """Keys of customers that another master key wraps, by customer and behind `after`."""
    query = select(CustomerKey).where(col(CustomerKey.master_key_id) != master_key_id)
    if after:
        query = query.where(col(CustomerKey.customer_id) > after)
    async with database.reading() as session:
        found = await session.exec(query.order_by(col(CustomerKey.customer_id)).limit(limit))
        return [key.as_wrapped() for key in found.all()]


async def orders_in_flight(database: Database) -> Sequence[asyncpg.Record]:
    """For each status that is not the last: how many orders have it, and when of any of them the last was heard; of those that
    wait for goods, which may take long, it is not told."""
    return await database.rows(_IN_FLIGHT)


async def refunds_owed(database: Database) -> Sequence[asyncpg.Record]:
    """For each currency: cancelled orders whose money was taken and has not gone back, the sum, and since when the oldest waits.

    An order becomes CANCELLED only when its refund has succeeded, or was settled by hand."""
    return await database.rows(_REFUNDS_OWED)


async def _order(database: Database, order_id: UUID, caller: Grant) -> Order:
    async with database.reading() as session:
        return within_reach(await session.get(Order, order_id), caller)


async def _explain_to_staff(
    database: Database, sagas: OrderSagas, sagas_of_returns: ReturnSagas, order: Order
) -> StaffExplanation:
    async def look_at(found: Return) -> ReturnSeen:
        try:
            return ReturnSeen(found, await sagas_of_returns.seen(found.order_id, found.number))
        except Unavailable as error:
            return ReturnSeen(found, fault=str(error))

    told = explained(*await _seen(database, sagas, order))
    returns = await asyncio.gather(*map(look_at, await _open_returns(database, order.order_id)))
    return with_returns_for_staff(told, returns)


async def _open_returns(database: Database, order_id: UUID) -> Sequence[Return]:
    query = select(Return).where(Return.order_id == order_id).order_by(col(Return.number))
    async with database.reading() as session:
        return [found for found in (await session.exec(query)).all() if not found.is_over]


async def _seen(database: Database, sagas: OrderSagas, order: Order) -> tuple[Order, SagaSeen | None, str | None]:
    """The order's record, and what Temporal knows of its saga; or why it does not answer."""
    if order.is_over:
        return order, None, None
    try:
        seen, fault = await sagas.seen(order.order_id), None
    except Unavailable as error:
        seen, fault = None, str(error)
    async with database.reading() as session:
        # The saga may have gone on while it was asked, and told the record.
        return existing(await session.get(Order, order.order_id)), seen, fault


def _is_staff_of(order: Order, caller: Grant) -> bool:
    """Whether the caller sees the order as staff: nobody does an order of their own."""
    return caller.is_staff and caller.subject != order.customer_id


async def in_time(answer: Awaitable[Answer | None]) -> Answer | None:
    """What a saga answers, or None if it cannot be asked now."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await answer
    except (Unavailable, TimeoutError):
        return None
