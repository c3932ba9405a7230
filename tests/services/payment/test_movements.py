"""Money in movements: taken and given back in parts, each under a key; never more than there is, whatever happens at once."""

import asyncio
from decimal import Decimal
from functools import partial

import asyncpg
import pytest
from pydantic import SecretStr
from sqlmodel import select

from chassis.clients import HttpSession, Unavailable
from chassis.database import Database
from chassis.statements import sql
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.payments import CapturePayment, MovementKind, MovementState, PaymentStatus, ProcessPayment, RefundPayment
from services.payment import commands
from services.payment.adapters import StripePayments
from services.payment.model import Account, LedgerEntry
from tests.conftest import changing, eventually
from tests.services.payment.conftest import (
    API_KEY,
    Simulator,
    assert_books_agree,
    events_of,
    ledger_of,
    movements_of,
    news_of,
    pay,
    persist,
    refund_of,
)


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


def part(payment: ProcessPayment, amount: str, key: str, *, is_last: bool = False) -> CapturePayment:
    return CapturePayment(order_id=payment.order_id, amount=usd(amount), key=key, is_last=is_last, purpose=f"{key} has left")


def back(payment: ProcessPayment, amount: str, key: str) -> RefundPayment:
    return RefundPayment(order_id=payment.order_id, amount=usd(amount), key=key, reason=f"{key} is lost")


async def held(database: Database, provider: StripePayments, token: str = "pm_card_visa") -> ProcessPayment:
    payment = pay(token, capture=False)
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.AUTHORIZED
    return payment


async def refused(call: object) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await call  # type: ignore[misc]
    return refusal.value


async def test_what_is_held_is_taken_parcel_by_parcel(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = await held(database, provider)
    for _ in range(2):  # a repeated command joins its movement
        first = await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
        assert (first.status, first.moved, first.captured) == (PaymentStatus.CAPTURED, usd("5.00"), usd("5.00"))
        assert first.held_until is not None
    last = await commands.capture_payment(database, provider, part(payment, "6.00", "parcel-2", is_last=True))
    assert (last.status, last.moved, last.captured, last.held_until) == (
        PaymentStatus.CAPTURED,
        usd("6.00"),
        usd("11.00"),
        None,
    )
    assert await ledger_of(database, payment.order_id) == [
        ("authorize", "12.50 USD"), ("capture", "5.00 USD"), ("capture", "6.00 USD"), ("void", "1.50 USD"),
    ]  # fmt: skip
    told = [(event["type"], event["data"]["amount"]["amount"]) for event in await events_of(database, payment.order_id)]
    assert told == [("PaymentInitiated", "12.50"), ("PaymentProcessed", "5.00"), ("PaymentProcessed", "6.00")]
    more = await refused(commands.capture_payment(database, provider, part(payment, "0.01", "parcel-3")))
    assert (more.code, more.extra["held"]) == (ErrorCode.NOT_HELD, {"amount": "0.00", "currency": "USD"})
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 1100}


