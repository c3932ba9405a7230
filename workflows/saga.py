"""The undo stack of a saga, as policy written beside its steps.

An undo is registered before its step, because a step that failed may still have happened. Undos always run as durable activities,
so that the history holds why before anything is undone. One that may be refused for good ("already dispatched") is waited for
first, however long; what gives away money or stock starts only after it. No other refusal ends an undo: Temporal tries it again,
it stays visible as pending, and an operator may end it by hand.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from contracts.errors import ErrorCode, Refusal
from contracts.orders import UndoSettlement
from temporal.refusals import as_failure, as_refusal
from temporal.retries import HAS_TO_SUCCEED
from workflows.steps import Step

STUCK_AFTER = timedelta(seconds=30)
"""An undo that has not succeeded by then is reported."""


@dataclass(frozen=True)
class Undo:
    """How a step is undone: by which step, and which of its refusals mean that nothing can be undone any more."""

    step: Step[Any, Any]
    ends_on: frozenset[ErrorCode] = frozenset()
    parcel: int | None = None
    """Which parcel it calls off, if it does."""

    @property
    def name(self) -> str:
        return self.step.name

    def start(self) -> "workflow.ActivityHandle[Any]":
        """Begin; it goes on until it succeeds, or is refused with one of `ends_on`."""
        return replace(self.step, preset=HAS_TO_SUCCEED.ends_on(self.ends_on)).start_durably()


class Saga:
    """What has to be undone if the saga stops. `report_stuck` gets the names of the undos that do not succeed, whenever they
    change."""

    def __init__(self, report_stuck: Callable[[tuple[str, ...]], None]) -> None:
        self._undos: list[Undo] = []
        self._report_stuck = report_stuck
        self._settled: dict[str, UndoSettlement] = {}
        self.stuck: tuple[str, ...] = ()

    def add(self, *undos: Undo) -> None:
        """Register undos; call it before the step that they undo."""
        self._undos.extend(undos)

    def forget(self) -> None:
        """What was registered need not be undone any more."""
        self._undos.clear()

    async def call_off(self) -> dict[int, Refusal]:
        """Run the undos that may be refused for good, one after another; why some were, by the numbers of their parcels. Those
        stay registered."""
        refused: dict[int, Refusal] = {}
        for undo in [undo for undo in reversed(self._undos) if undo.ends_on]:
            try:
                await self._run([undo])
            except Refusal as refusal:
                refused[undo.parcel or 1] = refusal
            else:
                self._undos.remove(undo)
        return refused

    async def compensate(self) -> dict[str, Any]:
        """Run all other undos side by side; their results by name, once every one has succeeded or was settled by hand.

        The result of one that was settled by hand is its UndoSettlement."""
        results = await self._run(list(reversed(self._undos)))
        self._undos.clear()
        return results

    def require_stuck(self, settlement: UndoSettlement) -> None:
        """Raises undo_not_stuck if there is no such undo to be ended by hand."""
        if settlement.undo not in self.stuck:
            stuck = {"stuck_undos": list(self.stuck)}
            raise as_failure(Refusal(ErrorCode.UNDO_NOT_STUCK, "No undo of that name is waiting to succeed.", extra=stuck))

    def settle(self, settlement: UndoSettlement) -> None:
        """End an undo by hand. It must be one of `stuck`."""
        self._settled[settlement.undo] = settlement

    async def _run(self, undos: Sequence[Undo]) -> dict[str, Any]:
        running = {undo.name: asyncio.create_task(self._run_one(undo)) for undo in undos}
        if not running:
            return {}
        _, late = await workflow.wait(running.values(), timeout=STUCK_AFTER.total_seconds())
        while late:
            self._report(tuple(name for name, task in running.items() if not task.done()))
            _, late = await workflow.wait(late, return_when=asyncio.FIRST_COMPLETED)
        self._report(())
        return {name: await task for name, task in running.items()}

    async def _run_one(self, undo: Undo) -> Any:
        while True:
            try:
                return await self._try(undo)
            except FailureError as failure:
                refusal = as_refusal(failure)
                if refusal and refusal.code in undo.ends_on:
                    raise refusal from failure
                # Somebody has failed the activity from outside: that undoes nothing, so it begins again.

    async def _try(self, undo: Undo) -> Any:
        handle = undo.start()
        await workflow.wait_condition(lambda: handle.done() or undo.name in self._settled)
        if undo.name in self._settled:
            handle.add_done_callback(_passed_over)
            handle.cancel()
            return self._settled.pop(undo.name)
        return await handle

    def _report(self, stuck: tuple[str, ...]) -> None:
        if stuck != self.stuck:
            self.stuck = stuck
            self._report_stuck(stuck)


def _passed_over(handle: "asyncio.Task[Any]") -> None:
    """What became of it is nobody's concern any more; without this, asyncio would log it as an error."""
    handle.cancelled() or handle.exception()
