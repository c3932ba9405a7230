"""Payments against the real provider simulator and a real database: charged once, given back whole, whatever gets lost."""

import asyncio

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.payments import PaymentStatus
from services.payment import commands
from services.payment.adapters import StripePayments
from tests.conftest import eventually
from tests.services.payment.conftest import (
    API_KEY,
    Simulator,
    assert_books_agree,
    capture_of,
    event_types,
    events_of,
    ledger_of,
    pay,
    persist,
    refund_of,
)


async def test_a_card_is_charged(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = pay(amount="12.50")
    paid = await commands.process_payment(database, provider, payment)
    assert (paid.status, str(paid.amount), str(paid.refunded)) == (PaymentStatus.CAPTURED, "12.50 USD", "0.00 USD")
    charge = (await simulator.charges())[f"{payment.order_id}-1"]
    assert (charge.provider_id, charge.captured) == (paid.provider_id, 1250)
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]
    initiated, processed = await events_of(database, payment.order_id)
    assert (initiated["type"], processed["type"]) == ("PaymentInitiated", "PaymentProcessed")
    assert processed["data"] == {
        "order_id": str(payment.order_id),
        "payment_id": str(paid.payment_id),
        "amount": {"amount": "12.50", "currency": "USD"},
        "attempt": 1,
        "movement_key": "charge",
    }


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "Your card was declined."),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds", "Your card has insufficient funds."),
        ("pm_of_nobody", "invalid_card_token", "The card is not known, or cannot be used again."),
    ],
)
async def test_a_decline_is_an_answer_and_stays_one(
    database: Database, provider: StripePayments, simulator: Simulator, token: str, code: str, reason: str
) -> None:
    payment = pay(token)
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.process_payment(database, provider, payment)
        assert (refused.value.code, refused.value.detail) == (ErrorCode.PAYMENT_DECLINED, reason)
        assert refused.value.extra == {"decline_code": code}
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentFailed"]
    assert len(await simulator.listed("charges")) == (0 if code == "invalid_card_token" else 1)
    undone = await commands.refund_payment(database, provider, refund_of(payment))
    assert (undone.status, undone.refunded.minor) == (PaymentStatus.DECLINED, 0)


async def test_another_card_is_another_attempt(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    first = pay("pm_card_visa_chargeDeclined")
    with pytest.raises(Refusal):
        await commands.process_payment(database, provider, first)
    second = first.model_copy(update={"attempt": 2, "payment_token": "pm_card_visa"})
    assert (await commands.process_payment(database, provider, second)).status == PaymentStatus.CAPTURED
    net = await assert_books_agree(database, simulator)
    assert net == {f"{first.order_id}-1": 0, f"{first.order_id}-2": 1250}


async def test_the_same_attempt_with_another_amount_is_refused(database: Database, provider: StripePayments) -> None:
    payment = pay(amount="12.50")
    await commands.process_payment(database, provider, payment)
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, provider, payment.model_copy(update={"amount": pay(amount="1.00").amount}))
    assert refused.value.code == ErrorCode.CONFLICT


async def test_a_lost_reply_is_asked_for_again_and_charged_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_lost_reply")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    assert await event_types(database, payment.order_id) == ["PaymentInitiated"]
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.CAPTURED
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed"]
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 1250}


async def test_a_provider_that_answers_on_the_fourth_try(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_flaky")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await commands.process_payment(database, provider, payment)
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.CAPTURED
    await assert_books_agree(database, simulator)


async def test_an_answer_that_takes_too_long_is_unknown_and_charged_once(
    database: Database, http: HttpSession, simulator: Simulator
) -> None:
    await simulator.faults(slow_ms=1_000)
    hurried = StripePayments(http, simulator.url, SecretStr(API_KEY), timeout_s=0.1, retries=0)
    payment = pay("pm_sim_slow")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, hurried, payment)

    async def answered() -> bool:
        try:
            return (await commands.process_payment(database, hurried, payment)).status == PaymentStatus.CAPTURED
        except Unavailable:  # as long as the first request is under way
            return False

    await eventually(answered, what="the answer under the same key")
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 1250}


