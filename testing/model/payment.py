"""Money: one payment for each order and attempt, and the ledger of all that moved."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from chassis.clients import Unavailable
from contracts import payments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.ids import ORDERS
from contracts.money import Money
from contracts.payment_actions import ActionKind, PaymentAction, TransferDetails
from contracts.payments import CapturePayment, GiveBack, GivenBack, PaymentStatus, ProcessPayment, RefundPayment, ReleaseHold

ACTIONS = {
    ActionKind.REDIRECT: PaymentAction(kind=ActionKind.REDIRECT, url="https://bank.example/confirm"),
    ActionKind.TRANSFER: PaymentAction(
        kind=ActionKind.TRANSFER,
        transfer=TransferDetails(recipient="The shop", iban="DE89370400440532013000", reference="RF18539007547034"),
    ),
}
"""What a bank wants of a customer."""
FLAGGED = "payment provider: it wants it to be looked at"
FINAL = frozenset({PaymentStatus.DECLINED, PaymentStatus.VOIDED, PaymentStatus.REFUNDED})


@dataclass
class Paid:
    """One attempt to pay; its sums are in minor units. Without a customer it is a refund that came first: it forbids the late
    charge."""

    amount: Money
    customer_id: UUID | None = None
    wants_capture: bool = True
    review: tuple[str, ...] = ()
    is_asked: bool = False
    """The processor has not answered yet."""
    action: PaymentAction | None = None
    """What its customer has to do first."""
    is_declined: bool = False
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    voided_minor: int = 0
    captures: dict[str, int] = field(default_factory=dict)
    """By key."""
    refunds: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """Refunds, by key, that the processor did not make: they are owed until somebody tries them again."""
    is_undone: bool = False
    """All of it is to go back: nothing else is given back of it from then on."""
    disputed_minor: int = 0
    """What its customer's bank has taken back, until that is decided or for good."""
    held_until: datetime | None = None
    received_minor: int = 0
    """What has come in for it by transfer."""
    owed_minor: int = 0
    """What has come in and is not for it: it is owed to whoever sent it."""

    @property
    def status(self) -> PaymentStatus:
        if self.is_asked:
            return PaymentStatus.INITIATED
        if self.action:
            return PaymentStatus.ACTION_REQUIRED
        if self.captured_minor > self.refunded_minor:
            return PaymentStatus.CAPTURED
        if self.held_minor:
            return PaymentStatus.AUTHORIZED
        if self.captured_minor:
            return PaymentStatus.REFUNDED
        return PaymentStatus.DECLINED if self.is_declined else PaymentStatus.VOIDED

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet whether anything is taken or held."""
        return self.is_asked or self.action is not None

    @property
    def held_minor(self) -> int:
        return self.authorized_minor - self.captured_minor - self.voided_minor

    @property
    def captured(self) -> Money:
        return self.money(self.captured_minor)

    @property
    def refunded(self) -> Money:
        return self.money(self.refunded_minor)

    @property
    def left_minor(self) -> int:
        """What was taken and is not given back, nor about to be."""
        return 0 if self.is_undone else self.captured_minor - self.refunded_minor

    def refund(self, key: str, minor: int) -> None:
        """Refusal: refund_failed."""
        if minor > self.captured_minor - self.refunded_minor - self.disputed_minor:
            self.refused[key] = minor
            self.require_refunded(key)
        self.refused.pop(key, None)
        self.refunds[key] = minor
        self.refunded_minor += minor

    def require_refunded(self, key: str) -> None:
        """Refusal: refund_failed, if the processor refused it."""
        if key in self.refused:
            detail = f"The payment provider does not give {self.money(self.refused[key])} back; it is still owed to the customer."
            raise Refusal(ErrorCode.REFUND_FAILED, detail, extra={"failure": "charge_disputed"})

    def money(self, minor: int) -> Money:
        return Money.from_minor(minor, self.amount.currency)

    def take(self, minor: int, *, is_last: bool) -> None:
        self.captured_minor += minor
        if is_last:
            self.voided_minor += self.held_minor


@dataclass
class Bank:
    """What the card processor answers next, other than "yes"."""

    declines: bool = False
    asks: ActionKind | None = None
    """It wants the customer to do something first, and declines where nobody is there."""
    confirms_late: bool = False
    """Its customer does that in the moment in which the payment is undone."""
    flags: bool = False
    """It does what it is asked, and wants somebody to look at it."""
    multi_capture: bool = True
    """It can take what it holds in several captures; if not, the first one is the last."""
    held_until: datetime | None = None
    """When it lets go of what it holds from now on, as it says; None: it says nothing."""


@dataclass
class Payments:
    """The payment service."""

    bank: Bank = field(default_factory=Bank)
    review: tuple[str, ...] = ()
    """Why a new payment is only held, in plain words; none if it is taken."""
    payments: dict[tuple[UUID, int], Paid] = field(default_factory=dict)
    asked: list[ProcessPayment] = field(default_factory=list)
    """What reached it."""
    watchers: list[Callable[[UUID, int], None]] = field(default_factory=list)
    """Who is told of an order's attempt to pay that its customer has confirmed, or refused to."""

    def ask(self, command: ProcessPayment) -> Paid:
        """The payment's row, written before the processor is asked. Refusals: validation_failed, conflict."""
        amount = command.amount
        _payable(amount)
        capture = command.capture and not self.review
        new = Paid(amount, command.customer_id, capture, self.review, is_asked=True)
        payment = self.payments.setdefault((command.order_id, command.attempt), new)
        if payment.customer_id is not None and (payment.customer_id, payment.amount) != (command.customer_id, amount):
            raise Refusal(ErrorCode.CONFLICT, "This attempt to pay the order was made with another amount or customer.")
        return payment

    def process(self, command: ProcessPayment) -> contract.Payment:
        """Refusals: payment_declined, payment_reversed, conflict, validation_failed."""
        payment = self.ask(command)
        self.asked.append(command)
        if payment.is_asked:
            payment.is_asked = False
            payment.is_declined = self.bank.declines or (self.bank.asks is not None and command.return_url is None)
            if not payment.is_declined and self.bank.asks:
                payment.action = ACTIONS[self.bank.asks]
                payment.wants_capture |= self.bank.asks == ActionKind.TRANSFER  # of which nothing can be held
            elif not payment.is_declined:
                self._charge(payment)
        reply = self._taken(command.order_id, command.attempt)
        if payment.review and command.attempt == 1 and reply.status == PaymentStatus.CAPTURED:  # is told as held
            reply = reply.model_copy(update={"status": PaymentStatus.AUTHORIZED})
        return reply

    def act(self, order_id: UUID, attempt: int, *, confirms: bool) -> None:
        """The customer confirms it, or refuses to. What waits for nobody stays as it is."""
        payment = self.payments.get((order_id, attempt))
        if payment is None or payment.action is None:
            return
        payment.action, payment.is_declined = None, not confirms
        if confirms:
            self._charge(payment)
        for watcher in self.watchers:
            watcher(order_id, attempt)

    def receive(self, order_id: UUID, attempt: int, minor: int) -> None:
        """The customer's transfer of so much has come in at the bank. What is too much, or too late, is not taken."""
        payment = self.payments[order_id, attempt]
        taken = min(minor, payment.amount.minor - payment.received_minor) if payment.action else 0
        payment.received_minor += taken
        payment.owed_minor += minor - taken
        if not taken:
            return
        if payment.received_minor == payment.amount.minor:
            payment.action = None
            self._charge(payment)
        else:
            payment.action = _with_received(ACTIONS[ActionKind.TRANSFER], payment.money(payment.received_minor))
        for watcher in self.watchers:
            watcher(order_id, attempt)

    def _charge(self, payment: Paid) -> None:
        payment.authorized_minor, payment.held_until = payment.amount.minor, self.bank.held_until
        if self.bank.flags:
            payment.review = (*payment.review, FLAGGED)
        if payment.wants_capture:
            payment.captured_minor = payment.amount.minor

    def capture(self, command: CapturePayment) -> contract.Payment:
        """Refusals: payment_declined, payment_reversed, not_found, not_held, conflict, validation_failed."""
        payment = self._known(command)
        if payment.is_open:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        if command.key in payment.captures:
            _require_same(command, payment.money(payment.captures[command.key]))
        elif command.amount is not None or payment.held_minor:
            if payment.status in FINAL:
                return self._taken(command.order_id, command.attempt)
            minor = payment.held_minor if command.amount is None else _of_same_currency(command.amount, payment)
            if minor > payment.held_minor:
                raise Refusal(ErrorCode.NOT_HELD, "Less is held.")
            if self.bank.declines:
                payment.is_declined = True
                payment.voided_minor += payment.held_minor
                if payment.status != PaymentStatus.DECLINED:
                    raise Refusal(ErrorCode.NOT_HELD, "The bank has let go of what was held.")
            else:
                payment.captures[command.key] = minor
                payment.take(minor, is_last=command.is_last or not self.bank.multi_capture)
        if command.amount is None:
            return self._taken(command.order_id, command.attempt)
        self._require_not_declined(payment)
        return self._reply(command.order_id, command.attempt, command.amount)

    def refund(self, command: RefundPayment) -> contract.Payment:
        """Refund what was captured, void what is held, forbid what has not arrived; or give some of it back.

        Refusals: refund_failed; with an amount only: not_found, conflict, validation_failed."""
        if command.amount is not None:
            return self._refund_part(command, command.amount)
        payment = self.payments.setdefault((command.order_id, command.attempt), Paid(Money.zero(command.currency)))
        if payment.action and self.bank.confirms_late:
            self._charge(payment)
        elif payment.action:
            payment.owed_minor += payment.received_minor  # what had come in part is nobody's now but its sender's
        payment.is_asked, payment.action = False, None
        payment.voided_minor += payment.held_minor
        payment.is_undone = True
        if payment.disputed_minor and payment.captured_minor > payment.refunded_minor:
            payment.refused[command.key] = payment.captured_minor - payment.refunded_minor
            payment.require_refunded(command.key)
        payment.refused.pop(command.key, None)
        payment.refunded_minor = payment.captured_minor
        return self._reply(command.order_id, command.attempt)

    def dispute(self, order_id: UUID, attempt: int) -> None:
        """Its customer has the bank take back what was taken."""
        payment = self.payments[order_id, attempt]
        payment.disputed_minor = payment.captured_minor - payment.refunded_minor

    def decide_dispute(self, order_id: UUID, attempt: int, *, won: bool) -> None:
        """The bank decides whose that is. `won`: by the shop."""
        if won:
            self.payments[order_id, attempt].disputed_minor = 0

    def refund_again(self, order_id: UUID, attempt: int, key: str) -> None:
        """Somebody asks for a refund again that was refused. Refusal: refund_failed."""
        payment = self.payments[order_id, attempt]
        if key in payment.refused:
            payment.refund(key, payment.refused[key])

    def give_back(self, command: GiveBack) -> GivenBack:
        """Refusals: not_found, conflict, refund_failed, validation_failed."""
        attempts = sorted((attempt for order_id, attempt in self.payments if order_id == command.order_id), reverse=True)
        of_order = [self.payments[command.order_id, attempt] for attempt in attempts]
        if not of_order:
            raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order.")
        wanted = _of_same_currency(command.amount, of_order[0])
        by_key = [payment.refunds | payment.refused for payment in of_order]
        asked = [refunds[command.key] for refunds in by_key if command.key in refunds]
        if asked and sum(asked) != wanted:
            raise Refusal(ErrorCode.CONFLICT, "Another amount was asked for under this key.")
        if not asked:
            left = sum(payment.left_minor for payment in of_order)
            if wanted > left and any(payment.is_open for payment in of_order):
                raise Unavailable("It is not known yet whether more was taken; the charge must be repeated first.")
            if wanted > left:
                raise Refusal(ErrorCode.CONFLICT, "Less was taken and not given back.")
            for payment in of_order:
                minor = min(wanted, payment.left_minor)
                if minor:
                    wanted -= minor
                    with suppress(Refusal):
                        payment.refund(command.key, minor)
        for payment in of_order:
            payment.require_refunded(command.key)
        refunded = of_order[0].money(sum(payment.refunded_minor for payment in of_order))
        return GivenBack(order_id=command.order_id, amount=command.amount, refunded=refunded)

    def release(self, command: ReleaseHold) -> contract.Payment:
        """Let go of what is held and not taken. Refusal: not_found."""
        payment = self._known(command)
        if payment.is_open:
            raise Unavailable("It is not known yet whether the money is held; the charge must be repeated first.")
        payment.voided_minor += payment.held_minor
        return self._reply(command.order_id, command.attempt)

    def _refund_part(self, command: RefundPayment, amount: Money) -> contract.Payment:
        payment = self._known(command)
        if payment.is_open:
            raise Unavailable("It is not known yet whether the money was taken; the charge must be repeated first.")
        asked = payment.refunds | payment.refused
        if command.key in asked:
            _require_same(command, payment.money(asked[command.key]))
            payment.require_refunded(command.key)
        else:
            minor = _of_same_currency(amount, payment)
            if minor > payment.left_minor:
                raise Refusal(ErrorCode.CONFLICT, "Less was taken and not given back.")
            payment.refund(command.key, minor)
        return self._reply(command.order_id, command.attempt, amount)

    def expire(self, order_id: UUID, attempt: int) -> None:
        """The bank has held it long enough."""
        payment = self.payments[order_id, attempt]
        payment.voided_minor += payment.held_minor

    def held(self, order_id: UUID) -> int:
        """What is held and not taken, in minor units, by all attempts of an order."""
        return sum(payment.held_minor for (payer, _), payment in self.payments.items() if payer == order_id)

    def net(self, order_id: UUID, currency: str) -> Money:
        """Captured - refunded of all attempts of an order."""
        total = Money.zero(currency)
        for (payer, _), payment in self.payments.items():
            if payer == order_id:
                total = total + payment.captured - payment.refunded if payment.captured_minor else total
        return total

    def _known(self, command: CapturePayment | RefundPayment | ReleaseHold) -> Paid:
        payment = self.payments.get((command.order_id, command.attempt))
        if payment is None:
            raise Refusal(ErrorCode.NOT_FOUND, "No payment was asked for under this order and attempt.")
        return payment

    def _require_not_declined(self, payment: Paid) -> None:
        if payment.status == PaymentStatus.DECLINED:
            raise Refusal(ErrorCode.PAYMENT_DECLINED, "The bank declined the payment.", extra={"decline_code": "card_declined"})

    def _taken(self, order_id: UUID, attempt: int) -> contract.Payment:
        payment = self.payments[order_id, attempt]
        self._require_not_declined(payment)
        if payment.status in FINAL:
            raise Refusal(ErrorCode.PAYMENT_REVERSED, "The payment was reversed; nothing is or will be taken under it.")
        return self._reply(order_id, attempt)

    def _reply(self, order_id: UUID, attempt: int, moved: Money | None = None) -> contract.Payment:
        payment = self.payments[order_id, attempt]
        return contract.Payment(
            payment_id=uuid5(ORDERS, f"payment {order_id} {attempt}"),
            order_id=order_id,
            status=payment.status,
            amount=payment.amount,
            refunded=payment.refunded,
            captured=payment.captured,
            moved=moved,
            held_until=payment.held_until if payment.held_minor else None,
            review=payment.review,
            action=payment.action,
        )


def _with_received(action: PaymentAction, received: Money) -> PaymentAction:
    assert action.transfer is not None
    return action.model_copy(update={"transfer": action.transfer.model_copy(update={"received": received})})


def _payable(amount: Money) -> int:
    """In minor units. Refusal: validation_failed."""
    if amount.minor < 1 or Money.from_minor(amount.minor, amount.currency) != amount:
        raise Refusal(ErrorCode.VALIDATION_FAILED, "The amount must be positive, in whole units of its currency's smallest coin.")
    return amount.minor


def _of_same_currency(amount: Money, payment: Paid) -> int:
    if amount.currency != payment.amount.currency:
        raise Refusal(ErrorCode.CONFLICT, "The payment is in another currency.")
    return _payable(amount)


def _require_same(command: CapturePayment | RefundPayment, earlier: Money) -> None:
    """A repeated key must ask for the same. Refusal: conflict."""
    if command.amount is not None and command.amount != earlier:
        raise Refusal(ErrorCode.CONFLICT, "Another amount was asked for under this key.")
