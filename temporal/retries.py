"""Named ways to run a step: how long one call may take, how it is retried, when it is given up.

Every step is first tried within the workflow's own task (a local activity), which is cheap and covers the common case; these
short tries must stay well below the task's 10 seconds. What fails there goes on as a regular activity, where operators see it.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from temporalio.common import RetryPolicy

CALL = timedelta(seconds=30)
"""The longest that one call may take."""


@dataclass(frozen=True)
class Preset:
    """How a step is run."""

    give_up_after: timedelta | None
    """None: never."""
    backoff: RetryPolicy
    first_call: timedelta = timedelta(seconds=3)
    first_tries: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(
            initial_interval=timedelta(milliseconds=50), backoff_coefficient=2, maximum_attempts=2
        )
    )
    call: timedelta = CALL


FORWARD = Preset(
    give_up_after=timedelta(hours=1),
    backoff=RetryPolicy(
        initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
    ),
)
"""A step towards the customer's order: after an hour of faults the order is undone."""

MUST_LAND = Preset(
    give_up_after=None,
    backoff=RetryPolicy(
        initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)
    ),
)
"""An undo, or a step after the point of no return: it must land, however long that takes."""

BEST_EFFORT = Preset(
    give_up_after=timedelta(minutes=10),
    backoff=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(minutes=1)),
)
"""Good to have; its failure changes nothing."""
