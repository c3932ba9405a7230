"""The rules of a payment, without I/O."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from chassis.clients import Unavailable
from chassis.clock import utc_now
from contracts.errors import ErrorCode, Refusal
from contracts.events import PaymentAnswered, PaymentFailed, PaymentProcessed, RefundProcessed
from contracts.money import Money
from contracts.payments import (
    ActionKind,
    CapturePayment,
    MovementKind,
    MovementState,
    PaymentAction,
    PaymentStatus,
    RefundPayment,
)
from services.payment.model import FINAL, UNDECIDED, Account, Change, LedgerMismatch, Movement, Payment
from services.payment.ports import (
    Capabilities,
    Decline,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderStatus,
)
from tests.services.payment.conftest import OPENED, pay

AMOUNT = Money.model_validate({"amount": "12.50", "currency": "USD"})
NOTHING = Money.zero()
BANK = "https://bank.example/confirm"
_S, _P, _K = PaymentStatus, ProviderStatus, MovementKind
CHARGED: dict[ProviderStatus, tuple[PaymentStatus, list[MovementKind]]] = {
    _P.ACTION_REQUIRED: (_S.ACTION_REQUIRED, []),
    _P.AUTHORIZED: (_S.AUTHORIZED, [_K.AUTHORIZE]),
    _P.CAPTURED: (_S.CAPTURED, [_K.CAPTURE]),
    _P.DECLINED: (_S.DECLINED, []),
    _P.VOIDED: (_S.VOIDED, [_K.AUTHORIZE, _K.VOID]),
    _P.REFUNDED: (_S.REFUNDED, [_K.CAPTURE, _K.REFUND]),
    _P.REVERSED: (_S.VOIDED, []),
}
"""What follows from what the provider says of a charge."""
UNDONE: dict[tuple[PaymentStatus, ProviderStatus], tuple[PaymentStatus, list[MovementKind]]] = {
    (_S.AUTHORIZED, _P.DECLINED): (_S.DECLINED, [_K.VOID]),
    (_S.AUTHORIZED, _P.VOIDED): (_S.VOIDED, [_K.VOID]),
    (_S.AUTHORIZED, _P.REFUNDED): (_S.REFUNDED, [_K.CAPTURE, _K.REFUND]),
    (_S.CAPTURED, _P.REFUNDED): (_S.REFUNDED, [_K.REFUND]),
}
"""The same of its reversal. All else cannot be."""


def payment(status: PaymentStatus = PaymentStatus.INITIATED) -> tuple[Payment, list[Movement]]:
    """One that has come so far, and its movements."""
    row = Payment.asked(pay(), OPENED)
    charge = row.charge(capture=True)
    found = {
        _S.ACTION_REQUIRED: _P.ACTION_REQUIRED,
        _S.AUTHORIZED: _P.AUTHORIZED,
        _S.CAPTURED: _P.CAPTURED,
        _S.DECLINED: _P.DECLINED,
        _S.VOIDED: _P.REVERSED,
        _S.REFUNDED: _P.REFUNDED,
    }
    if status in found:
        row.settle_charge(charge, says(found[status]))
    assert row.status == status
    return row, [charge]


def says(status: ProviderStatus, amount: Money | None = AMOUNT) -> ProviderCharge:
    taken = amount if status in (_P.CAPTURED, _P.REFUNDED) else NOTHING
    refunded = amount if status == _P.REFUNDED else NOTHING
    action = PaymentAction(kind=ActionKind.REDIRECT, url=BANK) if status == _P.ACTION_REQUIRED else None
    return ProviderCharge(status, "pi_1", amount, action=action, captured=taken, refunded=refunded)


def undone(row: Payment, movements: list[Movement], answer: ProviderCharge) -> Change:
    command = RefundPayment(order_id=row.order_id, reason="cancelled")
    new, _ = row.undo(command, movements)
    return row.settle_undo([*movements, *new], answer, command)


@pytest.mark.parametrize(("amount", "currency"), [("0", "USD"), ("-1.00", "USD"), ("1.005", "USD"), ("1.5", "JPY")])
def test_an_amount_that_no_coin_can_pay_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(Refusal) as refused:
        Payment.asked(pay(amount=amount, currency=currency), OPENED)
    assert refused.value.code == ErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize(("amount", "currency", "minor"), [("12.50", "USD", 1250), ("300", "JPY", 300), ("1.234", "KWD", 1234)])
def test_amounts_are_kept_in_the_currency_s_own_minor_unit(amount: str, currency: str, minor: int) -> None:
    asked = Payment.asked(pay(amount=amount, currency=currency), OPENED)
    assert asked.amount_minor == minor
    assert asked.amount == Money.model_validate({"amount": amount, "currency": currency})


@pytest.mark.parametrize("ours", PaymentStatus)
@pytest.mark.parametrize("theirs", [status for status in ProviderStatus if status != _P.OPEN])
def test_whatever_the_provider_says_is_followed_passed_over_or_a_mismatch(ours: PaymentStatus, theirs: ProviderStatus) -> None:
    row, movements = payment(ours)
    change = row.settle_charge(movements[0], says(theirs))
    if ours in UNDECIDED:
        assert (row.status, [item.kind for item in change.moved]) == CHARGED[theirs]
    else:  # it is known already
        assert (row.status, change.moved, change.events, change.entries) == (ours, [], [], [])

    row, movements = payment(ours)
    if ours in UNDECIDED:
        undone(row, movements, says(theirs))
        assert row.status == CHARGED[theirs][0]
    elif ours in FINAL:
        assert undone(row, movements, says(theirs)).moved == []
        assert row.status == ours
    elif theirs in (_P.AUTHORIZED, _P.CAPTURED):
        pass  # no answer to a reversal, see the port
    elif (ours, theirs) in UNDONE:
        change = undone(row, movements, says(theirs))
        assert (row.status, [item.kind for item in change.moved]) == UNDONE[ours, theirs]
    else:
        with pytest.raises(LedgerMismatch):
            undone(row, movements, says(theirs))
        assert row.status == ours


@pytest.mark.parametrize("ours", PaymentStatus)
def test_a_charge_of_which_no_bank_was_asked_is_no_answer(ours: PaymentStatus) -> None:
    row, movements = payment(ours)
    if ours in UNDECIDED:
        with pytest.raises(Unavailable):
            row.settle_charge(movements[0], says(_P.OPEN))
    else:
        row.settle_charge(movements[0], says(_P.OPEN))
    assert row.status == ours


def test_what_the_customer_has_to_do_is_told_until_it_is_done() -> None:
    row, movements = payment(_S.ACTION_REQUIRED)
    assert (row.reply().action, row.taken().status) == (says(_P.ACTION_REQUIRED).action, _S.ACTION_REQUIRED)
    assert row.settle_seen(movements, says(_P.ACTION_REQUIRED)).events == []
    events = row.settle_seen(movements, says(_P.CAPTURED)).events
    assert [type(event) for event in events] == [PaymentProcessed, PaymentAnswered]
    assert (row.reply().action, row.settle_seen(movements, says(_P.CAPTURED)).events) == (None, [])


def test_a_charge_that_the_provider_flags_is_taken_and_to_be_reviewed() -> None:
    row, [charge] = payment()
    row.settle_charge(charge, replace(says(_P.CAPTURED), review="the payment provider wants it to be looked at"))
    assert (row.status, row.reply().review) == (_S.CAPTURED, ("the payment provider wants it to be looked at",))


def test_a_capture_that_we_hear_of_with_its_refund_is_in_the_ledger_and_told() -> None:
    row, [charge] = payment()
    change = row.settle_charge(charge, says(ProviderStatus.REFUNDED))
    assert [item.kind for item in change.moved] == [MovementKind.CAPTURE, MovementKind.REFUND]
    assert [type(event) for event in change.events] == [PaymentProcessed, RefundProcessed]
    assert row.refunded == AMOUNT
    assert [(entry.account, entry.amount_minor) for entry in change.entries] == [
        (Account.CUSTOMER, -1250), (Account.PROVIDER, 1250), (Account.CUSTOMER, 1250), (Account.PROVIDER, -1250),
    ]  # fmt: skip


def test_a_decline_says_why() -> None:
    row, [charge] = payment()
    decline = Decline("insufficient_funds", "The card has insufficient funds.")
    [event] = row.settle_charge(charge, ProviderCharge(ProviderStatus.DECLINED, decline=decline)).events
    assert isinstance(event, PaymentFailed)
    assert event.reason == "The card has insufficient funds."
    assert (charge.state, charge.failure) == (MovementState.FAILED, "insufficient_funds")
    with pytest.raises(Refusal) as refused:
        row.taken()
    assert refused.value.code == ErrorCode.PAYMENT_DECLINED
    assert refused.value.extra == {"decline_code": "insufficient_funds"}


def test_a_bank_that_declines_the_capture_lets_the_hold_go() -> None:
    row, movements = payment(PaymentStatus.AUTHORIZED)
    capture = row.capture(CapturePayment(order_id=row.order_id), movements, Capabilities(True, True))
    assert capture is not None
    failed = ProviderMovement(None, ProviderMovementState.FAILED, AMOUNT, "expired_card")
    answer = ProviderCharge(ProviderStatus.DECLINED, decline=Decline("expired_card", ""), movement=failed)
    change = row.settle_capture(capture, [*movements, capture], answer)
    assert [item.kind for item in change.moved] == [MovementKind.VOID]
    assert [type(event) for event in change.events] == [PaymentFailed]
    assert row.decline_reason == "The bank declined the payment."


def test_another_amount_at_the_provider_is_never_recorded() -> None:
    row, [charge] = payment()
    with pytest.raises(LedgerMismatch):
        row.settle_charge(charge, says(ProviderStatus.CAPTURED, Money.model_validate({"amount": "12.51", "currency": "USD"})))
    assert (row.status, charge.state) == (PaymentStatus.INITIATED, MovementState.PENDING)


def test_a_tombstone_forbids_the_charge() -> None:
    row = Payment.tombstone(RefundPayment(order_id=uuid4(), reason="cancelled"))
    assert row.is_final
    with pytest.raises(Refusal) as refused:
        row.taken()
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED


@pytest.mark.parametrize(
    ("state", "failure", "hours", "again"),
    [
        (MovementState.FAILED, "charge_disputed", 5, None),
        (MovementState.FAILED, "charge_disputed", 7, 12_50),
        (MovementState.FAILED, "nothing_left", 0, 12_50),
        (MovementState.SUCCEEDED, None, 0, 2_50),
    ],
)
def test_the_rest_of_an_undo_is_asked_for_unless_it_was_refused_a_short_while_ago(
    state: MovementState, failure: str | None, hours: int, again: int | None
) -> None:
    row, movements = payment(_S.CAPTURED)
    command = RefundPayment(order_id=row.order_id, reason="cancelled")
    [earlier], _ = row.undo(command, movements)
    earlier.state, earlier.failure, earlier.settled_at = state, failure, utc_now() - timedelta(hours=hours)
    row.refunded_minor = 10_00 if state == MovementState.SUCCEEDED else 0
    if again is None:
        with pytest.raises(Refusal) as refused:
            row.undo(command, [*movements, earlier])
        assert (refused.value.code, refused.value.extra) == (ErrorCode.REFUND_FAILED, {"failure": failure})
    else:
        [new], _ = row.undo(command, [*movements, earlier])
        assert (new.key, new.amount_minor) == ("undo:2", again)


def test_a_reversal_that_somebody_else_made_first_is_no_refund_that_failed() -> None:
    """The provider refuses the second of two; whose answer is recorded first is another question."""
    row, movements = payment(_S.CAPTURED)
    command = RefundPayment(order_id=row.order_id, reason="cancelled")
    [asked], _ = row.undo(command, movements)
    refused = ProviderMovement(None, ProviderMovementState.FAILED, AMOUNT, "charge_already_refunded")
    change = row.settle_undo([*movements, asked], replace(says(_P.REFUNDED), movement=refused), command)
    assert (asked.state, change.failed, row.status) == (MovementState.SUCCEEDED, [], _S.REFUNDED)


def test_what_went_back_after_all_is_found_beside_the_refund_that_failed() -> None:
    row, movements = payment(_S.CAPTURED)
    command = RefundPayment(order_id=row.order_id, reason="cancelled")
    [asked], _ = row.undo(command, movements)
    refused = ProviderMovement(None, ProviderMovementState.FAILED, AMOUNT, "charge_disputed")
    row.settle_undo([*movements, asked], replace(says(_P.CAPTURED), movement=refused), command)
    assert (asked.state, row.status) == (MovementState.FAILED, _S.CAPTURED)
    change = row.settle_undo([*movements, asked], says(_P.REFUNDED), command)
    assert [(each.key, each.state) for each in change.found] == [("undo:2", MovementState.SUCCEEDED)]
    assert row.status == _S.REFUNDED