async def test_a_provider_that_is_gone_and_comes_back(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment, taken = pay(), pay()
    await commands.process_payment(database, provider, taken)
    await simulator.stop()
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, refund_of(taken))
    await simulator.start()
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.CAPTURED
    assert (await commands.refund_payment(database, provider, refund_of(taken))).status == PaymentStatus.REFUNDED
    net = await assert_books_agree(database, simulator)
    assert net == {f"{payment.order_id}-1": 1250, f"{taken.order_id}-1": 0}


async def test_20_identical_commands_at_once_are_one_charge(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay()
    replies = await asyncio.gather(*[commands.process_payment(database, provider, payment) for _ in range(20)])
    assert len(set(replies)) == 1
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed"]
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 1250}


async def test_20_refunds_at_once_give_back_once(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = pay()
    await commands.process_payment(database, provider, payment)
    replies = await asyncio.gather(*[commands.refund_payment(database, provider, refund_of(payment)) for _ in range(20)])
    assert {(reply.status, str(reply.refunded)) for reply in replies} == {(PaymentStatus.REFUNDED, "12.50 USD")}
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed", "RefundProcessed"]
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]
    await assert_books_agree(database, simulator)
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, provider, payment)
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED


async def test_a_payment_in_review_is_held_and_then_taken(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay(capture=False)
    for _ in range(2):
        held = await commands.process_payment(database, provider, payment)
        assert held.status == PaymentStatus.AUTHORIZED
    for _ in range(2):
        taken = await commands.capture_payment(database, provider, capture_of(payment))
        assert taken.status == PaymentStatus.CAPTURED
    assert await ledger_of(database, payment.order_id) == [("authorize", "12.50 USD"), ("capture", "12.50 USD")]
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed"]
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 1250}


