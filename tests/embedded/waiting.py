"""Waiting for conditions instead of sleeping."""

import asyncio
from collections.abc import Callable

import psutil


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return when `condition` holds; raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of other processes, which set no event
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
