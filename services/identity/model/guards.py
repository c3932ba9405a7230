"""The guard against guessing: who guesses wrong must wait, ever longer; nobody else has to."""

import math
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts.errors import ErrorCode, Refusal
from services.identity.model.tables import Table

FIRST_PAUSE = timedelta(seconds=30)
FORGOTTEN_AFTER = timedelta(hours=1)
"""Failures are, when none was added for so long. Longer than the longest pause."""


class Limit(NamedTuple):
    """So many failures cost nothing; the last of them brings a pause, which doubles with each further one up to the longest."""

    free: int
    longest_pause: timedelta


PER_GUESSER = Limit(10, timedelta(minutes=15))
"""Of one guesser: an address that tries an account, a device, a session."""
PER_ACCOUNT = Limit(100, timedelta(minutes=1))
"""Of all guessers at one account together, however many addresses they have. It slows down strange devices only."""


class LoginGuard(Table, table=True):
    """The failed guesses that count together. `key` says which those are."""

    __tablename__ = "login_guards"

    key: str = Field(primary_key=True, max_length=320)
    failures: int = 0
    failed_at: datetime = Field(default_factory=utc_now, sa_column=time_column(index=True))
    """When the last one was."""

    def check(self, limit: Limit) -> None:
        """Refusal: rate_limited, until the pause after the last failure is over."""
        if self.failures < limit.free:
            return
        doublings = min(self.failures - limit.free, 10)  # enough for the longest pause, and no number too large for a time
        pause = min(FIRST_PAUSE * 2**doublings, limit.longest_pause)
        left = (self.failed_at + pause - utc_now()).total_seconds()
        if left > 0:
            raise Refusal(
                ErrorCode.RATE_LIMITED, "Too many wrong tries; wait before the next.", extra={"retry_after": math.ceil(left)}
            )

    def count_failure(self) -> None:
        now = utc_now()
        self.failures = 1 if self.failed_at + FORGOTTEN_AFTER <= now else self.failures + 1
        self.failed_at = now
