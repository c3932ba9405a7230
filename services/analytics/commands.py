"""What analytics does with events: one statement for as many as have come, with the same result in whatever order they come.

The statement first writes what is told of each order into the order's row. What was not known of it before drives the sums; so
whoever tells a fact a second time changes nothing. An order's products are counted as long as it is confirmed, and neither
cancelled nor refunded: as its newest amendment left them, less the units of which parts were cancelled or returns completed.

What went back for cancelled parts is in what the order says at its end; what went back by its returns never is.
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.statements import sql
from chassis.store import UnitOfWork
from contracts.events import (
    Event,
    OrderAmended,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderPartCancelled,
    OrderRefunded,
    ReturnCompleted,
)
from contracts.money import Money, minor_units
from contracts.orders import OrderLine
from contracts.parcels import ParcelLine


class OrderCreated(Event):
    """What is read of the event of this name: not the lines, since those of confirmed orders count."""

    order_id: UUID
    customer_id: UUID
    total: Money


OrderEvent = (
    OrderCreated
    | OrderConfirmed
    | OrderAmended
    | OrderPartCancelled
    | OrderCancelled
    | OrderRefunded
    | OrderCompleted
    | ReturnCompleted
)

# Rows are locked in the order of their keys in each table, and the tables always in the same sequence: two processes that add to
# the sums of one day wait for each other, and never in a circle.
_TAKE_IN = sql(
    """
    with told as (
        select * from jsonb_to_recordset(cast(:told as jsonb)) as told (
            order_id uuid, customer_id uuid, currency text, total_minor bigint, lines jsonb,
            placed_at timestamptz, confirmed_at timestamptz, completed_at timestamptz,
            cancelled_at timestamptz, cancel_code text, refunded_at timestamptz, refunded_minor bigint, lost_minor bigint,
            less jsonb, amendments jsonb, returns jsonb
        )
    ), known as (
        insert into orders as known (
            order_id, customer_id, currency, total_minor, lines, placed_at, confirmed_at, completed_at,
            cancelled_at, cancel_code, refunded_at, refunded_minor, less, amendments
        )
        select order_id, customer_id, currency, coalesce(total_minor, 0), lines, placed_at, confirmed_at, completed_at,
               cancelled_at, cancel_code, refunded_at, coalesce(refunded_minor, 0), coalesce(less, '[]'),
               coalesce(amendments, '[]')
        from told order by order_id
        on conflict (order_id) do update set
            total_minor = greatest(known.total_minor, excluded.total_minor),
            less = case when excluded.less = '[]' then known.less else (
                select jsonb_agg(distinct units) from jsonb_array_elements(known.less || excluded.less) as each (units)
            ) end,
            amendments = case when excluded.amendments = '[]' then known.amendments else (
                select jsonb_agg(distinct each) from jsonb_array_elements(known.amendments || excluded.amendments) as each
            ) end,
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
    ), back as (
        insert into returns (order_id, number, customer_id, currency, kind, completed_at, refunded_minor, reasons)
        select known.order_id, number, known.customer_id, known.currency, kind, back.completed_at, back.refunded_minor, reasons
        from known join told using (order_id), jsonb_to_recordset(told.returns) as back (
            number int, kind text, completed_at timestamptz, refunded_minor bigint, reasons jsonb
        )
        order by known.order_id, number
        on conflict do nothing
        returning *
    ), reason as (
        insert into returns_by_day as known (currency, day, kind, reason, returns, units)
        select currency, cast(completed_at at time zone 'utc' as date) as day, kind, reason, count(*), sum(units)
        from back, jsonb_to_recordset(reasons) as each (reason text, units int)
        group by currency, day, kind, reason order by currency, day, kind, reason
        on conflict (currency, day, kind, reason) do update set
            returns = known.returns + excluded.returns,
            units = known.units + excluded.units
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
        union all
        select customer_id, currency, 'returned', completed_at, null, 0, refunded_minor,
               cast(completed_at at time zone 'utc' as date)
        from back
        union all
        select customer_id, currency, 'amended', at, null, gain, 0, cast(at at time zone 'utc' as date)
        from known, jsonb_to_recordset(known.amendments) as each (number int, at timestamptz, gain bigint)
        where number not in (
            select number from jsonb_to_recordset(coalesce((before).amendments, '[]')) as each (number int)
        )
    ), sold as (
        select currency, cast(confirmed_at at time zone 'utc' as date) as day, state.*
        from (
            select *, confirmed_at is not null and cancelled_at is null and refunded_at is null as is_sold,
                   (before).confirmed_at is not null and (before).cancelled_at is null and (before).refunded_at is null
                   as was_sold
            from known
        ) as known, lateral (values
            (1, is_sold, known.lines, known.less, known.amendments),
            (-1, was_sold, (before).lines, (before).less, (before).amendments)
        ) as counted (times, counts, lines, less, amendments), lateral (
            select counted.times, counted.less, coalesce(newest.lines, counted.lines) as lines,
                   coalesce(newest.number, 0) as amended
            from (select 1) as one left join lateral (
                select number, lines from jsonb_to_recordset(counted.amendments) as each (number int, lines jsonb)
                order by number desc limit 1
            ) as newest on true
        ) as state
        where counts
              and (is_sold <> was_sold or known.less <> (before).less or known.amendments <> (before).amendments)
    ), product as (
        insert into products_by_day as known (currency, day, product_id, name, quantity, revenue_minor, returned)
        select currency, day, product_id, max(name), sum(times * (quantity - gone.units)),
               sum(times * (revenue_minor - gone.revenue)), sum(times * gone.returned)
        from sold, lateral (
            select coalesce(cast(line->>'line_id' as int), place) as line_id, line->>'product_id' as product_id,
                   line->>'name' as name, cast(line->>'quantity' as int) as quantity,
                   cast(line->>'revenue_minor' as bigint) as revenue_minor
            from jsonb_array_elements(lines) with ordinality as each (line, place)
        ) as line, lateral (
            select coalesce(sum(units), 0) as units, coalesce(sum(units) filter (where is_returned), 0) as returned,
                   coalesce(sum(revenue_minor * (start + units) / quantity - revenue_minor * start / quantity), 0) as revenue
            from jsonb_to_recordset(less) as units (line_id int, start int, units int, is_returned bool, amended int)
            where units.line_id = line.line_id and (is_returned or coalesce(units.amended, 0) = sold.amended)
        ) as gone
        group by currency, day, product_id
        having (sum(times * quantity), sum(times * gone.units), sum(times * gone.returned)) <> (0, 0, 0)
        order by currency, day, product_id
        on conflict (currency, day, product_id) do update set
            quantity = known.quantity + excluded.quantity,
            revenue_minor = known.revenue_minor + excluded.revenue_minor,
            returned = known.returned + excluded.returned,
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
        currency, day, placed, confirmed, completed, cancelled, undelivered, returned, gross_minor, refunds_minor,
        returned_minor
    )
    select currency, day, count(*) filter (where what = 'placed'), count(*) filter (where what = 'confirmed'),
           count(*) filter (where what = 'completed'), count(*) filter (where what = 'cancelled'),
           count(*) filter (where what = 'undelivered'), count(*) filter (where what = 'returned'), sum(gain), sum(loss),
           coalesce(sum(loss) filter (where what = 'returned'), 0)
    from news group by currency, day order by currency, day
    on conflict (currency, day) do update set
        placed = known.placed + excluded.placed,
        confirmed = known.confirmed + excluded.confirmed,
        completed = known.completed + excluded.completed,
        cancelled = known.cancelled + excluded.cancelled,
        undelivered = known.undelivered + excluded.undelivered,
        returned = known.returned + excluded.returned,
        gross_minor = known.gross_minor + excluded.gross_minor,
        refunds_minor = known.refunds_minor + excluded.refunds_minor,
        returned_minor = known.returned_minor + excluded.returned_minor
    """
)


SEVERAL = ("less", "amendments", "returns")
"""What may happen to an order more than once."""


async def take_in(work: UnitOfWork, told: Sequence[tuple[OrderEvent, datetime]]) -> None:
    """What events tell of orders, each with the time at which it happened."""
    by_order: dict[UUID, dict[str, Any]] = {}
    for event, at in told:
        new, before = _told(event, at), by_order.get(event.order_id, {})
        # What was told first stands, and what may happen several times is added.
        by_order[event.order_id] = new | before | {name: _both(new, before, name) for name in SEVERAL}
    await work.rows(_TAKE_IN, told=json.dumps(list(by_order.values())))


def _both(new: dict[str, Any], before: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Entries of either, each once."""
    known: list[dict[str, Any]] = before.get(name, [])
    return known + [entry for entry in new.get(name, []) if entry not in known]


