"""Bodies of payment's public endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, StringConstraints

from contracts.base import NO_CONTROLS, Contract, Reason, Request
from contracts.money import Money
from contracts.payments import MovementKind, MovementState, PaymentStatus
from services.payment.model import DebtKind, NewsState, OrderState
from services.payment.ports import DisputeState, NewsKind, ProviderMovementState, ProviderStatus

if TYPE_CHECKING:
    from services.payment.model import BankEntry, BankOrder, Debt, Dispute, LedgerEntry, Movement, NewsItem, Payment

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
Code = Annotated[str, StringConstraints(max_length=100, pattern=NO_CONTROLS)]
_STATES = {NewsKind.CHARGE: ProviderStatus, NewsKind.REFUND: ProviderMovementState, NewsKind.DISPUTE: DisputeState}


class PaymentView(Contract):
    """One attempt to pay one order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "payment_id": "01982f6a-0d0e-7c4e-9d56-0a5b1f3c7e21",
                    "order_id": "1c8f7f3a-4b7b-5a53-8d0e-6e6a2c1b9f10",
                    "attempt": 1,
                    "status": "DECLINED",
                    "amount": {"amount": "24.90", "currency": "USD"},
                    "authorized": {"amount": "0.00", "currency": "USD"},
                    "captured": {"amount": "0.00", "currency": "USD"},
                    "refunded": {"amount": "0.00", "currency": "USD"},
                    "held": {"amount": "0.00", "currency": "USD"},
                    "held_until": None,
                    "decline_code": "insufficient_funds",
                    "decline_reason": "The card has insufficient funds.",
                    "provider_reference": "1c8f7f3a-4b7b-5a53-8d0e-6e6a2c1b9f10-1",
                    "provider_id": None,
                    "created_at": "2026-03-01T12:00:00Z",
                    "updated_at": "2026-03-01T12:00:01Z",
                }
            ]
        }
    )

    payment_id: UUID
    order_id: UUID
    attempt: int
    status: PaymentStatus
    amount: Money
    authorized: Money
    """What was ever held, or taken at once."""
    captured: Money
    """All that was taken; what went back of it is `refunded`."""
    refunded: Money
    """What went back, or is on its way."""
    held: Money
    """What is still held and not taken."""
    held_until: datetime | None
    """When the provider lets go of what it holds, if it said so."""
    decline_code: str | None
    decline_reason: str | None
    provider_reference: str
    """Our name for it at the provider, as it stands on the provider's statements."""
    provider_id: str | None
    """The provider's own name for it."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, payment: "Payment") -> Self:
        return cls(
            payment_id=payment.payment_id,
            order_id=payment.order_id,
            attempt=payment.attempt,
            status=payment.status,
            amount=payment.amount,
            authorized=payment.authorized,
            captured=payment.captured,
            refunded=payment.refunded,
            held=payment.held,
            held_until=payment.held_until if payment.held_minor else None,
            decline_code=payment.decline_code,
            decline_reason=payment.decline_reason,
            provider_reference=payment.provider_reference,
            provider_id=payment.provider_id,
            created_at=payment.created_at,
            updated_at=payment.updated_at,
        )


class MovementView(Contract):
    """Some money of an attempt to pay that was to be held, taken, given back or let go."""

    movement_id: UUID
    kind: MovementKind
    key: str
    """Names it within its attempt: however often it was asked for, the money moved once."""
    amount: Money
    state: MovementState
    purpose: str | None
    """Why, in plain words."""
    provider_id: str | None
    """The provider's own name for it, or for the charge if it has none for the movement."""
    failure: str | None
    """The provider's code for why it failed."""
    asked_at: datetime
    accepted_at: datetime | None
    """When the provider said that it is under way, e.g. a refund that takes days."""
    settled_at: datetime | None

    @classmethod
    def of(cls, movement: "Movement") -> Self:
        return cls(
            movement_id=movement.movement_id,
            kind=movement.kind,
            key=movement.key,
            amount=movement.amount,
            state=movement.state,
            purpose=movement.purpose,
            provider_id=movement.provider_id,
            failure=movement.failure,
            asked_at=movement.asked_at,
            accepted_at=movement.accepted_at,
            settled_at=movement.settled_at,
        )


class PaymentDetail(PaymentView):
    """One attempt to pay, with the movements of its money."""

    movements: list[MovementView]
    """Oldest first; the first hundred. `/movements` has all of them."""


class TransactionView(Contract):
    """A movement of a payment's money that succeeded."""

    kind: str
    """`authorize`, `capture`, `refund` or `void`."""
    amount: Money
    provider_id: str | None
    at: datetime

    @classmethod
    def of(cls, movement: "Movement") -> Self:
        at = movement.settled_at or movement.asked_at
        return cls(kind=movement.kind, amount=movement.amount, provider_id=movement.provider_id, at=at)


class LedgerEntryView(Contract):
    """One side of a movement. All entries of a movement add up to zero."""

    entry_id: int
    movement_id: UUID
    payment_id: UUID
    order_id: UUID
    account: str
    """`customer`, `held`, `provider` or `refunding`."""
    amount: Money
    """What the account has more; below zero, less."""
    kind: MovementKind
    key: str
    at: datetime

    @classmethod
    def of(cls, entry: "LedgerEntry", movement: "Movement", order_id: UUID) -> Self:
        assert entry.entry_id is not None
        return cls(
            entry_id=entry.entry_id,
            movement_id=movement.movement_id,
            payment_id=movement.payment_id,
            order_id=order_id,
            account=entry.account,
            amount=entry.amount,
            kind=movement.kind,
            key=movement.key,
            at=entry.at,
        )


