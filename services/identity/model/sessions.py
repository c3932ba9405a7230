"""The refresh tokens that follow one login."""

import base64
import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from services.identity.model.tables import Table

REFRESH_TOKEN_LASTS = timedelta(days=30)
"""Counted from its last use."""
_FAMILY_BYTES = 16


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


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
