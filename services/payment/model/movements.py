"""Movements of a payment's money: each is written down before the provider is asked for it, and settled by the answer."""

from datetime import datetime
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, CheckConstraint, UniqueConstraint
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from chassis.store import Aggregate
from contracts.money import Money
from contracts.payments import MovementKind, MovementState
from services.payment.model.ledger import Account, Balances
from services.payment.model.tables import Table

CHARGE = "charge"
"""The key of what the charge itself moved: it held the money, or took it at once."""

UNDO = "undo"
"""The key of what goes back when all of it does."""

PROVIDERS = "provider-"
"""How the keys begin of what was made at the provider."""


def base_of(key: str) -> str:
    """The key of a refund without the number of its tries: a refund that failed is tried again as another one, `undo:2`."""
    return key.partition(":")[0]


class Movement(Table, Aggregate, table=True):
    """Some money of one attempt that is to be held, taken, given back or let go, under a key of its own.

    PENDING until the provider has answered; a refund that the provider has accepted stays PENDING until it arrived, with
    `accepted_at`. SUCCEEDED and FAILED are its ends, but a refund that succeeded may fail days later.
    """

    __tablename__ = "movements"
    # Under one key the same money moves once; the database itself refuses the second time.
    __table_args__ = (
        UniqueConstraint("payment_id", "kind", "key"),
        CheckConstraint("amount_minor > 0", name="moves_something"),
    )

    movement_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    """Rises with time, so that it also sorts lists."""
    payment_id: UUID = Field(foreign_key="payments.payment_id")
    kind: MovementKind = Field(sa_column=enum_column(MovementKind))
    """Of a charge whose answer is not known yet, what was asked for: the provider may hold what was to be taken."""
    key: str = Field(max_length=80)
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    purpose: str | None = Field(default=None, max_length=500)
    """Why, in plain words."""
    state: MovementState = Field(default=MovementState.PENDING, sa_column=enum_column(MovementState))
    is_last: bool = False
    """Of a capture: whether what else is held is let go with it."""
    provider_id: str | None = Field(default=None, max_length=200)
    """The provider's own name for it, or for the charge if it has none for the movement."""
    failure: str | None = Field(default=None, max_length=100)
    """The provider's code for why it failed."""
    asked_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    accepted_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the provider said that it is under way."""
    settled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    @property
    def counts(self) -> bool:
        """Whether the money has moved, or is known to be under way."""
        return self.state == MovementState.SUCCEEDED or (self.is_pending and self.accepted_at is not None)

    @property
    def is_pending(self) -> bool:
        return self.state == MovementState.PENDING

    @property
    def is_unanswered(self) -> bool:
        """Whether it may or may not have been done: the provider is to be asked again under the same key."""
        return self.is_pending and self.accepted_at is None

    @property
    def is_made_at_provider(self) -> bool:
        """Whether nobody asked for it here, but somebody in the provider's dashboard."""
        return self.key.startswith(PROVIDERS)

    def is_of(self, kind: MovementKind, key: str) -> bool:
        return (self.kind, self.key) == (kind, key)

    def forget_person(self) -> None:
        """Blank the reason that somebody gave: it may name the customer."""
        self.purpose = None

    def balances(self) -> Balances:
        """What it has put on each account so far."""
        if not self.counts:
            return {}
        source, target = self._accounts()
        return {source: -self.amount_minor, target: self.amount_minor}

    def _accounts(self) -> tuple[Account, Account]:
        match self.kind:
            case MovementKind.AUTHORIZE:
                return Account.CUSTOMER, Account.HELD
            case MovementKind.CAPTURE:
                return Account.CUSTOMER if self.key == CHARGE else Account.HELD, Account.PROVIDER
            case MovementKind.REFUND:
                return Account.PROVIDER, Account.REFUNDING if self.is_pending else Account.CUSTOMER
            case MovementKind.VOID:
                return Account.HELD, Account.CUSTOMER
