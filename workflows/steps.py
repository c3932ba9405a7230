"""How a step of a saga runs: first within the workflow's own task, then, if that fails, as a durable activity.

The first way costs one history event and is done in milliseconds; while it runs nobody sees it. The second way costs more, but
operators see it pending in the Web UI with its attempt and last error, and it survives anything.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from temporal.refusals import as_refusal
from temporal.retries import FORWARD, Preset

Argument = TypeVar("Argument")
Result = TypeVar("Result")

AGAIN = timedelta(minutes=5)
"""A step that must land but is refused is tried again after this: somebody has to mend something first."""


@dataclass(frozen=True)
class Step(Generic[Argument, Result]):
    """One activity with its argument. `summary` is what operators read in the Web UI."""

    activity: Callable[[Any, Argument], Awaitable[Result]]
    argument: Argument
    summary: str
    preset: Preset = FORWARD

    async def run(self, on_slow: Callable[[FailureError], Awaitable[None]] | None = None) -> Result:
        """The activity's result. `on_slow` is told the last error when the step turns out to need time.

        Raises FailureError: the service's refusal, or what failed last when the preset gives up; CancelledError.
        """
        try:
            return await self.run_first()
        except FailureError as failure:
            if as_refusal(failure) or is_cancelled_exception(failure):
                raise
            if on_slow:
                await on_slow(failure)
        return await self.run_durably()

    async def land(self, on_refused: Callable[[FailureError], None]) -> Result:
        """The activity's result, however long it takes: even a refusal is only reported, and the step tried again.

        Only a cancellation ends it: FailureError or CancelledError."""
        while True:
            try:
                return await self.run_durably()
            except FailureError as failure:
                if is_cancelled_exception(failure):
                    raise
                on_refused(failure)
                await workflow.sleep(AGAIN, summary=f"Until the next try: {self.summary}")

    async def run_first(self) -> Result:
        """A few quick tries within the workflow's task."""
        return await workflow.execute_local_activity_method(
            self.activity,
            self.argument,
            start_to_close_timeout=self.preset.first_call,
            retry_policy=self.preset.first_tries,
            summary=self.summary,
        )

    async def run_durably(self) -> Result:
        """Tries for as long as the preset says, visible and durable."""
        return await workflow.execute_activity_method(
            self.activity,
            self.argument,
            start_to_close_timeout=self.preset.call,
            schedule_to_close_timeout=self.preset.give_up_after,
            retry_policy=self.preset.backoff,
            summary=self.summary,
        )
