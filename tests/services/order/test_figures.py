"""What the shop is measured by: each fact about an order counts once, and what is in flight is what the record says."""

import asyncio
from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY, Metric

from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderStatus
from contracts.parcels import Trouble
from services.order import commands, figures, queries
from tests.services.order.conftest import S, new_order, stored

TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)
Samples = dict[tuple[str, ...], float]


def counted() -> Samples:
    """All counters of orders, by name and labels, and how often a state was left."""
    ours = (figures.placed_total, figures.outcomes_total, figures.stock_outs_total, figures.state_seconds)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for counter in ours
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count"))
    }


def risen(before: Samples) -> Samples:
    return {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}


def values(metrics: Iterable[Metric]) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in metrics
        for sample in metric.samples
        if not sample.name.endswith("_seconds")
    }


def outcome(outcome: str, reason: str = "") -> tuple[str, str, str]:
    return "order_outcomes_total", outcome, reason


def left(status: OrderStatus) -> tuple[str, str]:
    return "order_state_seconds_count", status


async def test_an_order_that_is_placed_ten_times_at_once_counts_once(database: Database) -> None:
    before, order = counted(), new_order()
    await asyncio.gather(*[commands.accept_order(database, order) for _ in range(10)])
    assert risen(before) == {("orders_placed_total",): 1}


async def test_each_fact_counts_once_however_often_it_is_told(database: Database) -> None:
    order = await stored(database)
    words = [
        AdvanceOrder(order_id=order.order_id, after=1, path=(S.RESERVED, S.IN_REVIEW), review_reason="much"),
        AdvanceOrder(order_id=order.order_id, after=3, path=(S.PAID, S.CONFIRMED)),
        AdvanceOrder(order_id=order.order_id, after=5, path=(S.UNDELIVERED,), trouble=Trouble.NOT_PICKED_UP),
        AdvanceOrder(order_id=order.order_id, after=6, path=(S.CONFIRMED,)),
        AdvanceOrder(order_id=order.order_id, after=7, path=(S.SHIPPED,)),
        AdvanceOrder(order_id=order.order_id, after=8, path=(S.DELIVERED, S.COMPLETED)),
    ]
    before = counted()
    for number in range(len(words)):
        for word in words[: number + 1]:  # the ones before are repeated
            await commands.advance_order(database, word)
    facts = [outcome("held", "payment"), outcome("confirmed"), outcome("delivered")]
    states = [left(status) for status in (S.PENDING, S.IN_REVIEW, S.UNDELIVERED, S.SHIPPED)]
    assert risen(before) == dict.fromkeys([*facts, *states], 1) | {left(S.CONFIRMED): 2}


async def test_two_words_at_once_count_once(database: Database) -> None:
    order = await stored(database)
    word = AdvanceOrder(order_id=order.order_id, after=1, path=TO_CONFIRMED)
    before = counted()
    await asyncio.gather(*[commands.advance_order(database, word) for _ in range(10)])
    assert risen(before) == {outcome("confirmed"): 1, left(S.PENDING): 1}


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ((S.CANCELLING,), ErrorCode.PAYMENT_DECLINED, outcome("refused", "payment_declined")),
        ((S.CANCELLING,), ErrorCode.CANCELLED_BY_REQUEST, outcome("cancelled", "cancelled_by_request")),
        ((*TO_CONFIRMED, S.CANCELLING), ErrorCode.CANCELLED_BY_REQUEST, outcome("cancelled", "cancelled_by_request")),
    ],
)
async def test_an_order_counts_as_refused_or_cancelled_as_soon_as_that_is_decided(
    database: Database, path: tuple[OrderStatus, ...], code: ErrorCode, told: tuple[str, str, str]
) -> None:
    before = counted()
    await stored(database, *path, code=code)
    also = [outcome("confirmed")] if S.CONFIRMED in path else []
    assert risen(before) == dict.fromkeys([("orders_placed_total",), told, left(S.PENDING), *also], 1)


async def test_money_that_went_back_for_a_lost_parcel_counts_by_trouble(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, S.SHIPPED, S.UNDELIVERED, trouble=Trouble.LOST)
    before = counted()
    word = AdvanceOrder(order_id=order.order_id, after=6, path=(S.REFUNDED,), trouble=Trouble.LOST, refunded=order.total)
    await commands.advance_order(database, word)
    assert risen(before) == {outcome("refunded", "lost"): 1, left(S.UNDELIVERED): 1}


async def test_a_stock_out_counts_at_the_warehouse_that_was_named(database: Database) -> None:
    before = counted()
    for warehouse in (None, "store-7"):
        order = new_order().model_copy(update={"warehouse_id": warehouse})
        await stored(database, S.CANCELLING, order=order, code=ErrorCode.OUT_OF_STOCK)
    of_stock = {name: value for name, value in risen(before).items() if name[0] == "stock_outs_total"}
    assert of_stock == {("stock_outs_total", "any"): 1, ("stock_outs_total", "store-7"): 1}


async def test_orders_in_flight_are_those_of_the_record(database: Database) -> None:
    for path in ((), (), TO_CONFIRMED, (*TO_CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)):
        await stored(database, *path)
    told = values(figures.in_flight(await queries.orders_in_flight(database)))
    assert {name: value for name, value in told.items() if value} == {
        ("orders_in_flight", "PENDING"): 2,
        ("orders_in_flight", "CONFIRMED"): 1,
    }
    assert set(told) == {("orders_in_flight", status) for status in figures.IN_FLIGHT}


async def test_the_age_of_the_oldest_is_since_the_last_was_heard_of_it(database: Database) -> None:
    await stored(database, age_s=100)
    [_, oldest] = figures.in_flight(await queries.orders_in_flight(database))
    ages = {sample.labels["status"]: sample.value for sample in oldest.samples}
    assert 0 < ages.pop("PENDING") < 100  # what was placed long ago was heard of now
    assert set(ages.values()) == {0}


async def test_refunds_are_owed_from_the_decision_until_the_money_is_back(database: Database) -> None:
    async def owed() -> Samples:
        return values(figures.refunds_owed(await queries.refunds_owed(database)))

    code = ErrorCode.CANCELLED_BY_REQUEST
    await stored(database, S.RESERVED, S.CANCELLING, code=code)  # nothing was taken
    await stored(database, *TO_CONFIRMED)
    assert await owed() == {}
    order = await stored(database, *TO_CONFIRMED, S.CANCELLING, code=code)
    await stored(database, S.RESERVED, S.PAID, S.CANCELLING, code=ErrorCode.ADDRESS_UNDELIVERABLE)
    assert await owed() == {("refunds_owed", "USD"): 2, ("refunds_owed_amount", "USD"): 6.0}
    word = AdvanceOrder(order_id=order.order_id, after=5, path=(S.CANCELLED,), refunded=Money.from_minor(300, "USD"))
    await commands.advance_order(database, word)
    assert await owed() == {("refunds_owed", "USD"): 1, ("refunds_owed_amount", "USD"): 3.0}


def test_what_may_end_an_order_is_counted_from_the_start() -> None:
    """An alert sees a counter rise only if it was there before."""
    assert REGISTRY.get_sample_value("order_outcomes_total", {"outcome": "refused", "reason": "out_of_stock"}) is not None
    assert REGISTRY.get_sample_value("stock_outs_total", {"warehouse": "any"}) is not None
