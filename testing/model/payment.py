"""Money: one payment for each order and attempt, and the ledger of all that moved."""

from dataclasses import dataclass, field
from uuid import UUID, uuid5

from chassis.clients import Unavailable
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.ids import ORDERS
from contracts.money import Money
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment

FINAL = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED})


@dataclass
class Paid:
    """One payment. Without a customer it is a refund that came first: it forbids the late charge."""

    status: PaymentStatus
    amount: Money
    customer_id: UUID | None = None
    wants_capture: bool = True
    review: tuple[str, ...] = ()
    captured: Money | None = None
    refunded: Money | None = None


@dataclass
class Bank:
    """What the card processor answers next, other than "yes"."""

    declines: bool = False
    holds: bool = False
    """It answers "authorized", and wants a review."""


@dataclass
class Payments:
    """The payment service."""

    bank: Bank = field(default_factory=Bank)
    review: tuple[str, ...] = ()
    """Why a new payment is only held, in plain words; none if it is taken."""
    payments: dict[tuple[UUID, int], Paid] = field(default_factory=dict)

    def ask(self, command: ProcessPayment) -> Paid:
        """The payment's row, written before the processor is asked. Refusals: validation_failed, conflict."""
        amount = command.amount
        if amount.minor < 1 or Money.from_minor(amount.minor, amount.currency) != amount:
            raise Refusal(
                ErrorCode.VALIDATION_FAILED, "The amount must be positive, in whole units of its currency's smallest coin."
            )
        new = Paid(PaymentStatus.INITIATED, amount, command.customer_id, command.capture and not self.review, self.review)
        payment = self.payments.setdefault((command.order_id, command.attempt), new)
        if payment.customer_id is not None and (payment.customer_id, payment.amount) != (command.customer_id, amount):
            raise Refusal(ErrorCode.CONFLICT, "This attempt to pay the order was made with another amount or customer.")
        return payment

    def process(self, command: ProcessPayment) -> contract.Payment:
        """Refusals: payment_declined, payment_reversed, conflict, validation_failed."""
        payment = self.ask(command)
        if payment.status == PaymentStatus.INITIATED:
            if self.bank.declines:
                payment.status = PaymentStatus.DECLINED
            elif self.bank.holds or not payment.wants_capture:
                payment.status = PaymentStatus.AUTHORIZED
            else:
                payment.status, payment.captured = PaymentStatus.CAPTURED, payment.amount
        return self._taken(command.order_id, command.attempt)

    def capture(self, command: CapturePayment) -> contract.Payment:
        """Refusals: payment_declined, payment_reversed, not_found."""
        payment = self.payments.get((command.order_id, command.attempt))
        if payment is None:
            raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order and attempt.")
        if payment.status == PaymentStatus.INITIATED:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        if payment.status == PaymentStatus.AUTHORIZED:
            if self.bank.declines:
                payment.status = PaymentStatus.DECLINED
            else:
                payment.status, payment.captured = PaymentStatus.CAPTURED, payment.amount
        return self._taken(command.order_id, command.attempt)

    def refund(self, command: RefundPayment) -> contract.Payment:
        """Refund what was captured, void what is held, forbid what has not arrived."""
        tombstone = Paid(PaymentStatus.VOIDED, Money.zero(command.currency))
        payment = self.payments.setdefault((command.order_id, command.attempt), tombstone)
        if payment.status == PaymentStatus.CAPTURED:
            payment.status, payment.refunded = PaymentStatus.REFUNDED, payment.amount
        elif payment.status not in FINAL:
            payment.status = PaymentStatus.VOIDED
        return self._reply(command.order_id, command.attempt)

    def net(self, order_id: UUID, currency: str) -> Money:
        """Captured - refunded of all attempts of an order."""
        total = Money.zero(currency)
        for (payer, _), payment in self.payments.items():
            if payer == order_id:
                total = total + (payment.captured or Money.zero(currency)) - (payment.refunded or Money.zero(currency))
        return total

    def _taken(self, order_id: UUID, attempt: int) -> contract.Payment:
        status = self.payments[order_id, attempt].status
        if status == PaymentStatus.DECLINED:
            raise Refusal(ErrorCode.PAYMENT_DECLINED, "The bank declined the payment.", extra={"decline_code": "card_declined"})
        if status in FINAL:
            raise Refusal(ErrorCode.PAYMENT_REVERSED, "The payment was reversed; nothing is or will be taken under it.")
        return self._reply(order_id, attempt)

    def _reply(self, order_id: UUID, attempt: int) -> contract.Payment:
        payment = self.payments[order_id, attempt]
        return contract.Payment(
            payment_id=uuid5(ORDERS, f"payment {order_id} {attempt}"),
            order_id=order_id,
            status=payment.status,
            amount=payment.amount,
            refunded=payment.refunded or Money.zero(payment.amount.currency),
            review=payment.review,
        )
