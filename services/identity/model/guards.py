"""The guard against guessing passwords."""

import math
from datetime import datetime, timedelta

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts.errors import ErrorCode, Refusal
from services.identity.model.tables import Table

FAILURES_ALLOWED = 10
FAILURE_WINDOW = timedelta(minutes=15)


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
