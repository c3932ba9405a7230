"""What analytics does with events: one statement for as many as have come, with the same result in whatever order they come.

The statement first writes what is told of each order into the order's row. What was not known of it before drives the sums; so
whoever tells a fact a second time changes nothing. An order's products are counted as long as it is confirmed, and neither
cancelled nor refunded.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.statements import sql
from chassis.store import UnitOfWork
from contracts.events import Event, OrderAmended, OrderCancelled, OrderCompleted, OrderConfirmed, OrderRefunded
from contracts.money import Money, minor_units
from contracts.orders import OrderLine
from services.analytics.model import OrderFact


class OrderCreated(Event):
    """What is read of the event of this name: not the lines, since those of confirmed orders count."""

    order_id: UUID
    customer_id: UUID
    total: Money


OrderEvent = OrderCreated | OrderConfirmed | OrderCancelled | OrderRefunded | OrderCompleted

# Rows are locked in the order of their keys in each table, and the tables always in the same sequence: two processes that add to
# the sums of one day wait for each other, and never in a circle.
_TAKE_IN = sql(
    """
    with told as (
        select * from jsonb_to_recordset(cast(:told as jsonb)) as told (
            order_id uuid, customer_id uuid, currency text, total_minor bigint, lines jsonb,
            placed_at timestamptz, confirmed_at timestamptz, completed_at timestamptz,
            cancelled_at timestamptz, cancel_code text, refunded_at timestamptz, refunded_minor bigint, lost_minor bigint
        )
    ), known as (
        insert into orders as known (
            order_id, customer_id, currency, total_minor, lines, placed_at, confirmed_at, completed_at,
            cancelled_at, cancel_code, refunded_at, refunded_minor
        )
        select order_id, customer_id, currency, total_minor, lines, placed_at, confirmed_at, completed_at,
               cancelled_at, cancel_code, refunded_at, coalesce(refunded_minor, 0)
        from told order by order_id
        on conflict (order_id) do update set
            placed_at = coalesce(known.placed_at, excluded.placed_at),
            confirmed_at = coalesce(known.confirmed_at, excluded.confirmed_at),
            lines = coalesce(known.lines, excluded.lines),
            completed_at = coalesce(known.completed_at, excluded.completed_at),
            cancelled_at = coalesce(known.cancelled_at, excluded.cancelled_at),
            cancel_code = case when known.cancelled_at is null then excluded.cancel_code else known.cancel_code end,
            refunded_at = coalesce(known.refunded_at, excluded.refunded_at),
            refunded_minor = case when coalesce(known.cancelled_at, known.refunded_at, known.completed_at) is null
                                  then excluded.refunded_minor else known.refunded_minor end
        returning new.*, old as before
    ), news as (
        select known.customer_id, known.currency, fact.*, cast(fact.at at time zone 'utc' as date) as day
        from known join told using (order_id), lateral (values
            ('placed', known.placed_at, (before).placed_at, 0, 0),
            ('confirmed', known.confirmed_at, (before).confirmed_at, known.total_minor, 0),
            ('completed', known.completed_at, (before).completed_at, 0, coalesce(told.lost_minor, 0)),
            ('cancelled', known.cancelled_at, (before).cancelled_at, 0, told.lost_minor),
            ('undelivered', known.refunded_at, (before).refunded_at, 0, told.lost_minor)
        ) as fact (what, at, known_at, gain, loss)
        where fact.at is not null and fact.known_at is null
    ), sold as (
        select currency, cast(confirmed_at at time zone 'utc' as date) as day, lines || amended_lines as lines,
               cast(confirmed_at is not null and cancelled_at is null and refunded_at is null as int)
               - cast((before).confirmed_at is not null and (before).cancelled_at is null and (before).refunded_at is null as int)
               as times
        from known
    ), product as (
        insert into products_by_day as known (currency, day, product_id, name, quantity, revenue_minor)
        select currency, day, line.product_id, max(line.name), sum(times * line.quantity), sum(times * line.revenue_minor)
        from sold, jsonb_to_recordset(lines) as line (product_id text, name text, quantity int, revenue_minor bigint)
        where times <> 0
        group by currency, day, line.product_id order by currency, day, line.product_id
        on conflict (currency, day, product_id) do update set
            quantity = known.quantity + excluded.quantity,
            revenue_minor = known.revenue_minor + excluded.revenue_minor,
            name = greatest(known.name, excluded.name)
    ), customer as (
        insert into customers as known (
            customer_id, currency, orders, revenue_minor, refunds_minor, first_order_at, last_order_at
        )
        select customer_id, currency, count(*) filter (where what = 'placed'), sum(gain), sum(loss),
               min(at) filter (where what = 'placed'), max(at) filter (where what = 'placed')
        from news where what = 'placed' or gain <> 0 or loss <> 0
        group by customer_id, currency order by customer_id, currency
        on conflict (customer_id, currency) do update set
            orders = known.orders + excluded.orders,
            revenue_minor = known.revenue_minor + excluded.revenue_minor,
            refunds_minor = known.refunds_minor + excluded.refunds_minor,
            first_order_at = least(known.first_order_at, excluded.first_order_at),
            last_order_at = greatest(known.last_order_at, excluded.last_order_at)
    )
    insert into sales_by_day as known (
        currency, day, placed, confirmed, completed, cancelled, undelivered, gross_minor, refunds_minor
    )
    select currency, day, count(*) filter (where what = 'placed'), count(*) filter (where what = 'confirmed'),
           count(*) filter (where what = 'completed'), count(*) filter (where what = 'cancelled'),
           count(*) filter (where what = 'undelivered'), sum(gain), sum(loss)
    from news group by currency, day order by currency, day
    on conflict (currency, day) do update set
        placed = known.placed + excluded.placed,
        confirmed = known.confirmed + excluded.confirmed,
        completed = known.completed + excluded.completed,
        cancelled = known.cancelled + excluded.cancelled,
        undelivered = known.undelivered + excluded.undelivered,
        gross_minor = known.gross_minor + excluded.gross_minor,
        refunds_minor = known.refunds_minor + excluded.refunds_minor
    """
)


_PRODUCTS = sql("""
    insert into products_by_day as known (currency, day, product_id, name, quantity, revenue_minor)
    select :currency, cast(:day as date), product_id, max(name), sum(quantity), sum(revenue_minor)
    from jsonb_to_recordset(cast(:lines as jsonb)) as line (product_id text, name text, quantity int, revenue_minor bigint)
    group by product_id order by product_id
    on conflict (currency, day, product_id) do update set
        quantity = known.quantity + excluded.quantity,
        revenue_minor = known.revenue_minor + excluded.revenue_minor
