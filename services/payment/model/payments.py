"""Payments: the table of the attempts to pay, and what the provider tells of one without being asked."""

from collections.abc import Sequence

from sqlalchemy import CheckConstraint, Index, UniqueConstraint

from contracts.events import PaymentAnswered
from contracts.money import Money
from contracts.payments import MovementKind, PaymentStatus
from services.payment.model.attempt import Change
from services.payment.model.captures import Captures
from services.payment.model.movements import CHARGE, Movement
from services.payment.model.refunds import Refunds
from services.payment.ports import ProviderCharge, ProviderStatus

_SAME = {
    ProviderStatus.DECLINED: PaymentStatus.DECLINED,
    ProviderStatus.VOIDED: PaymentStatus.VOIDED,
    ProviderStatus.REVERSED: PaymentStatus.VOIDED,
    ProviderStatus.REFUNDED: PaymentStatus.REFUNDED,
}
"""The provider's word, and ours for the same."""
EXPIRED = "expired"
"""The key of what was let go because the provider held it long enough."""


class Payment(Captures, Refunds, table=True):
    """One attempt to pay one order. Amounts in minor units (cents), as the provider counts.

    A payment reversed before it was asked for (the undo overtook the step) is a VOIDED row of zero without a customer: it forbids
    the late charge.
    """

    __tablename__ = "payments"
    __table_args__ = (
        UniqueConstraint("order_id", "attempt"),
        # Whatever a command got wrong: never taken above what was authorised, never given back above what was taken.
        CheckConstraint(
            "0 <= refunded_minor and refunded_minor <= captured_minor and 0 <= voided_minor"
            " and captured_minor + voided_minor <= authorized_minor and authorized_minor <= amount_minor",
            name="sums_within_bounds",
        ),
        Index("ix_payments_customer_id_payment_id", "customer_id", "payment_id"),
        Index("ix_payments_status_payment_id", "status", "payment_id"),
        Index("ix_payments_provider_id", "provider_id"),
        Index("ix_payments_customer_recent", "customer_id", "created_at"),
        Index("ix_payments_card_recent", "card_fingerprint", "created_at"),
        Index("ix_payments_address_recent", "address_fingerprint", "created_at"),
    )

    def settle_seen(self, movements: Sequence[Movement], seen: ProviderCharge) -> Change:
        """Learn where the provider says that the charge is. As long as a call is under way, its answer tells it better.
        Raises LedgerMismatch."""
        charge = next((row for row in movements if row.key == CHARGE), None)
        if self.is_undecided:
            return self._settle_seen_charge(charge, seen)
        change = Change()
        if any(row.is_unanswered for row in movements) or seen.status == ProviderStatus.AUTHORIZED or not self.held_minor:
            return change
        self._require_plausible(seen)
        self._find(change, MovementKind.VOID, EXPIRED, self.held_minor)
        return self._concluded(change, seen)

    def _settle_seen_charge(self, charge: Movement | None, seen: ProviderCharge) -> Change:
        if charge is None or seen.status == ProviderStatus.OPEN:
            return Change()
        was_waiting, before = self.status == PaymentStatus.ACTION_REQUIRED, self.action
        change = self.settle_charge(charge, seen)
        if was_waiting and (not self.is_undecided or self.action != before):
            change.events.append(PaymentAnswered(order_id=self.order_id, attempt=self.attempt))
        return change

    def agrees(self, status: ProviderStatus, captured: Money) -> bool:
        """Whether our books say the same of the charge."""
        return agree(self.status, self.captured_minor, self.held_minor, status, captured.minor)


def agree(ours: PaymentStatus, captured_minor: int, held_minor: int, theirs: ProviderStatus, taken_minor: int) -> bool:
    """Whether our books of a payment say what the provider says of its charge. Amounts in minor units. Pure."""
    if ours == PaymentStatus.ACTION_REQUIRED or taken_minor != captured_minor:
        return False
    if theirs == ProviderStatus.AUTHORIZED:
        return held_minor > 0
    if theirs == ProviderStatus.CAPTURED:
        return held_minor == 0 and ours == PaymentStatus.CAPTURED
    return ours == _SAME[theirs]
