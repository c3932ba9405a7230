"""An amount goes back of an order, whichever attempt took it; and what is held and not taken is let go."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from chassis.clients import Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.payments import (
    CapturePayment,
    GiveBack,
    GivenBack,
    MovementState,
    PaymentStatus,
    ProcessPayment,
    RefundPayment,
    ReleaseHold,
)
from services.payment import commands
from services.payment.adapters import StripePayments
from services.payment.model import Movement, Payment, refunds_for
from tests.services.payment.conftest import (
    OPENED,
    Simulator,
    assert_books_agree,
    events_of,
    ledger_of,
    movements_of,
    pay,
    persist,
    refund_of,
)
from tests.services.payment.test_movements import back, held, part, refused, usd
from tests.services.payment.test_races import ORDERS, interleave


def give(payment: ProcessPayment, amount: str, key: str = "return-1") -> GiveBack:
    return GiveBack(order_id=payment.order_id, amount=usd(amount), key=key, reason="return 1")


def release(payment: ProcessPayment) -> ReleaseHold:
    return ReleaseHold(order_id=payment.order_id, attempt=payment.attempt, reason="attempt 2 holds it")


async def taken(
    database: Database, provider: StripePayments, tokens: Sequence[str] = ("pm_card_visa", "pm_card_visa")
) -> ProcessPayment:
    """An order of which each attempt took 12.50."""
    first = pay(tokens[0])
    for number, token in enumerate(tokens, 1):
        attempt = first.model_copy(update={"attempt": number, "payment_token": f"{token}_{uuid4().hex[:8]}"})
        await commands.process_payment(database, provider, attempt)
    return first


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(number: int, captured: int, refunded: int = 0, *, status: PaymentStatus = PaymentStatus.CAPTURED) -> Payment:
    payment = Payment.asked(pay().model_copy(update={"attempt": number}), OPENED)
    payment.authorized_minor = payment.captured_minor = captured
    payment.refunded_minor, payment.status = refunded, status
    return payment


def shares(
    minor: int, attempts: Sequence[Payment], movements: Sequence[Movement] = (), key: str = "return-1"
) -> list[tuple[int, int]]:
    """Of which attempt how much goes back."""
    command = GiveBack(order_id=uuid4(), amount=Money.from_minor(minor, "USD"), key=key, reason="test")
    of_each = {payment.payment_id: [row for row in movements if row.payment_id == payment.payment_id] for payment in attempts}
    return [(payment.attempt, row.amount_minor) for payment, row in refunds_for(command, attempts, of_each)]


@pytest.mark.parametrize(
    ("minor", "expected"),
    [(1, [(3, 1)]), (400, [(3, 400)]), (500, [(3, 400), (2, 100)]), (1400, [(3, 400), (2, 500), (1, 500)])],
)
def test_the_newest_attempts_give_back_first(minor: int, expected: list[tuple[int, int]]) -> None:
    assert shares(minor, [attempt(1, 1000, 500), attempt(2, 500), attempt(3, 900, 500)]) == expected


def test_more_than_is_left_is_refused_and_what_depends_on_others_waits() -> None:
    rich, poor = attempt(1, 1000), attempt(2, 100)
    under_way = rich.refund_of(600, "other", "test")
    assert shares(500, [rich, poor], [under_way]) == [(2, 100), (1, 400)]
    with pytest.raises(Unavailable, match="under way"):
        shares(501, [rich, poor], [under_way])
    with pytest.raises(Refusal) as refusal:
        shares(1101, [rich, poor], [under_way])
    assert refusal.value.code == ErrorCode.CONFLICT
    with pytest.raises(Unavailable, match="not known yet"):
        shares(1101, [rich, poor, attempt(3, 0, status=PaymentStatus.INITIATED)], [under_way])


def test_an_attempt_that_is_undone_gives_nothing_back() -> None:
    undone, other = attempt(2, 1000), attempt(1, 300)
    undone.undo(RefundPayment(order_id=undone.order_id, reason="test"), [])
    assert shares(300, [undone, other]) == [(1, 300)]
    with pytest.raises(Refusal):
        shares(301, [undone, other])


def test_what_a_key_gave_back_before_is_not_given_back_again() -> None:
    first, second = attempt(1, 1000), attempt(2, 100)
    earlier = [first.refund_of(400, "return-1", "test"), second.refund_of(100, "return-1", "test")]
    earlier[0].state = MovementState.FAILED
    assert shares(500, [first, second], earlier) == [(2, 100), (1, 400)]
    with pytest.raises(Refusal, match="Another amount"):
        shares(400, [first, second], earlier)


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_amount_goes_back_of_several_attempts_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await taken(database, provider)
    for _ in range(2):
        reply = await commands.give_back(database, provider, give(payment, "15.00"))
        assert reply == GivenBack(order_id=payment.order_id, amount=usd("15.00"), refunded=usd("15.00"))
    refunds = [event["data"] for event in await events_of(database, payment.order_id) if event["type"] == "RefundProcessed"]
    assert [(data["attempt"], data["amount"]["amount"], data["movement_key"]) for data in refunds] == [
        (2, "12.50", "return-1"),
        (1, "2.50", "return-1"),
    ]
    assert (await refused(commands.give_back(database, provider, give(payment, "14.00")))).code == ErrorCode.CONFLICT
    assert (await refused(commands.give_back(database, provider, give(payment, "10.01", "return-2")))).code == ErrorCode.CONFLICT
    assert (await refused(commands.give_back(database, provider, give(pay(), "1.00")))).code == ErrorCode.NOT_FOUND
    net = await assert_books_agree(database, simulator)
    assert net == {f"{payment.order_id}-1": 1000, f"{payment.order_id}-2": 0}


async def test_a_lost_answer_is_asked_for_again_under_the_same_reference(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await taken(database, provider)
    for switches in ({"lose_replies_next": 1}, {"fail_next": 1}):
        await simulator.faults(**switches)
        with pytest.raises(Unavailable):
            await commands.give_back(database, provider, give(payment, "15.00"))
        with pytest.raises(Unavailable, match="under way"):
            await commands.give_back(database, provider, give(payment, "10.01", "return-2"))
    assert (await commands.give_back(database, provider, give(payment, "15.00"))).refunded == usd("15.00")
    assert sum((await assert_books_agree(database, simulator)).values()) == 1000


async def test_a_refund_that_takes_days_counts_as_given_back(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    await simulator.faults(refund_ms=60_000)
    payment = await taken(database, provider, ["pm_card_pendingRefund"])
    for _ in range(2):
        assert (await commands.give_back(database, provider, give(payment, "5.00"))).refunded == usd("5.00")
    [refund] = [row for row in await movements_of(database, payment.order_id) if row.key == "return-1"]
    assert (refund.is_pending, refund.is_unanswered) == (True, False)


async def test_a_part_that_the_provider_refuses_is_owed_and_the_others_went_back(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await taken(database, provider, ["pm_card_visa", "pm_sim_refund_refused"])
    for _ in range(2):
        refusal = await refused(commands.give_back(database, provider, give(payment, "15.00")))
        assert refusal.code == ErrorCode.REFUND_FAILED
    [failed] = [row for row in await movements_of(database, payment.order_id, attempt=2) if row.key == "return-1"]
    assert (failed.state, failed.amount_minor) == (MovementState.FAILED, 1250)
    assert ("refund", "2.50 USD") in await ledger_of(database, payment.order_id)
    assert sum((await assert_books_agree(database, simulator)).values()) == 2250


async def test_what_is_held_and_not_taken_is_let_go_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.release_hold(database, provider, release(payment))
    with pytest.raises(Unavailable, match="under way"):
        await commands.capture_payment(database, provider, part(payment, "1.00", "parcel-2"))
    for _ in range(2):
        reply = await commands.release_hold(database, provider, release(payment))
        assert (reply.status, reply.captured, reply.held_until) == (PaymentStatus.CAPTURED, usd("5.00"), None)
    more = await refused(commands.capture_payment(database, provider, part(payment, "1.00", "parcel-2")))
    assert more.code == ErrorCode.NOT_HELD
    assert await ledger_of(database, payment.order_id) == [
        ("authorize", "12.50 USD"), ("capture", "5.00 USD"), ("void", "7.50 USD"),
    ]  # fmt: skip
    assert (await events_of(database, payment.order_id))[-1]["type"] == "PaymentProcessed"
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 500}


async def test_a_hold_of_which_nothing_was_taken_ends_as_voided(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    assert (await commands.release_hold(database, provider, release(payment))).status == PaymentStatus.VOIDED
    last = (await events_of(database, payment.order_id))[-1]
    assert (last["type"], last["data"]["amount"]["amount"]) == ("RefundProcessed", "0.00")
    assert (await refused(commands.release_hold(database, provider, release(pay())))).code == ErrorCode.NOT_FOUND
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}


async def test_a_hold_that_had_expired_is_let_go_without_a_fault(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
    await simulator.dashboard(f"charges/{payment.order_id}-1/expire")
    assert (await commands.release_hold(database, provider, release(payment))).status == PaymentStatus.CAPTURED
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 500}


async def test_an_undo_ends_a_release_that_nobody_had_an_answer_to(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    for switches in ({"lose_replies_next": 1}, {"fail_next": 1}):
        payment = await held(database, provider)
        await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
        await simulator.faults(**switches)
        with pytest.raises(Unavailable):
            await commands.release_hold(database, provider, release(payment))
        assert (await commands.refund_payment(database, provider, refund_of(payment))).status == PaymentStatus.REFUNDED
        assert (await commands.release_hold(database, provider, release(payment))).status == PaymentStatus.REFUNDED
        assert (await assert_books_agree(database, simulator))[f"{payment.order_id}-1"] == 0


# ── At once ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_release_and_a_capture_in_every_order(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    """What the one takes the other does not let go of, and both come to an end."""
    for order in ORDERS:
        payment = await held(database, provider)
        command = part(payment, "5.00", "parcel-1")
        captured, released = await interleave(
            provider,
            order,
            partial(commands.capture_payment, database, command=command),
            partial(commands.release_hold, database, command=release(payment)),
        )
        if isinstance(captured, Unavailable):
            captured = await persist(partial(commands.capture_payment, database, provider, command))
        if isinstance(released, Unavailable):
            released = await persist(partial(commands.release_hold, database, provider, release(payment)))
        assert not isinstance(released, Exception), order
        net = (await assert_books_agree(database, simulator))[f"{payment.order_id}-1"]
        if isinstance(captured, Refusal):
            assert (captured.code, net) == (ErrorCode.PAYMENT_REVERSED, 0)
        else:
            assert net == 500


async def test_a_release_and_an_undo_in_every_order(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    for order in ORDERS:
        payment = await held(database, provider)
        await commands.capture_payment(database, provider, part(payment, "5.00", "parcel-1"))
        undone, released = await interleave(
            provider,
            order,
            partial(commands.refund_payment, database, command=refund_of(payment)),
            partial(commands.release_hold, database, command=release(payment)),
        )
        assert undone.status == PaymentStatus.REFUNDED, order
        if isinstance(released, Unavailable):
            released = await persist(partial(commands.release_hold, database, provider, release(payment)))
        assert released.held_until is None, order
    assert set((await assert_books_agree(database, simulator)).values()) == {0}


async def test_whatever_goes_back_at_once_is_never_more_than_was_taken(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    """By the order and by each of its attempts, nearly three times too much together."""
    for _ in range(5):
        payment = await taken(database, provider)
        second = payment.model_copy(update={"attempt": 2})
        calls: list[Any] = [
            *[partial(commands.give_back, database, provider, give(payment, "5.00", f"return-{n}")) for n in range(6)],
            *[partial(commands.refund_payment, database, provider, back(payment, "5.00", f"parcel-{n}")) for n in range(4)],
            *[
                partial(
                    commands.refund_payment,
                    database,
                    provider,
                    back(second, "5.00", f"parcel-{n}").model_copy(update={"attempt": 2}),
                )
                for n in range(4)
            ],
        ]
        answers = await asyncio.gather(*[persist(call, tries=300) for call in calls])
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert {refusal.code for refusal in refusals} == {ErrorCode.CONFLICT}
        gone = 500 * (len(answers) - len(refusals))
        net = await assert_books_agree(database, simulator)
        assert net[f"{payment.order_id}-1"] + net[f"{payment.order_id}-2"] == 2500 - gone


async def test_a_dashboard_s_refund_that_nobody_knew_of_leaves_the_rest_owed(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await taken(database, provider, ["pm_card_visa"])
    await simulator.dashboard(f"charges/{payment.order_id}-1/refunds", amount=1000, reason="by hand")
    refusal = await refused(commands.give_back(database, provider, give(payment, "5.00")))
    assert (refusal.code, refusal.extra["failure"]) == (ErrorCode.REFUND_FAILED, "refund_refused")


async def test_the_same_command_at_once_gives_back_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await taken(database, provider)
    command = give(payment, "15.00")
    answers = await asyncio.gather(
        *[persist(partial(commands.give_back, database, provider, command), tries=100) for _ in range(6)]
    )
    assert {answer.amount for answer in answers if isinstance(answer, GivenBack)} == {usd("15.00")}
    assert not [answer for answer in answers if isinstance(answer, Refusal)]
    assert sum((await assert_books_agree(database, simulator)).values()) == 1000


async def test_a_release_waits_for_a_capture_on_which_it_depends(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await held(database, provider)
    command: CapturePayment = part(payment, "5.00", "parcel-1")
    await simulator.faults(fail_next=1)
    with pytest.raises(Unavailable):
        await commands.capture_payment(database, provider, command)
    with pytest.raises(Unavailable, match="under way"):
        await commands.release_hold(database, provider, release(payment))
    await commands.capture_payment(database, provider, command)
    assert (await commands.release_hold(database, provider, release(payment))).captured == usd("5.00")
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 500}
