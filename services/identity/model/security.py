"""The security log: who tried what they may not, and who changed whose rights."""

import time
from collections import Counter
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import uuid_utils.compat as uuids
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import enum_column, time_column
from services.identity.model.tables import Table


class SecurityEvent(StrEnum):
    LOGIN_FAILED = "login_failed"
    TOKEN_REFUSED = "token_refused"  # noqa: S105
    REFRESH_TOKEN_REFUSED = "refresh_token_refused"  # noqa: S105
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105
    SERVICE_TOKEN_REFUSED = "service_token_refused"  # noqa: S105
    PASSWORD_REFUSED = "password_refused"  # noqa: S105
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    EMAIL_CHANGED = "email_changed"
    """`account` is the address that it was."""
    ROLES_CHANGED = "roles_changed"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    USER_FORGOTTEN = "user_forgotten"
    SESSIONS_ENDED = "sessions_ended"
    """By somebody else than their owner."""


class SecurityRecord(Table, table=True):
    """One entry. It never holds a password or a token."""

    __tablename__ = "security_log"

    record_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    at: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))
    kind: SecurityEvent = Field(sa_column=enum_column(SecurityEvent, index=True))
    account: str | None = Field(default=None, max_length=254, index=True)
    """What was given: an e-mail, which need not have an account, or the name of a process."""
    user_id: UUID | None = Field(default=None, index=True)
    address: str | None = Field(default=None, max_length=45, index=True)
    by: UUID | None = None
    """Who did it, if not the user."""
    detail: str = Field(default="", max_length=500)

    def forget_person(self) -> None:
        """Keep the fact, and blank what names the person: the e-mail, where they were, and what an admin wrote about them."""
        self.account, self.address = None, None
        if self.kind is SecurityEvent.USER_DISABLED:
            self.detail = ""


class Budget:
    """How many records strangers may cause: nobody fills the disk with failures, nor hides one among many from elsewhere."""

    PER_NETWORK, IN_ALL = 20, 100
    """A minute, of one network and of all together."""

    def __init__(self) -> None:
        self._minute = 0
        self._spent = Counter[str]()

    def allows(self, network: str) -> bool:
        """Whether one more is within the budget; if so, it is spent."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._spent = minute, Counter()
        if self._spent[network] >= self.PER_NETWORK or self._spent.total() >= self.IN_ALL:
            return False
        self._spent[network] += 1
        return True
