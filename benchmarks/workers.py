"""Workers beside or instead of the platform's own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.budgets import DRAIN_S
from embedded.platform import ROOT, Platform
from embedded.ports import free_port
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec


def add_worker(platform: Platform, name: str, **settings: str) -> None:
    """Make another worker known to the platform's supervisor, with these environment variables; it does not run yet."""
    port = free_port()
    platform.supervisor.add(
        ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", "worker"),
            env={**platform.env, **settings, "HOST": "127.0.0.1", "PORT": str(port)},
            cwd=ROOT,
            ready=http_ok(f"http://127.0.0.1:{port}/health/ready"),
            start_after=("identity", "temporal"),
            grace_s=DRAIN_S + 5,
        )
    )


@asynccontextmanager
async def another_worker(platform: Platform, name: str, **settings: str) -> AsyncIterator[None]:
    """One that runs while the block does."""
    add_worker(platform, name, **settings)
    await platform.supervisor.start(name)
    try:
        yield
    finally:
        await platform.supervisor.stop(name)
