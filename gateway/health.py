"""The health of the whole: which parts are up, and how fast they answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Literal

import aiohttp

from chassis.clock import utc_now
from contracts.base import Contract

_TIMEOUT = aiohttp.ClientTimeout(total=2)
_FRESH_S = 1.0


class PartHealth(Contract):
    status: Literal["up", "down"]
    latency_ms: float | None = None


class PlatformHealth(Contract):
    """`up`: all of it; `degraded`: some parts are down, the others work; `down`: nothing answers."""

    status: Literal["up", "degraded", "down"]
    checked_at: datetime
    parts: dict[str, PartHealth]


class HealthOfAll:
    """Asks every part, at most once a second, however many want to know."""

    def __init__(self, urls: Mapping[str, str], http: aiohttp.ClientSession, ping_redis: Callable[[], Awaitable[None]]):
        self._urls, self._http, self._ping_redis = dict(urls), http, ping_redis
        self._asking = asyncio.Lock()
        self._last: PlatformHealth | None = None
        self._asked_at = float("-inf")

    async def get(self) -> PlatformHealth:
        """Not older than a second."""
        async with self._asking:
            if self._last is None or time.monotonic() - self._asked_at > _FRESH_S:
                self._last, self._asked_at = await self._ask(), time.monotonic()
            return self._last

    async def _ask(self) -> PlatformHealth:
        checks = {name: self._ready(url) for name, url in self._urls.items()} | {"rate_limits": self._ping_redis()}
        parts = dict(zip(checks, await asyncio.gather(*map(_part, checks.values())), strict=True))
        up = [part.status == "up" for part in parts.values()]
        status: Literal["up", "degraded", "down"] = "up" if all(up) else "degraded" if any(up) else "down"
        return PlatformHealth(status=status, checked_at=utc_now(), parts=parts)

    async def _ready(self, url: str) -> None:
        async with self._http.get(f"{url.rstrip('/')}/health/ready", timeout=_TIMEOUT, allow_redirects=False) as response:
            response.raise_for_status()


async def _part(check: Awaitable[None]) -> PartHealth:
    began = time.perf_counter()
    try:
        await check
    except Exception:
        return PartHealth(status="down")
    return PartHealth(status="up", latency_ms=round((time.perf_counter() - began) * 1000, 1))
