"""The order's record on a real database: placed once, advanced along the one table, whatever is repeated or comes late."""

import asyncio
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import select

from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import NEXT_STATUS, AdvanceOrder, CancelRequest, CaptureAt, LineUnits, OrderStatus, Outcome, PlaceOrder
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus, Trouble
from contracts.payment_actions import ActionDue, ActionKind
from services.order import commands
from services.order.model import Order, outbox
from services.order.schemas import CurrentOrderView
from tests.conftest import changing
from tests.services.order.conftest import S, new_order, stored

TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)


async def events(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope for row in rows]


async def event_types(database: Database) -> list[str]:
    return [event["type"] for event in await events(database)]


async def told_of(database: Database, kind: str) -> list[UUID]:
    """The orders that an event of this type tells of."""
    return [UUID(event["data"]["order_id"]) for event in await events(database) if event["type"] == kind]


async def record(database: Database, order: PlaceOrder) -> Order:
    found = await commands.find_order(database, order.order_id)
    assert found is not None
    return found


async def advance(
    database: Database, order: PlaceOrder, *path: OrderStatus, after: int | None = None, **facts: object
) -> OrderStatus:
    """The saga's next word; with `after`, one that may have been told before."""
    if after is None:
        after = len((await record(database, order)).history)
    command = AdvanceOrder.model_validate({"order_id": order.order_id, "after": after, "path": path, **facts})
    return (await commands.advance_order(database, command)).status


async def test_an_order_is_placed_once(database: Database) -> None:
    order = new_order()
    placed = await asyncio.gather(*[commands.accept_order(database, order) for _ in range(10)])
    assert {row.status for row in placed} == {S.PENDING}
    [created] = await events(database)
    assert (created["type"], created["partitionkey"]) == ("OrderCreated", str(order.order_id))
    assert created["data"]["total"] == {"amount": "3.00", "currency": "USD"}
    assert "payment_token" not in str(created)
    row = await record(database, order)
    assert (row.total, row.refunded, row.order_lines, row.to_start) == (order.total, Money.zero(), order.lines, order)


