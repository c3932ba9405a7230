"""Named ways to run a step: how long it is tried, and what is final.

A step is first tried within the workflow's own task (a local activity), which is cheap and covers the common case. What fails
there goes on as a durable activity, where operators see it pending with its attempt and last error. The times come from
contracts/budgets.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from temporalio.common import RetryPolicy

from contracts.budgets import FIRST_TRY_S, STEP_CALL_S
from contracts.errors import ErrorCode

FIRST_TRY = timedelta(seconds=FIRST_TRY_S)
FIRST_TRIES = RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff_coefficient=2, maximum_attempts=2)
"""A second one covers a connection that broke; slow answers leave no time for it."""
CALL = timedelta(seconds=STEP_CALL_S)
REFUSED_AGAIN_AFTER = timedelta(minutes=5)
"""A step that has to succeed, and is refused, is tried again after this: somebody has to mend something first."""
BACKOFF = RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(minutes=1))


@dataclass(frozen=True)
class Preset:
    """How a step is run as a durable activity."""

    backoff: RetryPolicy
    give_up_after: timedelta | None = None
    """None: never. Then a refusal is no answer either, and is tried again, unless `ends_on` names it."""

    def ends_on(self, codes: Iterable[ErrorCode]) -> "Preset":
        """The same, but these refusals are final."""
        return replace(self, backoff=replace(self.backoff, non_retryable_error_types=sorted(codes) or None))


FORWARD = Preset(BACKOFF, give_up_after=timedelta(hours=1))
"""A step towards the customer's order: a refusal is final, and after an hour of faults the order is undone."""
OUTSIDE = Preset(BACKOFF, give_up_after=timedelta(hours=12))
"""The same for what an outside company does: it may be away for hours, and the order is worth waiting for."""
HAS_TO_SUCCEED = Preset(BACKOFF)
"""An undo, or a step after the point of no return: however long it takes, whatever is in its way."""
BEST_EFFORT = Preset(replace(BACKOFF, initial_interval=timedelta(seconds=1)), give_up_after=timedelta(minutes=10))
"""Good to have; its failure changes nothing."""
