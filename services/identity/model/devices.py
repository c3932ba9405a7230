"""A device on which somebody logged in."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from services.identity.model import secret_tokens
from services.identity.model.tables import Table

DEVICES_KEPT = 10
"""Of one user: those used last."""


class Device(Table, table=True):
    """Its token proves that a right password was once given there: others' wrong guesses do not slow it down."""

    __tablename__ = "devices"

    device_id: UUID = Field(default_factory=uuid4, primary_key=True)
    user_id: UUID = Field(foreign_key="users.user_id", index=True)
    token_hash: str = Field(default="", max_length=64)
    last_used_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    def new_token(self) -> str:
        """Its token; only the hash is kept."""
        token = secret_tokens.new_token(self.device_id)
        self.token_hash = secret_tokens.hash_of(token)
        return token