def _told(event: OrderEvent, at: datetime) -> dict[str, Any]:
    """One event's share of an order's row. `lost_minor`: what went back of what had been counted as revenue."""
    order: dict[str, Any] = {"order_id": str(event.order_id), "customer_id": str(event.customer_id)}
    when = at.isoformat()
    if isinstance(event, ReturnCompleted):
        return order | {"currency": event.refunded.currency, **_returned(event, when)}
    order |= {"currency": event.total.currency}
    if isinstance(event, OrderCreated | OrderConfirmed):  # later ones may tell of an amended total
        order |= {"total_minor": event.total.minor}
    match event:
        case OrderCreated():
            return order | {"placed_at": when}
        case OrderConfirmed():
            return order | {"confirmed_at": when, "lines": _sold(event.lines)}
        case OrderAmended():
            gain = event.total.minor - event.total_before.minor
            amendment = {"number": event.number, "at": when, "gain": gain, "lines": _sold(event.lines)}
            return order | {"amendments": [amendment]}
        case OrderPartCancelled():  # its money is in what the order says at its end
            return order | {"less": [_units(line, is_returned=False, amended=event.amended) for line in event.lines]}
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


def _returned(event: ReturnCompleted, when: str) -> dict[str, Any]:
    """A return's share of its order's row, and the return itself."""
    by_reason = Counter[str]()
    for line in event.lines:
        by_reason[line.reason] += line.quantity
    returned: dict[str, Any] = {
        "number": event.number,
        "kind": event.kind,
        "completed_at": when,
        "refunded_minor": event.refunded.minor,
        "reasons": [{"reason": reason, "units": units} for reason, units in sorted(by_reason.items())],
    }
    return {"less": [_units(line, is_returned=True) for line in event.lines], "returns": [returned]}


def _units(line: ParcelLine, *, is_returned: bool, amended: int = 0) -> dict[str, Any]:
    """`amended`: as which amendment had left the line."""
    units = {"line_id": line.line_id, "start": line.first, "units": line.quantity, "is_returned": is_returned}
    return units | {"amended": amended} if amended else units


def _sold(lines: Sequence[OrderLine]) -> list[dict[str, Any]]:
    return [
        {
            "line_id": line.line_id or place,
            "product_id": line.product_id,
            "name": line.name,
            "quantity": line.quantity,
            "revenue_minor": _revenue(line),
        }
        for place, line in enumerate(lines, start=1)
    ]


def _revenue(line: OrderLine) -> int:
    """What the goods of a line were sold for, in minor units: less its discount, and without shipping."""
    if line.amounts:
        return line.amounts.items - line.amounts.discount
    return minor_units(line.unit_price.amount * line.quantity, line.unit_price.currency)