async def test_a_hold_is_voided(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = pay(capture=False)
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.AUTHORIZED
    undone = await commands.refund_payment(database, provider, refund_of(payment))
    assert (undone.status, undone.refunded.minor) == (PaymentStatus.VOIDED, 0)
    *_, event = await events_of(database, payment.order_id)
    assert (event["type"], event["data"]["amount"]["amount"]) == ("RefundProcessed", "0.00")
    assert await ledger_of(database, payment.order_id) == [("authorize", "12.50 USD"), ("void", "12.50 USD")]
    with pytest.raises(Refusal) as refused:
        await commands.capture_payment(database, provider, capture_of(payment))
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED
    await assert_books_agree(database, simulator)


async def test_a_hold_that_the_provider_ended_cannot_be_taken(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay(capture=False)
    await commands.process_payment(database, provider, payment)
    await simulator.expire(payment)
    with pytest.raises(Refusal) as refused:
        await commands.capture_payment(database, provider, capture_of(payment))
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED
    assert await ledger_of(database, payment.order_id) == [("authorize", "12.50 USD"), ("void", "12.50 USD")]
    await assert_books_agree(database, simulator)


async def test_a_capture_whose_reply_is_lost_is_taken_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay(capture=False)
    await commands.process_payment(database, provider, payment)
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.capture_payment(database, provider, capture_of(payment))
    taken = await commands.capture_payment(database, provider, capture_of(payment))
    assert taken.status == PaymentStatus.CAPTURED
    await assert_books_agree(database, simulator)


async def test_a_capture_needs_a_known_hold(database: Database, provider: StripePayments) -> None:
    payment = pay("pm_sim_flaky")
    with pytest.raises(Refusal) as refused:
        await commands.capture_payment(database, provider, capture_of(payment))
    assert refused.value.code == ErrorCode.NOT_FOUND
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    with pytest.raises(Unavailable, match="not known yet"):
        await commands.capture_payment(database, provider, capture_of(payment))


async def test_an_undo_that_overtakes_its_charge_forbids_it(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay()
    for _ in range(2):
        undone = await commands.refund_payment(database, provider, refund_of(payment))
        assert (undone.status, undone.amount.minor) == (PaymentStatus.VOIDED, 0)
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, provider, payment)
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED
    assert await simulator.charges() == {}
    assert await event_types(database, payment.order_id) == []


async def test_an_undo_of_a_charge_whose_reply_was_lost_gives_the_money_back(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_lost_reply")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    await simulator.faults(lose_replies_next=1)
    undone = await persist(lambda: commands.refund_payment(database, provider, refund_of(payment)))
    assert not isinstance(undone, Refusal)
    assert (undone.status, str(undone.refunded)) == (PaymentStatus.REFUNDED, "12.50 USD")
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed", "RefundProcessed"]
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 0}


async def test_an_undo_of_a_charge_of_which_no_bank_was_asked_forbids_it(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_flaky")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    assert (await commands.refund_payment(database, provider, refund_of(payment))).status == PaymentStatus.VOIDED
    assert (await simulator.charges())[f"{payment.order_id}-1"].status == "reversed"
    await assert_books_agree(database, simulator)


async def test_a_charge_that_was_cancelled_in_the_dashboard(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_flaky")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    [intent] = await simulator.listed("payment_intents")
    (await simulator.http.post(f"/v1/payment_intents/{intent['id']}/cancel")).raise_for_status()
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.process_payment(database, provider, payment)
        assert refused.value.code == ErrorCode.PAYMENT_REVERSED
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "RefundProcessed"]
    await assert_books_agree(database, simulator)


async def test_an_undo_waits_while_the_provider_cannot_reverse(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay()
    await commands.process_payment(database, provider, payment)
    await simulator.faults(fail_reversals=True)
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, refund_of(payment))
    await simulator.faults(fail_reversals=False)
    assert (await commands.refund_payment(database, provider, refund_of(payment))).status == PaymentStatus.REFUNDED
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 0}


async def test_yen_have_no_cents(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = pay(amount="300", currency="JPY")
    await commands.process_payment(database, provider, payment)
    assert (await simulator.charges())[f"{payment.order_id}-1"].captured == 300
    undone = await commands.refund_payment(database, provider, refund_of(payment))
    assert str(undone.refunded) == "300 JPY"
    await assert_books_agree(database, simulator)


async def test_s4_an_undo_without_a_payment_is_in_the_orders_currency(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay(amount="300", currency="JPY")
    for _ in range(2):
        undone = await commands.refund_payment(database, provider, refund_of(payment))
        assert (undone.status, str(undone.amount), str(undone.refunded)) == (PaymentStatus.VOIDED, "0 JPY", "0 JPY")
        assert undone.refunded + payment.amount == payment.amount  # amounts of two currencies cannot be added
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, provider, payment)
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED
    assert await simulator.charges() == {}


@pytest.mark.parametrize(("amount", "currency"), [("12.50", "EUR"), ("300", "JPY"), ("1.234", "KWD")])
@pytest.mark.parametrize("capture", [True, False])
async def test_s4_whatever_is_undone_is_refunded_in_the_currency_that_was_asked_for(
    database: Database, provider: StripePayments, simulator: Simulator, amount: str, currency: str, capture: bool
) -> None:
    payment = pay(amount=amount, currency=currency, capture=capture)
    await commands.process_payment(database, provider, payment)
    undone = await commands.refund_payment(database, provider, refund_of(payment))
    assert undone.refunded == (payment.amount if capture else payment.amount - payment.amount)
    assert undone.refunded.currency == currency
    await assert_books_agree(database, simulator)


async def test_s10_the_money_for_a_lost_parcel_goes_back_by_the_same_command(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay(capture=False)
    await commands.process_payment(database, provider, payment)
    await commands.capture_payment(database, provider, capture_of(payment))
    for _ in range(2):
        undone = await commands.refund_payment(database, provider, refund_of(payment))
        assert (undone.status, undone.refunded) == (PaymentStatus.REFUNDED, payment.amount)
    assert (await assert_books_agree(database, simulator)) == {f"{payment.order_id}-1": 0}
