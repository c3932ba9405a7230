"""A person with an account."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import ARRAY, Column, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from chassis.store import Aggregate
from contracts.errors import ErrorCode, Refusal
from contracts.events import (
    CustomerForgotten,
    EmailChanged,
    EmailVerified,
    PasswordChanged,
    RolesChanged,
    UserDisabled,
    UserEnabled,
    UserLoggedIn,
    UserRegistered,
)
from contracts.identity import Role
from services.identity.model.tables import Table

SHUT_OUT = "An admin shut the user out."


class User(Table, Aggregate, table=True):
    """A person with an account. `user_id` grows with time, and is the customer's id everywhere else.

    Anybody can open an account with any address; only one account can prove that the address is its own, and holds it then.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_verified_email", "email", unique=True, postgresql_where=text("email_verified_at is not null")),
    )

    user_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    email: str = Field(max_length=254)
    """Normalised: e-mails that differ in case only are one address."""
    email_verified_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    name: str = Field(max_length=200)
    phone: str | None = Field(default=None, max_length=20)
    addresses: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    """Each a `SavedAddress`."""
    language: str = Field(default="en", max_length=10)
    password_hash: str = Field(max_length=200)
    roles: list[str] = Field(default_factory=lambda: [Role.CUSTOMER.value], sa_column=Column(ARRAY(Text), nullable=False))
    warehouses: list[str] | None = Field(default=None, sa_column=Column(ARRAY(Text)))
    """Which warehouses a warehouse role is for; None is all."""
    disabled_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    forgotten_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when the account has ended for good: of its person nothing is left but the id."""

    def registered(self) -> UserRegistered:
        """The event that tells of a new user."""
        return UserRegistered(customer_id=self.user_id)

    @property
    def is_verified(self) -> bool:
        """Whether the account holds its address."""
        return self.email_verified_at is not None

    def verify_email(self) -> EmailVerified:
        """A link sent to the address was followed."""
        self.email_verified_at = utc_now()
        return EmailVerified(customer_id=self.user_id)

    def change_email(self, email: str) -> EmailChanged:
        """Links sent to both addresses were followed."""
        self.email, self.email_verified_at = email, utc_now()
        return EmailChanged(customer_id=self.user_id)

    def reset_password(self, new_hash: str) -> PasswordChanged:
        """A link sent to the address was followed."""
        self.password_hash = new_hash
        return PasswordChanged(customer_id=self.user_id)

    def change_profile(self, changes: Mapping[str, Any]) -> None:
        """Set name, phone, addresses or language."""
        for field, value in changes.items():
            setattr(self, field, value)

    def log_in(self, seen_hash: str, kept_hash: str) -> UserLoggedIn:
        """The password fitted `seen_hash`. Refusals: invalid_credentials (it was changed in the meantime), account_disabled."""
        self._require_unchanged(seen_hash)
        if self.disabled_at is not None:
            raise Refusal(ErrorCode.ACCOUNT_DISABLED, "This account was disabled; ask our support.")
        self.password_hash = kept_hash
        return UserLoggedIn(customer_id=self.user_id)

    def change_password(self, seen_hash: str, new_hash: str) -> PasswordChanged:
        """The old password fitted `seen_hash`. Refusal: invalid_credentials (it was changed in the meantime)."""
        self._require_unchanged(seen_hash)
        self.password_hash = new_hash
        return PasswordChanged(customer_id=self.user_id)

    @property
    def is_admin(self) -> bool:
        """Whether they may do now what admins may."""
        return Role.ADMIN in self.roles and self.disabled_at is None and not self.is_forgotten

    @property
    def is_forgotten(self) -> bool:
        """Whether the account has ended, and names nobody any more."""
        return self.forgotten_at is not None

    def set_roles(self, roles: Iterable[Role], warehouses: Iterable[str] | None, *, by: UUID) -> RolesChanged | None:
        """The event, if this changes anything. Refusal: conflict (admins keep their own admin role, so that one is always left;
        and whoever shall be staff must hold the address, which anybody could have entered)."""
        wanted = sorted({role.value for role in roles})
        scopes = None if warehouses is None else sorted(set(warehouses))
        if not self.is_verified and wanted != [Role.CUSTOMER]:
            raise Refusal(ErrorCode.CONFLICT, "The account's e-mail is not verified, so it may be anybody's.")
        self._require_person()
        if by == self.user_id and Role.ADMIN not in wanted:
            raise Refusal(ErrorCode.CONFLICT, "Another admin must take your admin role from you.")
        if (wanted, scopes) == (self.roles, self.warehouses):
            return None
        self.roles, self.warehouses = wanted, scopes
        return RolesChanged(
            customer_id=self.user_id, roles=tuple(map(Role, wanted)), warehouses=None if scopes is None else tuple(scopes), by=by
        )

    def disable(self, *, by: UUID) -> UserDisabled | None:
        """The event, unless they are disabled already. Refusal: conflict (not oneself, so that one admin is always left; nor one
        who is forgotten)."""
        if by == self.user_id:
            raise Refusal(ErrorCode.CONFLICT, "Another admin must disable your account.")
        self._require_person()
        if self.disabled_at is not None:
            return None
        self.disabled_at = utc_now()
        return UserDisabled(customer_id=self.user_id, by=by, reason=SHUT_OUT)

    def enable(self, *, by: UUID) -> UserEnabled | None:
        """The event, unless they are enabled already. Refusal: conflict, for a forgotten one."""
        self._require_person()
        if self.disabled_at is None:
            return None
        self.disabled_at = None
        return UserEnabled(customer_id=self.user_id, by=by)

    def end(self, seen_hash: str) -> CustomerForgotten | None:
        """The person wants to be forgotten, and the password fitted `seen_hash`. Refusals: invalid_credentials (it was changed in
        the meantime), conflict (an admin, so that one is always left)."""
        self._require_unchanged(seen_hash)
        return self.forget_person(by=self.user_id)

    def forget_person(self, *, by: UUID) -> CustomerForgotten | None:
        """Blank what names the person, and end the account for good; the event, unless that was done before. What is added to a
        user later and names a person belongs here. Refusal: conflict (admins do not end their own account)."""
        if self.is_forgotten:
            return None
        if by == self.user_id and Role.ADMIN in self.roles:
            raise Refusal(ErrorCode.CONFLICT, "Another admin must take your admin role from you, or end your account.")
        self.email, self.email_verified_at = "", None
        self.name, self.phone, self.addresses, self.language, self.password_hash = "", None, [], "en", ""
        self.forgotten_at = utc_now()
        return CustomerForgotten(customer_id=self.user_id, by=by)

    def _require_person(self) -> None:
        if self.is_forgotten:
            raise Refusal(ErrorCode.CONFLICT, "The account has ended, and its person is forgotten.")

    def _require_unchanged(self, seen_hash: str) -> None:
        if self.password_hash != seen_hash:
            raise wrong_credentials()


def wrong_credentials() -> Refusal:
    """The same for an unknown or unverified e-mail and for a wrong password."""
    return Refusal(ErrorCode.INVALID_CREDENTIALS, "The e-mail or the password is wrong.")


def unknown_user() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such user.")
