"""Waiting for conditions instead of sleeping."""

import asyncio
from collections.abc import Callable

import psutil

from tests.conftest import PATIENCE_S


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; raises TimeoutError, long after a busy machine would have got there."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - conditions of other processes, which set no event
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
