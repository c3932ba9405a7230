"""The rules of a payment, without I/O."""

from uuid import uuid4

import pytest

from contracts.errors import ErrorCode, Refusal
from contracts.events import PaymentFailed, PaymentProcessed, RefundProcessed
from contracts.money import Money
from contracts.payments import PaymentStatus, RefundPayment
from services.payment.model import FINAL, NEXT, STALE, LedgerMismatch, Payment, TransactionKind
from services.payment.ports import Decline, ProviderCharge, ProviderStatus
from tests.services.payment.conftest import CARD, pay

AMOUNT = Money.model_validate({"amount": "12.50", "currency": "USD"})


def payment(status: PaymentStatus = PaymentStatus.INITIATED) -> Payment:
    asked = Payment.asked(pay(), CARD)
    asked.status = status
    return asked


def says(status: ProviderStatus, amount: Money | None = AMOUNT) -> ProviderCharge:
    return ProviderCharge(status, "ch_1", amount)


@pytest.mark.parametrize(("amount", "currency"), [("0", "USD"), ("-1.00", "USD"), ("1.005", "USD"), ("1.5", "JPY")])
def test_an_amount_that_no_coin_can_pay_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(Refusal) as refused:
        Payment.asked(pay(amount=amount, currency=currency), CARD)
    assert refused.value.code == ErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize(("amount", "currency", "minor"), [("12.50", "USD", 1250), ("300", "JPY", 300), ("1.234", "KWD", 1234)])
def test_amounts_are_kept_in_the_currency_s_own_minor_unit(amount: str, currency: str, minor: int) -> None:
    asked = Payment.asked(pay(amount=amount, currency=currency), CARD)
    assert asked.amount_minor == minor
    assert asked.amount == Money.model_validate({"amount": amount, "currency": currency})


def test_every_pair_of_statuses_is_followed_passed_over_or_a_mismatch() -> None:
    for ours in PaymentStatus:
        for theirs in ProviderStatus:
            row = payment(ours)
            if ours in FINAL or (ours, theirs) in STALE:
                change = row.settle(says(theirs))
                assert (row.status, change.transactions, change.events) == (ours, [], [])
            elif (ours, theirs) in NEXT:
                row.settle(says(theirs))
                assert row.status == NEXT[ours, theirs][0]
            else:
                with pytest.raises(LedgerMismatch):
                    row.settle(says(theirs))
                assert row.status == ours


def test_a_capture_that_we_hear_of_with_its_refund_is_in_the_ledger_and_told() -> None:
    row = payment()
    change = row.settle(says(ProviderStatus.REFUNDED))
    assert [item.kind for item in change.transactions] == [TransactionKind.CAPTURE, TransactionKind.REFUND]
    assert [type(event) for event in change.events] == [PaymentProcessed, RefundProcessed]
    assert row.refunded == AMOUNT


def test_a_decline_says_why() -> None:
    row = payment()
    decline = Decline("insufficient_funds", "The card has insufficient funds.")
    [event] = row.settle(ProviderCharge(ProviderStatus.DECLINED, decline=decline)).events
    assert isinstance(event, PaymentFailed)
    assert event.reason == "The card has insufficient funds."
    with pytest.raises(Refusal) as refused:
        row.taken()
    assert refused.value.code == ErrorCode.PAYMENT_DECLINED
    assert refused.value.extra == {"decline_code": "insufficient_funds"}


def test_a_bank_that_declines_the_capture_lets_the_hold_go() -> None:
    row = payment(PaymentStatus.AUTHORIZED)
    change = row.settle(ProviderCharge(ProviderStatus.DECLINED, decline=Decline("expired_card", "")))
    assert [item.kind for item in change.transactions] == [TransactionKind.VOID]
    assert [type(event) for event in change.events] == [PaymentFailed]
    assert row.decline_reason == "The bank declined the payment."


def test_another_amount_at_the_provider_is_never_recorded() -> None:
    row = payment()
    with pytest.raises(LedgerMismatch):
        row.settle(says(ProviderStatus.CAPTURED, Money.model_validate({"amount": "12.51", "currency": "USD"})))
    assert row.status == PaymentStatus.INITIATED


def test_a_tombstone_forbids_the_charge() -> None:
    row = Payment.tombstone(RefundPayment(order_id=uuid4(), reason="cancelled"))
    assert row.is_final
    with pytest.raises(Refusal) as refused:
        row.taken()
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED
