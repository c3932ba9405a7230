"""Users, their logins and the guard against guessing: state, rules, and the events that tell of a change."""

import base64
import hashlib
import math
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import uuid_utils.compat as uuids
from sqlalchemy import ARRAY, Column, Integer, MetaData, Text
from sqlmodel import Field, SQLModel

from chassis.clock import utc_now
from chassis.database import new_metadata, time_column
from chassis.outbox import Outbox
from contracts.errors import ErrorCode, Refusal
from contracts.events import PasswordChanged, UserLoggedIn, UserRegistered
from contracts.identity import Role

metadata = new_metadata()
outbox = Outbox("identity", metadata)

REFRESH_TOKEN_LASTS = timedelta(days=30)
"""Counted from its last use."""
FAILURES_ALLOWED = 10
FAILURE_WINDOW = timedelta(minutes=15)
_FAMILY_BYTES = 16
_version = Column("version", Integer, nullable=False)


class Table(SQLModel):
    metadata: ClassVar[MetaData] = metadata


class User(Table, table=True):
    """A person with an account. `user_id` grows with time, and is the customer's id everywhere else."""

    __tablename__ = "users"

    user_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    email: str = Field(max_length=254, unique=True)
    """Normalised: e-mails that differ in case only are one account."""
    name: str = Field(max_length=200)
    password_hash: str = Field(max_length=200)
    roles: list[str] = Field(default_factory=lambda: [Role.CUSTOMER.value], sa_column=Column(ARRAY(Text), nullable=False))
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    version: int = Field(default=1, sa_column=_version)

    __mapper_args__: ClassVar[dict[str, Any]] = {"version_id_col": _version}

    def registered(self) -> UserRegistered:
        """The event that tells of a new user."""
        return UserRegistered(customer_id=self.user_id, email=self.email, name=self.name)

    def log_in(self, seen_hash: str, kept_hash: str) -> UserLoggedIn:
        """The password fitted `seen_hash`. Refusal: invalid_credentials (it was changed in the meantime)."""
        self._require_unchanged(seen_hash)
        self.password_hash = kept_hash
        return UserLoggedIn(customer_id=self.user_id)

    def change_password(self, seen_hash: str, new_hash: str) -> PasswordChanged:
        """The old password fitted `seen_hash`. Refusal: invalid_credentials (it was changed in the meantime)."""
        self._require_unchanged(seen_hash)
        self.password_hash = new_hash
        return PasswordChanged(customer_id=self.user_id)

    def set_roles(self, roles: Iterable[Role], *, by: UUID, version: int) -> None:
        """Refusals: stale_version, conflict (admins keep their own admin role, so that one is always left)."""
        if version != self.version:
            raise Refusal(ErrorCode.STALE_VERSION, "Somebody else changed it first; read it again and retry.")
        wanted = sorted({role.value for role in roles})
        if by == self.user_id and Role.ADMIN not in wanted:
            raise Refusal(ErrorCode.CONFLICT, "Another admin must take your admin role from you.")
        self.roles = wanted

    def _require_unchanged(self, seen_hash: str) -> None:
        if self.password_hash != seen_hash:
            raise wrong_credentials()


class RefreshFamily(Table, table=True):
    """The refresh tokens that follow one login: each use replaces the token, and only the last one is good.

    A token names its family, so that an older one is known for what it is: somebody has a copy.
    """

    __tablename__ = "refresh_families"

    family_id: UUID = Field(default_factory=uuid4, primary_key=True)
    user_id: UUID = Field(foreign_key="users.user_id", index=True)
    token_hash: str = Field(default="", max_length=64)
    expires_at: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))
    revoked_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @staticmethod
    def id_in(token: str) -> UUID | None:
        """The family that a token names; None if it is no token of ours."""
        try:
            return UUID(bytes=base64.urlsafe_b64decode(token)[:_FAMILY_BYTES])
        except ValueError:
            return None

    @property
    def is_live(self) -> bool:
        return self.revoked_at is None and self.expires_at > utc_now()

    def is_last(self, token: str) -> bool:
        """Whether this is the token given out last."""
        return secrets.compare_digest(self.token_hash, _hash(token))

    def next_token(self) -> str:
        """Replace the token; only its hash is kept."""
        token = base64.urlsafe_b64encode(self.family_id.bytes + secrets.token_bytes(32)).decode()
        self.token_hash, self.expires_at = _hash(token), utc_now() + REFRESH_TOKEN_LASTS
        return token

    def revoke(self) -> None:
        """No token of it is good any more."""
        self.revoked_at = self.revoked_at or utc_now()


class LoginGuard(Table, table=True):
    """Failed logins of one e-mail in one window, whether it has an account or not: the answers do not tell."""

    __tablename__ = "login_guards"

    email: str = Field(primary_key=True, max_length=254)
    failures: int = 0
    since: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))

    def check(self) -> None:
        """Refusal: rate_limited, until the window has passed."""
        left = (self.since + FAILURE_WINDOW - utc_now()).total_seconds()
        if self.failures >= FAILURES_ALLOWED and left > 0:
            raise Refusal(
                ErrorCode.RATE_LIMITED, "Too many failed logins; wait before the next.", extra={"retry_after": math.ceil(left)}
            )

    def count_failure(self) -> None:
        """One more; a window that has passed is forgotten."""
        now = utc_now()
        if self.since + FAILURE_WINDOW <= now:
            self.failures, self.since = 0, now
        self.failures += 1


def wrong_credentials() -> Refusal:
    """The same for an unknown e-mail and for a wrong password."""
    return Refusal(ErrorCode.INVALID_CREDENTIALS, "The e-mail or the password is wrong.")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