async def test_the_same_key_with_another_amount_is_a_conflict(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    again = commands.capture_payment(database, provider, part(payment, "5.01", "parcel-1"))
    assert (await refused(again)).code == ErrorCode.CONFLICT
    await commands.refund_payment(database, provider, back(payment, "2.00", "parcel-1"))
    again = commands.refund_payment(database, provider, back(payment, "2.01", "parcel-1"))
    assert (await refused(again)).code == ErrorCode.CONFLICT
    await assert_books_agree(database, simulator)


async def test_never_more_is_taken_than_is_held_nor_more_given_back_than_was_taken(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    too_much = commands.capture_payment(database, provider, part(payment, "12.51", "parcel-1"))
    assert (await refused(too_much)).code == ErrorCode.NOT_HELD
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    assert (await refused(commands.refund_payment(database, provider, back(payment, "5.01", "a")))).code == ErrorCode.CONFLICT
    some = await commands.refund_payment(database, provider, back(payment, "3.00", "a"))
    assert (some.status, some.moved, some.refunded) == (PaymentStatus.CAPTURED, usd("3.00"), usd("3.00"))
    assert (await refused(commands.refund_payment(database, provider, back(payment, "2.01", "b")))).code == ErrorCode.CONFLICT
    rest = await commands.refund_payment(database, provider, back(payment, "2.00", "b"))
    assert (rest.status, rest.refunded) == (PaymentStatus.AUTHORIZED, usd("5.00"))  # 7.50 are still held
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}


async def test_a_payment_of_another_currency_or_of_nothing_is_refused(database: Database, provider: StripePayments) -> None:
    payment = await held(database, provider)
    euros = part(payment, "1.00", "a").model_copy(update={"amount": Money(amount=Decimal(1), currency="EUR")})
    assert (await refused(commands.capture_payment(database, provider, euros))).code == ErrorCode.CONFLICT
    for amount in ("0", "-1.00", "0.001"):
        wrong = commands.capture_payment(database, provider, part(payment, amount, "a"))
        assert (await refused(wrong)).code == ErrorCode.VALIDATION_FAILED
    nobody = pay()
    assert (await refused(commands.refund_payment(database, provider, back(nobody, "1.00", "a")))).code == ErrorCode.NOT_FOUND


async def test_a_provider_without_multi_capture_takes_the_first_part_and_lets_go_of_the_rest(
    database: Database, http: HttpSession, simulator: Simulator
) -> None:
    provider = StripePayments(http, simulator.url, SecretStr(API_KEY), multi_capture=False)
    payment = await held(database, provider)
    first = await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    assert (first.status, first.moved, first.held_until) == (PaymentStatus.CAPTURED, usd("5.00"), None)
    second = part(payment, "7.50", "parcel-2", is_last=True)
    for _ in range(2):
        assert (await refused(commands.capture_payment(database, provider, second))).code == ErrorCode.NOT_HELD
    anew = payment.model_copy(update={"attempt": 2, "amount": usd("7.50"), "capture": True})
    assert (await commands.process_payment(database, provider, anew)).status == PaymentStatus.CAPTURED
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 500, f"{payment.order_id}-2": 750}


async def test_an_undo_after_parts_gives_back_what_is_left_and_lets_go_of_the_rest(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    await commands.refund_payment(database, provider, back(payment, "2.00", "line-1"))
    for _ in range(2):
        undone = await commands.refund_payment(database, provider, refund_of(payment))
        assert (undone.status, undone.refunded, undone.moved) == (PaymentStatus.REFUNDED, usd("5.00"), None)
    assert sorted(await ledger_of(database, payment.order_id)) == [
        ("authorize", "12.50 USD"), ("capture", "5.00 USD"), ("refund", "2.00 USD"), ("refund", "3.00 USD"), ("void", "7.50 USD"),
    ]  # fmt: skip
    late = await refused(commands.capture_payment(database, provider, part(payment, "1.00", "parcel-2")))
    assert late.code == ErrorCode.PAYMENT_REVERSED
    again = await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    assert again.moved == usd("5.00")  # what was answered once is answered again
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}


async def test_an_unknown_answer_stays_pending_and_is_asked_again_under_its_key(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    calls = {
        "capture": partial(commands.capture_payment, database, provider, part(payment, "5.00", "parcel-1")),
        "refund": partial(commands.refund_payment, database, provider, back(payment, "2.00", "line-1")),
    }
    for call in calls.values():
        for fault in ("fail_next", "lose_replies_next"):
            await simulator.faults(**{fault: 1})
            with pytest.raises(Unavailable):
                await call()
            [*_, asked] = await movements_of(database, payment.order_id)
            assert (asked.state, asked.settled_at) == (MovementState.PENDING, None)
        assert (await call()).moved is not None
    assert [row.state for row in await movements_of(database, payment.order_id)] == 3 * [MovementState.SUCCEEDED]
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 300}