class NewsView(Contract):
    """What the provider told and could not be applied at once."""

    news_id: str
    type: NewsKind
    reference: str | None
    charge_id: str
    movement_id: str | None
    amount: Money
    told: str
    """The state that the provider told."""
    reason: str | None
    state: NewsState
    """WAITING: it is tried again; APPLIED; UNMATCHED: it fits nothing that we know."""
    occurred_at: datetime
    received_at: datetime

    @classmethod
    def of(cls, item: "NewsItem") -> Self:
        return cls(
            news_id=item.news_id,
            type=item.kind,
            reference=item.reference,
            charge_id=item.charge_id,
            movement_id=item.movement_id,
            amount=item.as_told.amount,
            told=item.told,
            reason=item.reason,
            state=item.state,
            occurred_at=item.occurred_at,
            received_at=item.received_at,
        )


class DisputeView(Contract):
    """A customer's bank has taken back what was paid, until it has decided whose it is."""

    dispute_id: UUID
    provider_id: str
    order_id: UUID
    payment_id: UUID
    amount: Money
    reason: str | None
    """The provider's code for why the customer disputes the charge."""
    state: DisputeState
    """`open`, `won` or `lost`, by the shop."""
    opened_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, dispute: "Dispute") -> Self:
        return cls(
            dispute_id=dispute.dispute_id,
            provider_id=dispute.provider_id,
            order_id=dispute.order_id,
            payment_id=dispute.payment_id,
            amount=dispute.amount,
            reason=dispute.reason,
            state=dispute.state,
            opened_at=dispute.opened_at,
            closed_at=dispute.closed_at,
        )


class DebtView(Contract):
    """What the shop owes, or has and cannot place, and the calls that settle it."""

    debt_id: UUID
    kind: DebtKind
    """`failed_refund`: it did not get to the customer. `lost_dispute`: the bank gave it to the customer, and the order still
    counts it as paid. `unmatched`: the provider, or the bank, tells of money that belongs to no payment of ours. `overpaid`: a
    customer transferred more than was asked for, or not in time."""
    order_id: UUID | None
    payment_id: UUID | None
    provider_reference: str | None
    amount: Money
    why: str
    """The provider's code. Of what came in at the bank: `no_reference`, `unknown_reference`, `other_currency`, `too_much`,
    `too_late`, `order_undone` (less than was asked for had come in) or `came_back`. The list of bank entries says who paid it."""
    since: datetime
    settle_with: list[str]
    """Calls, any of which settles it."""
    settled_at: datetime | None
    settled_how: str | None
    version: int

    @classmethod
    def of(cls, debt: "Debt") -> Self:
        calls = [f"POST /api/v1/payments/owed/{debt.debt_id}/settle"]
        if debt.kind == DebtKind.FAILED_REFUND:
            calls.insert(0, f"POST /api/v1/payments/{debt.payment_id}/refunds/{debt.key}/retry")
        return cls(
            debt_id=debt.debt_id,
            kind=debt.kind,
            order_id=debt.order_id,
            payment_id=debt.payment_id,
            provider_reference=debt.reference,
            amount=debt.amount,
            why=debt.why,
            since=debt.since,
            settle_with=calls if debt.settled_at is None else [],
            settled_at=debt.settled_at,
            settled_how=debt.settled_how,
            version=debt.version,
        )


class SettleDebtRequest(Request):
    """How it was settled outside, e.g. by a bank transfer; the reason is kept."""

    reason: Reason


class BankEntryView(Contract):
    """A credit to the shop's bank account."""

    entry_id: str
    """The bank's own reference; also the subject of what is owed of it."""
    amount: Money
    reference: str | None
    """Of the transfer that it is for."""
    taken: Money
    """What of it is for that; the rest is, or was, on the list of what is owed."""
    end_to_end_id: str | None
    """Of the order that came back with it, if it is that."""
    name: str | None
    iban: str | None
    words: str | None
    """What the payer wrote. Who paid is blank once the customer of the order is forgotten."""
    booked_at: datetime

    @classmethod
    def of(cls, entry: "BankEntry") -> Self:
        return cls(
            entry_id=entry.entry_id,
            amount=entry.amount,
            reference=entry.reference,
            taken=Money.from_minor(entry.taken_minor, entry.currency),
            end_to_end_id=entry.end_to_end_id,
            name=entry.name,
            iban=entry.iban,
            words=entry.words,
            booked_at=entry.booked_at,
        )


class BankOrderView(Contract):
    """An order to the shop's bank to give back some of a transfer."""

    end_to_end_id: str
    reference: str
    """Of the transfer."""
    amount: Money
    state: OrderState
    """`TO_SEND`: the bank does not know of it yet. `SUCCEEDED` may still become `FAILED`: it came back."""
    failure: str | None
    """The bank's code, e.g. `AC04`: the account is closed."""
    name: str | None
    iban: str | None
    """Of whom gets it, as long as the bank does not know of it."""
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, order: "BankOrder") -> Self:
        return cls(
            end_to_end_id=order.end_to_end_id,
            reference=order.reference,
            amount=order.amount,
            state=order.state,
            failure=order.failure,
            name=order.name,
            iban=order.iban,
            created_at=order.created_at,
            settled_at=order.settled_at,
        )


class StatementTaken(Contract):
    """What became of a statement."""

    entries: int
    """In it, that are booked."""
    new: int
    """Of them, that were not known."""
