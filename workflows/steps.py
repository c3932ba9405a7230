"""How a step of a saga runs: first within the workflow's own task, then, if that fails, as a durable activity.

The first way costs one history event and is done in milliseconds, but nobody sees it while it runs, and if the task is lost it
runs again. The second way costs more, but operators see it pending in the Web UI with its attempt and last error, and what led to
it is in the history before it runs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from temporal.refusals import as_refusal
from temporal.retries import CALL, FIRST_TRIES, FIRST_TRY, FORWARD, Preset

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step(Generic[Argument, Result]):
    """One activity with its argument. `summary` is what operators read in the Web UI."""

    activity: Callable[[Any, Argument], Awaitable[Result]]
    argument: Argument
    summary: str
    preset: Preset = FORWARD

    @property
    def name(self) -> str:
        """E.g. `refund-payment`: the durable activity's id, for the `temporal` and `commerce` command lines."""
        return self.summary.lower().replace(" ", "-")

    async def run(self, on_slow: Callable[[FailureError], None]) -> Result:
        """The activity's result. `on_slow` is told the last error when the step turns out to need time.

        Raises FailureError: the service's refusal, or what failed last when the preset gives up; CancelledError.
        """
        try:
            return await workflow.execute_local_activity_method(
                self.activity,
                self.argument,
                schedule_to_close_timeout=FIRST_TRY,
                retry_policy=FIRST_TRIES,
                summary=self.summary,
            )
        except FailureError as failure:
            is_final = self.preset.give_up_after is not None and as_refusal(failure)
            if is_final or is_cancelled_exception(failure):
                raise
            on_slow(failure)
        return await self.run_durably()

    async def run_durably(self) -> Result:
        """The same, in the history from the start: for whatever follows from a message that this task may have brought."""
        return await self.start_durably()

    def start_durably(self) -> "workflow.ActivityHandle[Result]":
        """A handle of the activity, to wait for or to cancel."""
        return workflow.start_activity_method(
            self.activity,
            self.argument,
            activity_id=self.name,
            start_to_close_timeout=CALL,
            schedule_to_close_timeout=self.preset.give_up_after,
            retry_policy=self.preset.backoff,
            summary=self.summary,
        )
