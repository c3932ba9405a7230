"""What analytics does with events: one statement each, with the same result in whatever order they come.

A statement first writes the fact into the order's row, and only if it was not known yet; what that returns drives the sums. So
whoever tells a fact a second time changes nothing. An order's products are counted when it is confirmed, unless it has been
cancelled or refunded, and taken back when it is, if they had been counted. Each function runs in its caller's transaction.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import lock
from contracts.events import OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated, OrderRefunded

_PLACED = text(
    """
    with fact as (
        insert into orders as known (order_id, customer_id, currency, total, placed_at)
        values (:order_id, :customer_id, :currency, :total, :at)
        on conflict (order_id) do update set placed_at = excluded.placed_at where known.placed_at is null
        returning known.*
    ), customer as (
        insert into customers as known (customer_id, currency, orders, first_order_at, last_order_at)
        select customer_id, currency, 1, placed_at, placed_at from fact
        on conflict (customer_id, currency) do update
        set orders = known.orders + 1,
            first_order_at = least(known.first_order_at, excluded.first_order_at),
            last_order_at = greatest(known.last_order_at, excluded.last_order_at)
    )
    insert into sales_by_day as known (currency, day, placed)
    select currency, cast(placed_at at time zone 'utc' as date), 1 from fact
    on conflict (currency, day) do update set placed = known.placed + 1
    """
)
_CONFIRMED = text(
    """
    with fact as (
        insert into orders as known (order_id, customer_id, currency, total, confirmed_at, lines)
        values (:order_id, :customer_id, :currency, :total, :at, cast(:lines as jsonb))
        on conflict (order_id) do update set confirmed_at = excluded.confirmed_at, lines = excluded.lines
        where known.confirmed_at is null
        returning known.*
    ), product as (
        insert into products_by_day as known (currency, day, product_id, name, quantity, revenue)
        select currency, cast(confirmed_at at time zone 'utc' as date),
               line.product_id, max(line.name), sum(line.quantity), sum(line.revenue)
        from fact, jsonb_to_recordset(lines) as line (product_id text, name text, quantity int, revenue numeric)
        where cancelled_at is null and refunded_at is null
        group by currency, confirmed_at, line.product_id
        on conflict (currency, day, product_id) do update
        set quantity = known.quantity + excluded.quantity,
            revenue = known.revenue + excluded.revenue,
            name = greatest(known.name, excluded.name)
    ), customer as (
        insert into customers as known (customer_id, currency, revenue)
        select customer_id, currency, total from fact
        on conflict (customer_id, currency) do update set revenue = known.revenue + excluded.revenue
    )
    insert into sales_by_day as known (currency, day, confirmed, gross)
    select currency, cast(confirmed_at at time zone 'utc' as date), 1, total from fact
    on conflict (currency, day) do update set confirmed = known.confirmed + 1, gross = known.gross + excluded.gross
    """
)


def _coming_to_nothing(fact: str, sums: str) -> TextClause:
    """An order that comes to nothing: also what was counted of its products is taken back, and what its customer paid."""
    return text("\n".join((fact, _TAKE_BACK, sums)))


_TAKE_BACK = """
    , product as (
        update products_by_day as known
        set quantity = known.quantity - sold.quantity, revenue = known.revenue - sold.revenue
        from (
            select currency, cast(confirmed_at at time zone 'utc' as date) as day,
                   line.product_id, sum(line.quantity) as quantity, sum(line.revenue) as revenue
            from fact, jsonb_to_recordset(lines) as line (product_id text, quantity int, revenue numeric)
            where confirmed_at is not null
            group by currency, confirmed_at, line.product_id
        ) as sold
        where (known.currency, known.day, known.product_id) = (sold.currency, sold.day, sold.product_id)
    ), customer as (
        insert into customers as known (customer_id, currency, refunds)
        select customer_id, currency, lost from fact where lost > 0
        on conflict (customer_id, currency) do update set refunds = known.refunds + excluded.refunds
    )
    """
_CANCELLED = _coming_to_nothing(
    """
    with fact as (
        insert into orders as known (order_id, customer_id, currency, total, cancelled_at, cancel_code, refunded)
        values (:order_id, :customer_id, :currency, :total, :at, :code, :refunded)
        on conflict (order_id) do update
        set cancelled_at = excluded.cancelled_at, cancel_code = excluded.cancel_code, refunded = excluded.refunded
        where known.cancelled_at is null
        returning known.*, case when :was_confirmed then known.refunded else 0 end as lost
    )
    """,
    """
    insert into sales_by_day as known (currency, day, cancelled, refunds)
    select currency, cast(cancelled_at at time zone 'utc' as date), 1, lost from fact
    on conflict (currency, day) do update set cancelled = known.cancelled + 1, refunds = known.refunds + excluded.refunds
    """,
)
_REFUNDED = _coming_to_nothing(
    """
    with fact as (
        insert into orders as known (order_id, customer_id, currency, total, refunded_at, refunded)
        values (:order_id, :customer_id, :currency, :total, :at, :refunded)
        on conflict (order_id) do update set refunded_at = excluded.refunded_at, refunded = excluded.refunded
        where known.refunded_at is null
        returning known.*, known.refunded as lost
    )
    """,
    """
    insert into sales_by_day as known (currency, day, undelivered, refunds)
    select currency, cast(refunded_at at time zone 'utc' as date), 1, lost from fact
    on conflict (currency, day) do update set undelivered = known.undelivered + 1, refunds = known.refunds + excluded.refunds
    """,
)
_COMPLETED = text(
    """
    with fact as (
        insert into orders as known (order_id, customer_id, currency, total, completed_at)
        values (:order_id, :customer_id, :currency, :total, :at)
        on conflict (order_id) do update set completed_at = excluded.completed_at where known.completed_at is null
        returning known.*
    )
    insert into sales_by_day as known (currency, day, completed)
    select currency, cast(completed_at at time zone 'utc' as date), 1 from fact
    on conflict (currency, day) do update set completed = known.completed + 1
    """
)


async def note_placed(session: AsyncSession, event: OrderCreated, at: datetime) -> None:
    """An order was placed."""
    await _in_turn(session)
    await session.execute(_PLACED, _order(event, at))


async def note_confirmed(session: AsyncSession, event: OrderConfirmed, at: datetime) -> None:
    """An order was confirmed: its products are sold."""
    await _in_turn(session)
    lines = [
        {
            "product_id": line.product_id,
            "name": line.name,
            "quantity": line.quantity,
            "revenue": str(line.total.amount),
        }
        for line in event.lines
    ]
    await session.execute(_CONFIRMED, _order(event, at) | {"lines": json.dumps(lines)})


async def note_cancelled(session: AsyncSession, event: OrderCancelled, at: datetime) -> None:
    """An order was refused or cancelled."""
    await _in_turn(session)
    values = {"code": event.code, "refunded": event.refunded.amount, "was_confirmed": event.was_confirmed}
    await session.execute(_CANCELLED, _order(event, at) | values)


async def note_refunded(session: AsyncSession, event: OrderRefunded, at: datetime) -> None:
    """An order's parcel did not arrive, and the money went back."""
    await _in_turn(session)
    await session.execute(_REFUNDED, _order(event, at) | {"refunded": event.refunded.amount})


async def note_completed(session: AsyncSession, event: OrderCompleted, at: datetime) -> None:
    """An order was delivered."""
    await _in_turn(session)
    await session.execute(_COMPLETED, _order(event, at))


def _order(
    event: OrderCreated | OrderConfirmed | OrderCancelled | OrderRefunded | OrderCompleted, at: datetime
) -> dict[str, Any]:
    return {
        "order_id": event.order_id,
        "customer_id": event.customer_id,
        "currency": event.total.currency,
        "total": event.total.amount,
        "at": at,
    }


async def _in_turn(session: AsyncSession) -> None:
    """Two processes that add to the sums of one day could wait for each other for ever; so batches take turns."""
    if "in_turn" not in session.info:
        await lock(session, "analytics")
        session.info["in_turn"] = True
