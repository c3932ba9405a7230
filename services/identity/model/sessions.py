"""A login, and the refresh tokens that follow it."""

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts.events import SessionEnded
from services.identity.model import secret_tokens
from services.identity.model.tables import Table

REFRESH_TOKEN_LASTS = timedelta(days=30)
"""Counted from its last use."""
_SHARED_BYTES = 16


class EndReason(StrEnum):
    """Why a session ended; goes into `SessionEnded`."""

    LOGGED_OUT = "logged_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    ROLES_CHANGED = "roles_changed"
    USER_DISABLED = "user_disabled"
    ENDED_BY_OWNER = "ended_by_owner"
    ENDED_BY_ADMIN = "ended_by_admin"
    USER_FORGOTTEN = "user_forgotten"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105


class Session(Table, table=True):
    """One login. Its access tokens carry `session_id`. Each use of its refresh token replaces that; only the last one is good.

    A refresh token names its session and holds a secret that all of them share, so that an older one is known for what it is:
    somebody has a copy.
    """

    __tablename__ = "sessions"

    session_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    user_id: UUID = Field(foreign_key="users.user_id", index=True)
    shared_hash: str = Field(default="", max_length=64)
    token_hash: str = Field(default="", max_length=64)
    device: str = Field(default="", max_length=200)
    """What the client said it is (User-Agent)."""
    created_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    last_used_at: datetime = Field(default_factory=utc_now, sa_column=time_column())
    """When it gave out tokens last."""
    expires_at: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))
    ended_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True, index=True))
    ended_in: int | None = Field(default=None, sa_column=Column(BigInteger))
    """The database transaction that ended it: who asks what ended since he last asked misses none that committed late."""

    @property
    def is_live(self) -> bool:
        return self.ended_at is None and self.expires_at > utc_now()

    def end(self, reason: EndReason, transaction: int) -> SessionEnded:
        """It ends in this database transaction."""
        self.ended_at, self.ended_in = utc_now(), transaction
        return SessionEnded(customer_id=self.user_id, session_id=self.session_id, reason=reason)

    def forget_person(self) -> None:
        """Blank what the device said of itself."""
        self.device = ""

    def gave_out(self, token: str) -> bool:
        """Whether this is a refresh token of this session, the last one or an older one. Not just anybody who learnt the id of a
        session can end it."""
        return secret_tokens.fits(secret_tokens.secret_in(token, _SHARED_BYTES), self.shared_hash)

    def is_last(self, token: str) -> bool:
        """Whether this is the refresh token given out last."""
        return secret_tokens.fits(token, self.token_hash)

    def first_token(self) -> str:
        """The login's refresh token."""
        return self._new_token(secrets.token_bytes(_SHARED_BYTES))

    def next_token(self, last: str) -> str:
        """The refresh token that replaces the last one."""
        return self._new_token(secret_tokens.secret_in(last, _SHARED_BYTES))

    def _new_token(self, shared: bytes) -> str:
        """Only hashes are kept."""
        token = secret_tokens.new_token(self.session_id, shared)
        self.shared_hash, self.token_hash = secret_tokens.hash_of(shared), secret_tokens.hash_of(token)
        self.last_used_at = utc_now()
        self.expires_at = self.last_used_at + REFRESH_TOKEN_LASTS
        return token