@pytest.mark.parametrize("fault", ["fail_next", "lose_replies_next"])
async def test_an_undo_learns_what_became_of_movements_that_nobody_had_an_answer_to(
    database: Database, provider: StripePayments, simulator: Simulator, fault: str
) -> None:
    capture, refund = await held(database, provider), await held(database, provider)
    await commands.capture_payment(database, provider, part(refund, "5.00", "parcel-1"))
    await simulator.faults(**{fault: 1})
    with pytest.raises(Unavailable):
        await commands.capture_payment(database, provider, part(capture, "5.00", "parcel-1"))
    await simulator.faults(**{fault: 1})
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, back(refund, "2.00", "line-1"))
    for payment in (capture, refund):
        undone = await commands.refund_payment(database, provider, refund_of(payment))
        assert undone.status == (PaymentStatus.VOIDED if (fault, payment) == ("fail_next", capture) else PaymentStatus.REFUNDED)
    ended = [*await movements_of(database, capture.order_id), *await movements_of(database, refund.order_id)]
    unanswered = [row for row in ended if row.key in ("parcel-1", "line-1") and row.state == MovementState.FAILED]
    assert len(unanswered) == (2 if fault == "fail_next" else 0)
    assert set((await assert_books_agree(database, simulator)).values()) == {0}


async def test_a_refund_that_takes_days_is_on_its_way(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = pay("pm_card_pendingRefund")
    await simulator.faults(refund_ms=60_000)
    paid = await commands.process_payment(database, provider, payment)
    for _ in range(2):
        going = await commands.refund_payment(database, provider, back(payment, "2.00", "line-1"))
        assert (going.moved, going.refunded) == (usd("2.00"), usd("2.00"))
    [_, refund] = await movements_of(database, payment.order_id)
    assert (refund.state, refund.accepted_at is not None) == (MovementState.PENDING, True)
    assert (await balances(database, payment))[Account.REFUNDING] == 200
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 1050}

    async def told_of(state: str, reason: str | None = None) -> None:
        told = await news_of(
            database, payment, "refund", state, "2.00", movement_id=refund.provider_id, key="line-1", reason=reason
        )
        await commands.apply_news(database, told)

    for _ in range(2):
        await told_of("succeeded")
    assert await balances(database, payment) == {Account.CUSTOMER: -1050, Account.PROVIDER: 1050}
    # Days later the customer's bank sends it back: it is owed again.
    for _ in range(2):
        await told_of("failed", "account_closed")
    assert await balances(database, payment) == {Account.CUSTOMER: -1250, Account.PROVIDER: 1250}
    told = await refused(commands.refund_payment(database, provider, back(payment, "2.00", "line-1")))
    assert (told.code, told.extra) == (ErrorCode.REFUND_FAILED, {"failure": "account_closed"})
    assert (await commands.process_payment(database, provider, payment)).refunded == paid.refunded


async def test_a_refund_that_the_provider_refuses_is_owed_and_never_tried_again_under_its_key(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_refund_refused")
    await commands.process_payment(database, provider, payment)
    for _ in range(2):
        told = await refused(commands.refund_payment(database, provider, back(payment, "2.00", "line-1")))
        assert (told.code, told.extra["failure"]) == (ErrorCode.REFUND_FAILED, "expired_or_canceled_card")
    for _ in range(2):
        told = await refused(commands.refund_payment(database, provider, refund_of(payment)))
        assert (told.code, told.extra["failure"]) == (ErrorCode.REFUND_FAILED, "expired_or_canceled_card")
    keys = [(row.key, row.state) for row in await movements_of(database, payment.order_id) if row.kind == MovementKind.REFUND]
    assert keys == [(key, MovementState.FAILED) for key in ("line-1", "undo")]
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 1250}


async def test_an_undo_that_is_tried_by_hand_is_made_once_though_its_first_answer_was_lost(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay()
    await commands.process_payment(database, provider, payment)
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, refund_of(payment))
    [_, asked] = await movements_of(database, payment.order_id)
    for _ in range(2):
        refund = await commands.refund_again(database, provider, asked.payment_id, "undo")
        assert (refund.key, refund.state) == ("undo", MovementState.SUCCEEDED)
    assert (await commands.refund_payment(database, provider, refund_of(payment))).refunded == payment.amount
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}


