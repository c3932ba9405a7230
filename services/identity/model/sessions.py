"""A login, and the refresh tokens that follow it."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from services.identity.model import secret_tokens
from services.identity.model.tables import Table

REFRESH_TOKEN_LASTS = timedelta(days=30)
"""Counted from its last use."""


class EndReason(StrEnum):
    """Why a session ended; goes into `SessionEnded`."""

    LOGGED_OUT = "logged_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    ROLES_CHANGED = "roles_changed"
    USER_DISABLED = "user_disabled"
    ENDED_BY_OWNER = "ended_by_owner"
    ENDED_BY_ADMIN = "ended_by_admin"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105


class Session(Table, table=True):
    """One login. Its access tokens carry `session_id`; each use of its refresh token replaces that, and only the last one is good.

    A refresh token names its session, so that an older one is known for what it is: somebody has a copy.
    """

    __tablename__ = "sessions"

    session_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    user_id: UUID = Field(foreign_key="users.user_id", index=True)
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

    def is_last(self, token: str) -> bool:
        """Whether this is the refresh token given out last."""
        return secret_tokens.fits(token, self.token_hash)

    def next_token(self) -> str:
        """Replace the refresh token; only its hash is kept."""
        token = secret_tokens.new_token(self.session_id)
        self.token_hash, self.last_used_at = secret_tokens.hash_of(token), utc_now()
        self.expires_at = self.last_used_at + REFRESH_TOKEN_LASTS
        return token
