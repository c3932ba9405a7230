"""The undo stack of a saga.

An undo is registered before its step, because a step that failed may still have happened. Undos run in reverse order until all
have landed; one that keeps failing is reported, and does not keep the others waiting.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError

from temporal.refusals import as_refusal
from workflows.steps import Step

Result = TypeVar("Result")

PATIENCE = timedelta(seconds=30)
"""An undo that has not landed by then is reported, and the next one starts."""


class Saga:
    """What has to be undone if the saga stops. `report_stuck` gets the summaries of the undos that do not land, whenever they
    change."""

    def __init__(self, report_stuck: Callable[[tuple[str, ...]], None]) -> None:
        self._undos: list[Step[Any, Any]] = []
        self._report_stuck = report_stuck
        self._stuck: dict[str, None] = {}

    def add(self, undo: Step[Any, Any]) -> None:
        """Register an undo; call it before the step that it undoes."""
        self._undos.append(undo)

    async def compensate(self, begun: Callable[[], None]) -> dict[str, Any]:
        """Run all undos, last one first; returns their results by summary when every one has landed.

        If the service refuses the very first one, nothing has been undone: the Refusal is raised, and the undos stay registered.
        `begun` is called when that can no longer happen.
        """
        results: dict[str, Any] = {}
        landing: list[asyncio.Task[None]] = []
        for position, undo in enumerate(reversed(self._undos)):
            slow = False
            try:
                results[undo.summary] = await undo.run_first()
            except FailureError as failure:
                refusal = as_refusal(failure)
                if refusal and position == 0:
                    raise refusal from failure
                slow = True
            if position == 0:
                begun()
            if slow:
                landing.append(asyncio.create_task(self._land(undo, results)))
                await workflow.wait(landing[-1:], timeout=PATIENCE.total_seconds())
                if not landing[-1].done():
                    self._set_stuck(undo, True)
        for task in landing:
            await task
        self._undos.clear()
        return results

    async def _land(self, undo: Step[Any, Any], results: dict[str, Any]) -> None:
        results[undo.summary] = await undo.land(lambda _: self._set_stuck(undo, True))
        self._set_stuck(undo, False)

    def _set_stuck(self, undo: Step[Any, Any], stuck: bool) -> None:
        before = tuple(self._stuck)
        if stuck:
            self._stuck[undo.summary] = None
        else:
            self._stuck.pop(undo.summary, None)
        if tuple(self._stuck) != before:
            self._report_stuck(tuple(self._stuck))


async def shielded(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which a cancellation of the workflow does not interrupt."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
        except Exception:
            break
    return task.result()