""")
_CUSTOMER = sql("""
    update customers set revenue_minor = revenue_minor + :gain where customer_id = :customer_id and currency = :currency
""")
_DAY = sql("""
    insert into sales_by_day as known (currency, day, gross_minor) values (:currency, cast(:day as date), :gain)
    on conflict (currency, day) do update set gross_minor = known.gross_minor + excluded.gross_minor
""")


async def amend(work: UnitOfWork, event: OrderAmended, at: datetime) -> None:
    """An order was changed: what it comes to differs from that day on; its products are those sold when it was confirmed. Of an
    order that is not known to be confirmed, that is counted when it is."""
    fact, _ = await work.get_or_add(
        OrderFact(
            order_id=event.order_id,
            customer_id=event.customer_id,
            currency=event.total.currency,
            total_minor=event.total_before.minor,
        ),
        "order_id",
    )
    if event.number in fact.amendments:
        return
    gain = event.total.minor - event.total_before.minor
    lines = [*map(_sold, event.lines), *({**sold, **_less(sold)} for sold in map(_sold, event.lines_before))]
    fact.amendments, fact.amended_lines = [*fact.amendments, event.number], [*fact.amended_lines, *lines]
    fact.total_minor += gain
    if fact.confirmed_at is None:
        return
    if fact.cancelled_at is None and fact.refunded_at is None:
        sold_on = fact.confirmed_at.astimezone(UTC).date()
        await work.rows(_PRODUCTS, currency=fact.currency, day=sold_on, lines=json.dumps(lines))
    await work.rows(_CUSTOMER, customer_id=fact.customer_id, currency=fact.currency, gain=gain)
    await work.rows(_DAY, currency=fact.currency, day=at.astimezone(UTC).date(), gain=gain)


def _sold(line: OrderLine) -> dict[str, Any]:
    return {
        "product_id": line.product_id,
        "name": line.name,
        "quantity": line.quantity,
        "revenue_minor": _revenue(line),
    }


def _less(sold: dict[str, Any]) -> dict[str, int]:
    return {"quantity": -sold["quantity"], "revenue_minor": -sold["revenue_minor"]}


async def take_in(work: UnitOfWork, told: Sequence[tuple[OrderEvent, datetime]]) -> None:
    """What events tell of orders, each with the time at which it happened."""
    by_order: dict[UUID, dict[str, Any]] = {}
    for event, at in told:
        by_order[event.order_id] = _told(event, at) | by_order.get(event.order_id, {})  # what was told first stands
    await work.rows(_TAKE_IN, told=json.dumps(list(by_order.values())))


def _told(event: OrderEvent, at: datetime) -> dict[str, Any]:
    """One event's share of an order's row. `lost_minor`: what went back of what had been counted as revenue."""
    order = {
        "order_id": str(event.order_id),
        "customer_id": str(event.customer_id),
        "currency": event.total.currency,
        "total_minor": event.total.minor,
    }
    when = at.isoformat()
    match event:
        case OrderCreated():
            return order | {"placed_at": when}
        case OrderConfirmed():
            return order | {"confirmed_at": when, "lines": [*map(_sold, event.lines)]}
        case OrderCompleted():
            back = event.refunded.minor if event.refunded else 0
            return order | {"completed_at": when, "refunded_minor": back, "lost_minor": back}
        case OrderCancelled():
            back = event.refunded.minor
            lost = back if event.was_confirmed else 0
            return order | {"cancelled_at": when, "cancel_code": event.code, "refunded_minor": back, "lost_minor": lost}
        case OrderRefunded():
            back = event.refunded.minor
            return order | {"refunded_at": when, "refunded_minor": back, "lost_minor": back}


def _revenue(line: OrderLine) -> int:
    """What the goods of a line were sold for, in minor units: less its discount, and without shipping."""
    if line.amounts:
        return line.amounts.items - line.amounts.discount
    return minor_units(line.unit_price.amount * line.quantity, line.unit_price.currency)