async def test_to_be_placed_again_does_not_reset_an_order(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    assert (await commands.accept_order(database, order)).status == S.CONFIRMED
    assert await event_types(database) == ["OrderCreated", "OrderConfirmed"]


async def test_the_payment_token_does_not_stay(database: Database) -> None:
    order = await stored(database)
    assert "pm_card_visa" in str((await record(database, order)).model_dump())
    await advance(database, order, S.RESERVED)
    row = await record(database, order)
    assert (row.to_start, row.hand_over_at) == (None, None)
    assert "pm_card_visa" not in str(row.model_dump())


async def test_a_wish_to_cancel_outlives_the_sagas_first_word(database: Database) -> None:
    order = await stored(database)
    wish = CancelRequest(reason="mistake", requested_by="customer")
    await commands.wish_to_cancel(database, order.order_id, wish)
    await commands.wish_to_cancel(database, order.order_id, CancelRequest(reason="another"))
    await advance(database, order, S.RESERVED)
    [taken] = await commands.take_to_hand_over(database)
    assert (taken.order_id, taken.wish_to_cancel, taken.to_start) == (order.order_id, wish, None)
    assert await commands.take_to_hand_over(database) == []  # somebody has taken it
    await commands.note_handed_over(database, order.order_id, None)
    assert (await record(database, order)).wish_to_cancel == wish  # one that came meanwhile is not lost
    await commands.note_handed_over(database, order.order_id, wish)
    assert (await record(database, order)).hand_over_at is None


async def test_who_waits_long_for_an_order_is_told_so_once(database: Database) -> None:
    waits, confirmed, wanted, new = [
        await stored(database, *path, age_s=60 * minutes) for path, minutes in (((), 11), (TO_CONFIRMED, 11), ((), 11), ((), 9))
    ]
    await commands.wish_to_cancel(database, wanted.order_id, CancelRequest(reason="too slow"))
    for _ in range(2):
        assert not await commands.tell_of_held_up(database, timedelta(minutes=10))
    assert await told_of(database, "OrderHeldUp") == [waits.order_id]
    await advance(database, waits, S.CANCELLING, S.CANCELLED, code=ErrorCode.OUT_OF_STOCK)
    await advance(database, new, S.CANCELLING, S.CANCELLED, code=ErrorCode.OUT_OF_STOCK)
    cancelled = [event["data"] for event in await events(database) if event["type"] == "OrderCancelled"]
    assert [(data["order_id"], data["was_held_up"]) for data in cancelled] == [
        (str(waits.order_id), True), (str(new.order_id), False),
    ]  # fmt: skip
    assert (await record(database, confirmed)).held_up_at is None


async def test_only_the_first_definite_outcome_is_kept(database: Database) -> None:
    order = await stored(database)
    held, confirmed, refused = [
        Outcome(order_id=order.order_id, status=status, code=code)
        for status, code in ((S.IN_REVIEW, None), (S.CONFIRMED, None), (S.CANCELLING, ErrorCode.CANCELLED_BY_REQUEST))
    ]
    await advance(database, order, S.RESERVED, S.IN_REVIEW, outcome=held)
    assert (await record(database, order)).kept_outcome is None
    await advance(database, order, S.PAID, S.CONFIRMED, outcome=confirmed)
    await advance(database, order, S.CANCELLING, S.CANCELLED, outcome=refused)
    assert (await record(database, order)).kept_outcome == confirmed


async def test_s10_a_parcel_may_be_lost_and_sent_again(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, S.SHIPPED, tracking_number="T1")
    await advance(database, order, S.UNDELIVERED, trouble=Trouble.LOST, detail="The carrier lost the parcel.", for_staff="T1")
    lost = await record(database, order)
    assert (lost.trouble, lost.detail, lost.for_staff) == ("lost", "The carrier lost the parcel.", "T1")
    await advance(database, order, S.CONFIRMED, S.SHIPPED, tracking_number="T2", warehouse_id="w2")
    again = await record(database, order)
    assert (again.status, again.trouble, again.tracking_number, again.detail) == (S.SHIPPED, None, "T2", None)
    assert again.confirmed_at == lost.confirmed_at
    await advance(database, order, S.UNDELIVERED, trouble=Trouble.RETURNED)
    assert await advance(database, order, S.REFUNDED, refunded=order.total, trouble=Trouble.RETURNED) == S.REFUNDED
    told = await events(database)
    assert [event["type"] for event in told] == [
        "OrderCreated", "OrderConfirmed", "OrderUndelivered", "OrderUndelivered", "OrderRefunded",
    ]  # fmt: skip
    assert [event["data"].get("trouble") for event in told[2:]] == ["lost", "returned", "returned"]
    assert told[-1]["data"]["refunded"] == told[-1]["data"]["total"]


async def test_trouble_may_change_without_a_move_and_needs_a_name(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, S.SHIPPED)
    with pytest.raises(Refusal) as refused:
        await advance(database, order, S.UNDELIVERED)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
    await advance(database, order, S.UNDELIVERED, trouble=Trouble.SILENT)
    await advance(database, order, trouble=Trouble.LOST)
    assert (await record(database, order)).trouble == "lost"
    await advance(database, order, S.SHIPPED, S.UNDELIVERED, S.SHIPPED)  # told when it was over again
    assert (await event_types(database)).count("OrderUndelivered") == 1


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


async def test_a_cancellation_says_its_code_and_what_went_back(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    await advance(database, order, S.CANCELLING, code=ErrorCode.CANCELLED_BY_REQUEST, detail="By mistake.")
    await advance(database, order, S.CANCELLED, refunded=order.total)
    data = (await events(database))[-1]["data"]
    assert data["refunded"] == data["total"] == {"amount": "3.00", "currency": "USD"}
    assert (data["was_confirmed"], data["code"], data["reason"]) == (True, "cancelled_by_request", "Cancelled by request")


def part(number: int, status: ParcelStatus, quantity: int, first: int = 0) -> OrderParcel:
    lines = (ParcelLine(line_id=1, product_id="milk", quantity=quantity, first=first),)
    return OrderParcel(parcel=number, status=status, lines=lines, warehouse_id="w1")


async def test_what_is_called_off_of_an_order_that_goes_on_is_told_once(database: Database) -> None:
    at = utc_now()
    order = await stored(database, *TO_CONFIRMED, warehouse_id="w1")
    price = order.lines[0].unit_price
    parcels = (part(1, ParcelStatus.CANCELLED, 1, first=1), part(2, ParcelStatus.BOOKED, 1))
    for _ in range(2):
        await advance(database, order, as_of=at, parcels=parcels, refunded=price)
    assert await event_types(database) == ["OrderCreated", "OrderConfirmed", "OrderPartCancelled"]
    told = (await events(database))[-1]["data"]
    assert (told["parcel"], told["lines"][0]["quantity"], told["refunded"]["amount"]) == (1, 1, str(price.amount))
    assert (await record(database, order)).cancelled_units == {1: 1}
    ended = (parcels[0], part(2, ParcelStatus.CANCELLED, 1))
    later = at + timedelta(seconds=1)
    await advance(database, order, S.CANCELLING, S.CANCELLED, as_of=later, refunded=order.total, parcels=ended)
    assert (await event_types(database)).count("OrderPartCancelled") == 1  # all of it: that is another event


async def test_what_is_called_off_and_was_not_paid_for_yet_brings_nothing_back(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, warehouse_id="w1")
    parcels = (part(1, ParcelStatus.CANCELLED, 1, first=1), part(2, ParcelStatus.BOOKED, 1))
    await advance(database, order, as_of=utc_now(), parcels=parcels)
    assert (await events(database))[-1]["data"]["refunded"]["amount"] == "0.00"


async def test_what_was_left_out_when_it_was_planned_is_not_told_as_cancelled(database: Database) -> None:
    parcels = (part(1, ParcelStatus.BOOKED, 1), part(2, ParcelStatus.CANCELLED, 1, first=1))
    order = await stored(database, S.RESERVED, S.PAID)
    await advance(database, order, S.CONFIRMED, as_of=utc_now(), parcels=parcels)
    assert await event_types(database) == ["OrderCreated", "OrderConfirmed"]
    assert (await record(database, order)).cancelled_units == {1: 1}


async def test_a_wish_for_all_of_the_order_takes_the_place_of_one_for_some_units(database: Database) -> None:
    order = await stored(database)

    def some(key: str) -> CancelRequest:
        return CancelRequest(reason="one", lines=(LineUnits(line_id=1, quantity=1),), key=key)

    everything = CancelRequest(reason="mistake")
    assert await commands.wish_to_cancel(database, order.order_id, some("a"))
    assert await commands.wish_to_cancel(database, order.order_id, some("a"))
    assert await commands.wish_to_cancel(database, order.order_id, some("b")) is None
    assert not (await record(database, order)).is_to_be_cancelled
    assert await commands.wish_to_cancel(database, order.order_id, everything)
    assert await commands.wish_to_cancel(database, order.order_id, some("b"))  # it falls with the order
    assert (await record(database, order)).wish_to_cancel == everything
    assert (await record(database, order)).is_to_be_cancelled


async def test_a_refused_order_was_never_confirmed(database: Database) -> None:
    await stored(database, S.CANCELLING, S.CANCELLED, code=ErrorCode.OUT_OF_STOCK, detail="No milk.")
    data = (await events(database))[-1]["data"]
    assert (data["was_confirmed"], data["refunded"]["amount"], data["code"]) == (False, "0.00", "out_of_stock")


async def test_the_same_word_told_ten_times_at_once_counts_once(database: Database) -> None:
    order = await stored(database)
    statuses = await asyncio.gather(*[advance(database, order, *TO_CONFIRMED, after=1) for _ in range(10)])
    assert set(statuses) == {S.CONFIRMED}
    assert (await event_types(database)).count("OrderConfirmed") == 1
    assert len((await record(database, order)).history) == 4


async def test_a_path_that_overlaps_goes_on_where_the_record_is(database: Database) -> None:
    order = await stored(database, S.RESERVED)
    assert await advance(database, order, *TO_CONFIRMED, after=1) == S.CONFIRMED
    assert len((await record(database, order)).history) == 4


async def test_a_late_retry_overwrites_nothing(database: Database) -> None:
    order = await stored(database, S.RESERVED, detail="early", tracking_number="T0")
    await advance(database, order, S.CANCELLING, S.CANCELLED, code=ErrorCode.PAYMENT_DECLINED, detail="Declined.")
    assert await advance(database, order, S.RESERVED, after=1, detail="early", tracking_number="T0") == S.CANCELLED
    assert await advance(database, order, after=2, detail="early", code=ErrorCode.OUT_OF_STOCK) == S.CANCELLED
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
        order = await stored(database, *way, trouble=Trouble.LOST if S.UNDELIVERED in way else None)
        if target in NEXT_STATUS[status]:
            assert await advance(database, order, target, trouble=Trouble.LOST) == target
            continue
        with pytest.raises(Refusal) as refused:
            await advance(database, order, target, detail="no", trouble=Trouble.LOST)
        assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
        kept = await record(database, order)
        assert (kept.status, kept.detail, len(kept.history)) == (status, None, len(way) + 1)


async def test_a_saga_that_stops_earlier_than_a_task_of_it_that_was_lost_goes_on_from_the_record(database: Database) -> None:
    """The lost task had told CONFIRMED; the one after it was cancelled before that: no late retry, but a new word."""
    order = await stored(database, *TO_CONFIRMED)
    for _ in range(2):
        await advance(database, order, S.RESERVED, S.CANCELLING, after=1)
        assert (await record(database, order)).status == S.CANCELLING
    for _ in range(2):
        await advance(database, order, S.CANCELLED, after=3)
        assert (await record(database, order)).status == S.CANCELLED
    assert [entry["status"] for entry in (await record(database, order)).history] == [
        S.PENDING, *TO_CONFIRMED, S.CANCELLING, S.CANCELLED,
    ]  # fmt: skip


async def test_a_word_that_skips_what_the_record_was_never_told_is_refused(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    with pytest.raises(Refusal) as refused:
        await advance(database, order, S.SHIPPED, after=7)
    assert refused.value.code == ErrorCode.ILLEGAL_TRANSITION
    assert (await record(database, order)).status == S.CONFIRMED


def parcel(number: int, status: ParcelStatus, **facts: Any) -> OrderParcel:
    line = ParcelLine(line_id=1, product_id="milk", quantity=1, first=number - 1)
    return OrderParcel(parcel=number, status=status, lines=(line,), **facts)


async def test_i10_parcels_come_without_a_status_and_a_late_word_overwrites_nothing(database: Database) -> None:
    now = utc_now()
    booked = (parcel(1, ParcelStatus.BOOKED, warehouse_id="w1"), parcel(2, ParcelStatus.AWAITED))
    order = await stored(database, *TO_CONFIRMED, parcels=booked, as_of=now)
    shipped, awaited = parcel(1, ParcelStatus.SHIPPED, warehouse_id="w1"), parcel(2, ParcelStatus.AWAITED)
    left: dict[str, Any] = {"after": 4, "parcels": (shipped, awaited), "as_of": now + timedelta(seconds=1)}
    await advance(database, order, S.PARTIALLY_SHIPPED, **left)
    filled = parcel(2, ParcelStatus.RESERVED, warehouse_id="w2")
    reserved: dict[str, Any] = {"after": 5, "parcels": (shipped, filled), "as_of": now + timedelta(seconds=2)}
    await advance(database, order, **reserved)
    told = await record(database, order)
    assert (told.order_parcels, told.status) == (reserved["parcels"], S.PARTIALLY_SHIPPED)
    for late in (left, {**reserved, "parcels": booked, "as_of": now}):
        await advance(database, order, *(() if late["after"] == 5 else (S.PARTIALLY_SHIPPED,)), **late)
    await advance(database, order, **reserved)
    again = await record(database, order)
    assert (again.order_parcels, again.version, again.updated_at) == (told.order_parcels, told.version, told.updated_at)


async def test_i10_what_follows_a_task_that_was_lost_knows_better(database: Database) -> None:
    """The lost task had told the same status, with parcels that were otherwise."""
    now, waiting = utc_now(), parcel(2, ParcelStatus.AWAITED)
    order = await stored(database, *TO_CONFIRMED, parcels=(parcel(1, ParcelStatus.BOOKED), waiting), as_of=now)
    word: dict[str, Any] = {"after": 4, "parcels": (parcel(1, ParcelStatus.SHIPPED), waiting), "as_of": now}
    await advance(database, order, S.PARTIALLY_SHIPPED, **word)
    better = (parcel(1, ParcelStatus.SHIPPED), parcel(2, ParcelStatus.CANCELLED))
    await advance(
        database,
        order,
        S.PARTIALLY_SHIPPED,
        **{**word, "parcels": better, "as_of": now + timedelta(seconds=9)},
        refunded=order.total,
    )
    told = await record(database, order)
    assert (told.order_parcels, told.refunded, told.status) == (better, order.total, S.PARTIALLY_SHIPPED)


async def test_i10_the_only_parcel_is_known_by_the_order(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED, S.SHIPPED, warehouse_id="w1", tracking_number="T1")
    [only] = (await record(database, order)).order_parcels
    assert (only.status, only.warehouse_id, only.tracking_number) == (ParcelStatus.SHIPPED, "w1", "T1")
    assert only.lines == (ParcelLine(line_id=1, product_id="milk", quantity=2),)
    unplanned = await stored(database)
    assert (await record(database, unplanned)).order_parcels == ()


async def test_i10_each_parcel_in_trouble_and_each_delay_is_told_once(database: Database) -> None:
    day = date(2026, 12, 1)
    first = (parcel(1, ParcelStatus.SHIPPED), parcel(2, ParcelStatus.AWAITED, expected_on=day), parcel(3, ParcelStatus.SHIPPED))
    order = await stored(database, *TO_CONFIRMED, S.PARTIALLY_SHIPPED, parcels=first)
    lost = parcel(1, ParcelStatus.UNDELIVERED, trouble=Trouble.LOST)
    await advance(database, order, S.UNDELIVERED, trouble=Trouble.LOST, parcels=(lost, *first[1:]))
    silent, later = (
        parcel(3, ParcelStatus.UNDELIVERED, trouble=Trouble.SILENT),
        parcel(2, ParcelStatus.AWAITED, expected_on=day + timedelta(days=7)),
    )
    for _ in range(2):
        await advance(database, order, trouble=Trouble.LOST, parcels=(lost, later, silent))
    sooner = parcel(2, ParcelStatus.AWAITED, expected_on=day + timedelta(days=3))
    await advance(database, order, trouble=Trouble.LOST, parcels=(lost, sooner, silent))
    assert [
        (event["type"], event["data"]["parcel"], event["data"].get("trouble"), event["data"].get("expected_on"))
        for event in (await events(database))[2:]
    ] == [
        ("OrderUndelivered", 1, "lost", None),
        ("OrderDelayed", 2, None, "2026-12-08"),
        ("OrderUndelivered", 3, "silent", None),
    ]


async def test_i10_a_declined_card_leaves_an_outcome_that_is_not_the_last_word(database: Database) -> None:
    order = await stored(database, S.RESERVED)
    until = utc_now() + timedelta(minutes=15)
    declined = Outcome(
        order_id=order.order_id, status=S.PAYMENT_DUE, code=ErrorCode.PAYMENT_DECLINED, detail="Declined.", pay_until=until
    )
    await advance(database, order, S.PAYMENT_DUE, as_of=until, pay_until=until, outcome=declined)
    due = await record(database, order)
    assert (due.outcome_so_far, due.kept_outcome, due.pay_until) == (declined, None, until)
    again = declined.model_copy(update={"decline_code": "insufficient_funds"})
    await advance(database, order, as_of=until, pay_until=until, outcome=again)
    assert (await record(database, order)).outcome_so_far == again
    assert await event_types(database) == ["OrderCreated", "OrderPaymentDue"]
    confirmed = Outcome(order_id=order.order_id, status=S.CONFIRMED)
    await advance(database, order, S.PAID, S.CONFIRMED, outcome=confirmed, detail="Paid.")
    await advance(database, order, S.PAYMENT_DUE, after=2, as_of=until, outcome=declined, detail="Late.")
    paid = await record(database, order)
    assert paid.detail == "Paid."
    assert (paid.outcome_so_far, paid.pay_until, paid.declined) == (confirmed, None, None)


async def test_a_payment_to_be_confirmed_leaves_what_to_do_until_the_order_goes_on(database: Database) -> None:
    order, now = await stored(database, S.RESERVED), utc_now()
    action = ActionDue(kind=ActionKind.REDIRECT, url="https://bank.example/1", until=now + timedelta(minutes=15))
    await advance(database, order, S.ACTION_REQUIRED, as_of=now, action=action)
    waiting = await record(database, order)
    assert (waiting.payment_action, waiting.outcome_so_far, waiting.pay_until) == (action, None, None)
    assert waiting.timeline()[-1].what == "Payment to be confirmed"
    other = action.model_copy(update={"url": "https://bank.example/2"})
    await advance(database, order, as_of=now + timedelta(seconds=1), action=other)
    await advance(database, order, S.ACTION_REQUIRED, after=2, as_of=now, action=action)  # a late word
    assert (await record(database, order)).payment_action == other
    told = [event["data"] for event in await events(database) if event["type"] == "OrderActionRequired"]
    assert [(data["customer_id"], data["total"]["amount"], data["action"]["url"]) for data in told] == [
        (str(order.customer_id), "3.00", "https://bank.example/1")
    ]
    await advance(database, order, S.PAID)
    assert (await record(database, order)).payment_action is None


async def test_an_order_that_was_never_placed_is_unknown(database: Database) -> None:
    with pytest.raises(Refusal) as refused:
        await advance(database, new_order(), S.CANCELLING, S.CANCELLED, after=1)
    assert refused.value.code == ErrorCode.ORDER_UNKNOWN


def _way_to(status: OrderStatus) -> tuple[OrderStatus, ...]:
    """A legal path from PENDING."""
    happy = (S.RESERVED, S.IN_REVIEW, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)
    if status in happy:
        return happy[: happy.index(status) + 1]
    lost = (*happy[:5], S.UNDELIVERED)
    ends = {
        S.PENDING: (),
        S.PAYMENT_DUE: (S.RESERVED, S.PAYMENT_DUE),
        S.ACTION_REQUIRED: (S.RESERVED, S.ACTION_REQUIRED),
        S.PARTIALLY_SHIPPED: (*happy[:4], S.PARTIALLY_SHIPPED),
        S.UNDELIVERED: lost,
        S.REFUNDED: (*lost, S.REFUNDED),
        S.CANCELLING: (S.CANCELLING,),
        S.CANCELLED: (S.CANCELLING, S.CANCELLED),
    }
    return ends[status]


async def test_a_confirmed_order_tells_until_when_another_card_may_be_tried(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    until, now = utc_now() + timedelta(hours=1), utc_now()
    await advance(database, order, as_of=now, pay_until=until)
    await advance(database, order, after=4, as_of=now, pay_until=until)  # told again
    due = await record(database, order)
    assert (due.status, due.pay_until) == (S.CONFIRMED, until)
    assert due.outcome_so_far == due.kept_outcome
    told = [event for event in await events(database) if event["type"] == "OrderPaymentDue"]
    assert [(event["data"]["was_confirmed"], event["data"]["total"]["amount"]) for event in told] == [(True, "3.00")]
    await advance(database, order, S.SHIPPED, as_of=now + timedelta(seconds=1))
    assert (await record(database, order)).pay_until is None


async def test_a_late_word_does_not_ask_for_another_card_again(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    until, now = utc_now() + timedelta(hours=1), utc_now()
    await advance(database, order, as_of=now, pay_until=until)
    await advance(database, order, as_of=now + timedelta(seconds=2))
    await advance(database, order, as_of=now + timedelta(seconds=1), pay_until=until)
    assert (await record(database, order)).pay_until is None
    assert (await event_types(database)).count("OrderPaymentDue") == 1


@pytest.mark.parametrize(
    ("capture_at", "words"), [(CaptureAt.CONFIRMATION, "Payment taken"), (CaptureAt.DISPATCH, "Payment authorised")]
)
async def test_an_order_keeps_when_its_money_is_taken(database: Database, capture_at: CaptureAt, words: str) -> None:
    order = new_order().model_copy(update={"capture_at": capture_at})
    await commands.accept_order(database, order)
    await advance(database, order, *TO_CONFIRMED)
    row = await record(database, order)
    assert row.is_paid_at == capture_at
    assert CurrentOrderView.of(row).capture_at == capture_at
    assert words in [entry.what for entry in row.timeline()]


async def test_an_order_of_before_that_could_be_said_is_paid_when_it_is_confirmed(database: Database) -> None:
    order = await stored(database, *TO_CONFIRMED)
    async with changing(database) as work:
        row = await work.get(Order, order.order_id)
        assert row is not None
        row.capture_at = None
    assert (await record(database, order)).is_paid_at == CaptureAt.CONFIRMATION
