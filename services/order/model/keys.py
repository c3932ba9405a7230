"""The keys under which what orders keep of a customer is encrypted in their histories: one for each customer."""

from datetime import datetime
from typing import Self
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, text
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts.keys import WrappedKey
from services.order.model.order import Table


class CustomerKey(Table, table=True):
    """The data key of one customer, wrapped by a master key. Once it is destroyed, nobody reads what was encrypted under it.

    The row stays: it says that the customer was forgotten, and no other key is made in its place.
    """

    __tablename__ = "customer_keys"
    __table_args__ = (
        CheckConstraint("(wrapped is null) = (destroyed_at is not null)", name="there_until_destroyed"),
        CheckConstraint("(wrapped is null) = (master_key_id is null)", name="wrapped_by_a_master_key"),
        Index(
            "ix_customer_keys_to_forget",
            "customer_id",
            postgresql_where=text("forget_requested_at is not null and forgotten_at is null"),
        ),
    )

    customer_id: UUID = Field(primary_key=True)
    """Or `contracts.keys.SHOP`, of the key for what belongs to no customer."""
    wrapped: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    """The key, encrypted under the master key; null: destroyed."""
    master_key_id: str | None = Field(max_length=100)
    """Which master key that is."""
    created_at: datetime = Field(sa_column=time_column())
    forget_requested_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when nothing new is encrypted under it, because its customer is to be forgotten."""
    destroyed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    forgotten_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when none of the customer's orders names a person, and the key is destroyed."""

    @classmethod
    def new(cls, key: WrappedKey) -> Self:
        """A key that was just made."""
        return cls(customer_id=key.customer_id, wrapped=key.wrapped, master_key_id=key.master_key_id, created_at=utc_now())

    @classmethod
    def none_for(cls, customer_id: UUID) -> Self:
        """In place of the key of a customer who is to be forgotten before there was one: none is made any more."""
        now = utc_now()
        return cls(customer_id=customer_id, wrapped=None, master_key_id=None, created_at=now, destroyed_at=now)

    @property
    def takes_orders(self) -> bool:
        """Whether anything new may be encrypted under it."""
        return self.forget_requested_at is None and self.destroyed_at is None

    def as_wrapped(self) -> WrappedKey:
        """As the worker is given it."""
        return WrappedKey(
            customer_id=self.customer_id,
            wrapped=self.wrapped,
            master_key_id=self.master_key_id,
            takes_orders=self.takes_orders,
        )

    def wrap_again(self, key: WrappedKey) -> None:
        """The same key, wrapped by another master key. One that was destroyed stays so."""
        if self.destroyed_at is None:
            self.wrapped, self.master_key_id = key.wrapped, key.master_key_id

    def ask_to_forget(self) -> None:
        """Its customer is to be forgotten: no order is taken any more. To repeat it changes nothing."""
        if self.forget_requested_at is None:
            self.forget_requested_at = utc_now()

    def forget(self) -> None:
        """Every order of its customer has ended and names nobody: nobody needs to read their histories again."""
        self.destroy()
        self.forgotten_at = utc_now()

    def destroy(self) -> None:
        """For ever. To repeat it changes nothing."""
        if self.destroyed_at is None:
            self.wrapped, self.master_key_id, self.destroyed_at = None, None, utc_now()
