"""Work that a cancellation must not interrupt."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def shielded(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`. A cancellation that comes meanwhile is passed over."""
    result, _ = await _finished(work)
    return result


async def finished_first(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`. A cancellation that comes meanwhile is raised when it has finished."""
    result, cancelled = await _finished(work)
    if cancelled:
        raise asyncio.CancelledError
    return result


async def _finished(work: Coroutine[Any, Any, Result]) -> tuple[Result, bool]:
    task, cancelled = asyncio.create_task(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    return task.result(), cancelled
