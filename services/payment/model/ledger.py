"""The ledger in double entry: what moved between which accounts. Rows are only ever added, and the database sees to that."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from contracts.money import Money
from services.payment.model.tables import Table


class Account(StrEnum):
    """Where money is. Over all accounts it is always zero: what one has more, others have less."""

    CUSTOMER = "customer"
    """The customers' own. Below zero by what is held of it, taken, or on its way back."""
    HELD = "held"
    """Set aside for us on the customers' cards, and not taken yet."""
    PROVIDER = "provider"
    """What the provider has taken for us and not given back: captured - refunded. It is what the provider owes us."""
    REFUNDING = "refunding"
    """On its way from the provider back to customers: accepted there, and not known to have arrived."""


class LedgerEntry(Table, table=True):
    """One side of a movement: what an account has more (or, below zero, less). A movement's entries add up to zero, which the
    database checks at every commit. What is taken back, e.g. a refund that failed days later, is posted again the other way."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("amount_minor <> 0", name="moves_something"),
        Index("ix_ledger_entries_movement_id", "movement_id"),
    )

    entry_id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True))
    movement_id: UUID = Field(foreign_key="movements.movement_id")
    account: Account = Field(sa_column=enum_column(Account))
    amount_minor: int = Field(sa_type=BigInteger)
    currency: str = Field(max_length=3)
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    @property
    def amount(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)


Balances = Mapping[Account, int]
"""What a movement has put on each account, in minor units."""


def posted(movement_id: UUID, currency: str, before: Balances, after: Balances) -> list[LedgerEntry]:
    """The entries that bring a movement from one effect to another."""
    changes = {account: after.get(account, 0) - before.get(account, 0) for account in Account}
    return [
        LedgerEntry(movement_id=movement_id, account=account, amount_minor=change, currency=currency)
        for account, change in changes.items()
        if change
    ]
