"""The order's record on a real database: opened once, advanced along the one table, whatever is repeated or comes late."""

import asyncio
from typing import Any

import pytest
from sqlmodel import select

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import NEXT_STATUS, AdvanceOrder, OpenOrder, OrderStatus, PlaceOrder
from services.order import commands, queries
from services.order.model import Order, outbox
from tests.services.order.conftest import RUN, S, new_order, stored

TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)


async def events(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope for row in rows]


async def event_types(database: Database) -> list[str]:
    return [event["type"] for event in await events(database)]


async def record(database: Database, order: PlaceOrder) -> Order:
    found = await queries.find_order(database, order.order_id)
    assert found is not None
    return found


async def advance(database: Database, order: PlaceOrder, *path: OrderStatus, **facts: object) -> OrderStatus:
    command = AdvanceOrder.model_validate({"order_id": order.order_id, "path": path, **facts})
    return (await commands.advance_order(database, command)).status


async def test_an_order_is_opened_once(database: Database) -> None:
    order = new_order()
    command = OpenOrder(order=order, workflow_run_id=RUN)
    replies = await asyncio.gather(*[commands.open_order(database, command) for _ in range(10)])
    assert {reply.status for reply in replies} == {S.PENDING}
    [created] = await events(database)
    assert (created["type"], created["partitionkey"]) == ("OrderCreated", str(order.order_id))
    assert created["data"]["total"] == {"amount": "3.00", "currency": "USD"}
    assert "payment_token" not in str(created)
    opened = await record(database, order)
    assert (opened.total, opened.refunded, opened.order_lines) == (order.total, Money.zero(), order.lines)


async def test_another_saga_cannot_open_the_same_order(database: Database) -> None:
    order = await stored(database)
    with pytest.raises(Refusal) as refused:
        await commands.open_order(database, OpenOrder(order=order, workflow_run_id="run-2"))
    assert refused.value.code == ErrorCode.ORDER_EXISTS
    assert await event_types(database) == ["OrderCreated"]


async def test_a_late_retry_of_open_does_not_reset_the_order(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    again = await commands.open_order(database, OpenOrder(order=order, workflow_run_id=RUN))
    assert again.status == S.CONFIRMED
    assert await event_types(database) == ["OrderCreated", "OrderConfirmed"]


async def test_an_order_from_click_to_doorstep(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, warehouse_id="w1", tracking_number="T1")
    assert await advance(database, order, S.SHIPPED) == S.SHIPPED
    assert await advance(database, order, S.DELIVERED, S.COMPLETED) == S.COMPLETED
    done = await record(database, order)
    assert [entry.status for entry in done.timeline()] == [S.PENDING, *TO_CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED]
    assert (done.warehouse_id, done.tracking_number, done.refunded) == ("w1", "T1", Money.zero())
    assert await event_types(database) == ["OrderCreated", "OrderConfirmed", "OrderCompleted"]
    confirmed = (await events(database))[1]["data"]
    assert (confirmed["warehouse_id"], confirmed["lines"][0]["product_id"]) == ("w1", "milk")


async def test_a_cancellation_says_why_and_what_went_back(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    await advance(database, order, S.CANCELLING, code=ErrorCode.CANCELLED_BY_REQUEST, detail="By mistake.")
    await advance(database, order, S.CANCELLED, refunded=order.total)
    data = (await events(database))[-1]["data"]
    assert data["refunded"] == data["total"] == {"amount": "3.00", "currency": "USD"}
    assert (data["was_confirmed"], data["code"], data["reason"]) == (True, "cancelled_by_request", "By mistake.")


async def test_a_refused_order_was_never_confirmed(database: Database) -> None:
    await stored(database, S.CANCELLING, S.CANCELLED, code=ErrorCode.OUT_OF_STOCK, detail="No milk.")
    data = (await events(database))[-1]["data"]
    assert (data["was_confirmed"], data["refunded"]["amount"], data["code"]) == (False, "0.00", "out_of_stock")


async def test_the_same_word_told_ten_times_at_once_counts_once(database: Database) -> None:
    order = await stored(database)
    statuses = await asyncio.gather(*[advance(database, order, *TO_CONFIRMED) for _ in range(10)])
    assert set(statuses) == {S.CONFIRMED}
    assert (await event_types(database)).count("OrderConfirmed") == 1
    assert len((await record(database, order)).history) == 4


async def test_a_path_that_overlaps_goes_on_where_the_record_is(database: Database) -> None:
    order = await stored(database, S.RESERVED)
    assert await advance(database, order, *TO_CONFIRMED) == S.CONFIRMED
    assert len((await record(database, order)).history) == 4


async def test_a_late_retry_overwrites_nothing(database: Database) -> None:
    order = await stored(database, S.RESERVED, detail="early", tracking_number="T0")
    await advance(database, order, S.CANCELLING, S.CANCELLED, code=ErrorCode.PAYMENT_DECLINED, detail="Declined.")
    assert await advance(database, order, S.RESERVED, detail="early", tracking_number="T0") == S.CANCELLED
    late = await record(database, order)
    assert (late.status, late.detail, late.code) == (S.CANCELLED, "Declined.", "payment_declined")


async def test_words_belong_to_the_status_they_came_with(database: Database) -> None:
    order = await stored(database, S.RESERVED, S.IN_REVIEW, detail="Over the threshold.")
    assert (await record(database, order)).detail == "Over the threshold."
    await advance(database, order, S.PAID, S.CONFIRMED)
    confirmed = await record(database, order)
    assert confirmed.detail is None
    assert [entry.detail for entry in confirmed.timeline()] == [None, None, "Over the threshold.", None, None]


async def test_facts_may_come_without_a_move(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    assert await advance(database, order, tracking_number="T2") == S.CONFIRMED
    assert (await record(database, order)).tracking_number == "T2"


@pytest.mark.parametrize("status", list(S))
async def test_every_move_outside_the_table_is_refused(database: Database, status: OrderStatus) -> None:
    """From each status to each: by the table, or not at all."""
    way = _way_to(status)
    for target in S:
        if target in way or target == S.PENDING:
            continue  # reached before: a retry
        order = await stored(database, *way)
        if target in NEXT_STATUS[status]:
            assert await advance(database, order, target) == target
            continue
        with pytest.raises(Refusal) as refused:
            await advance(database, order, target, detail="no")
        assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
        kept = await record(database, order)
        assert (kept.status, kept.detail, len(kept.history)) == (status, None, len(way) + 1)


async def test_what_was_reached_before_cannot_be_reached_again_by_another_way(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    with pytest.raises(Refusal) as refused:
        await advance(database, order, S.SHIPPED, S.RESERVED)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
    assert (await record(database, order)).status == S.CONFIRMED


async def test_an_order_that_was_never_opened_is_unknown(database: Database) -> None:
    with pytest.raises(Refusal) as refused:
        await advance(database, new_order(), S.CANCELLING, S.CANCELLED)
    assert refused.value.code == ErrorCode.ORDER_UNKNOWN


def _way_to(status: OrderStatus) -> tuple[OrderStatus, ...]:
    """A legal path from PENDING."""
    happy = (S.RESERVED, S.IN_REVIEW, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)
    if status in happy:
        return happy[: happy.index(status) + 1]
    ends = {S.PENDING: (), S.CANCELLING: (S.CANCELLING,), S.CANCELLED: (S.CANCELLING, S.CANCELLED)}
    return ends[status]