async def test_a_hold_that_expired_after_a_part_was_taken(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    (await simulator.http.post(f"/_dashboard/charges/{payment.order_id}-1/expire")).raise_for_status()
    for _ in range(2):
        late = await refused(commands.capture_payment(database, provider, part(payment, "7.50", "parcel-2")))
        assert (late.code, late.extra["failure"]) == (ErrorCode.NOT_HELD, "not_capturable")
    assert ("void", "7.50 USD") in await ledger_of(database, payment.order_id)
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 500}


async def test_parts_at_once_never_exceed_what_there_is(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    """Of ten that are three times too many together, as many go through as there is money for, and the others are refused."""
    for _ in range(3):
        payment = await held(database, provider)
        taking = [part(payment, "3.75", f"part-{n}") for n in range(10)]
        calls = [partial(commands.capture_payment, database, provider, command) for command in taking]
        answers = await asyncio.gather(*[persist(call, tries=200) for call in calls])
        assert [answer.code for answer in answers if isinstance(answer, Refusal)] == 7 * [ErrorCode.NOT_HELD]
        giving = [back(payment, "3.75", f"part-{n}") for n in range(10)]
        returns = [partial(commands.refund_payment, database, provider, command) for command in giving]
        answers = await asyncio.gather(*[persist(call, tries=200) for call in returns])
        assert [answer.code for answer in answers if isinstance(answer, Refusal)] == 7 * [ErrorCode.CONFLICT]
        assert (await assert_books_agree(database, simulator))[f"{payment.order_id}-1"] == 0


async def test_the_database_itself_keeps_sums_within_bounds_and_the_ledger_balanced_and_append_only(
    database: Database, provider: StripePayments
) -> None:
    payment = pay()
    await commands.process_payment(database, provider, payment)
    for column, value in (("captured_minor", 1251), ("refunded_minor", 1251), ("voided_minor", 1), ("authorized_minor", 1251)):
        with pytest.raises(asyncpg.CheckViolationError):
            async with changing(database) as work:
                await work.rows(sql(f"update payments set {column} = {value}"))
    for statement in (
        "update ledger_entries set amount_minor = 1",
        "delete from ledger_entries",
        "truncate ledger_entries",
    ):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            async with changing(database) as work:
                await work.rows(sql(statement))
    [movement] = await movements_of(database, payment.order_id)

    def entry(account: Account, minor: int) -> LedgerEntry:
        return LedgerEntry(movement_id=movement.movement_id, account=account, amount_minor=minor, currency="USD")

    with pytest.raises(asyncpg.CheckViolationError, match="do not add up to zero"):
        async with changing(database) as work:
            work.add(entry(Account.PROVIDER, 100))
    async with changing(database) as work:  # one after the other: it is looked at when all of it is there
        work.add(entry(Account.PROVIDER, 100))
        await work.write()
        work.add(entry(Account.CUSTOMER, -100))


async def balances(database: Database, payment: ProcessPayment) -> dict[Account, int]:
    """Of the accounts that are not empty."""
    ids = [row.movement_id for row in await movements_of(database, payment.order_id)]
    sums: dict[Account, int] = {}
    async with database.reading() as session:
        for entry in (await session.exec(select(LedgerEntry))).all():
            if entry.movement_id in ids:
                sums[entry.account] = sums.get(entry.account, 0) + entry.amount_minor
    return {account: minor for account, minor in sums.items() if minor}


async def test_a_capture_waits_for_others_on_which_it_depends(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await simulator.faults(fail_next=1)
    with pytest.raises(Unavailable):
        await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    with pytest.raises(Unavailable, match="under way"):
        await commands.capture_payment(database, provider, part(payment, "10.00", "parcel-2"))
    fits = await commands.capture_payment(database, provider, part(payment, "2.00", "parcel-3"))
    assert fits.moved == usd("2.00")
    await eventually(
        partial(_goes_through, database, provider, part(payment, "5.00", "parcel-1")), what="the capture that was asked for first"
    )
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 700}


async def _goes_through(database: Database, provider: StripePayments, command: CapturePayment) -> bool:
    return (await commands.capture_payment(database, provider, command)).moved == command.amount
