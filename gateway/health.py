"""The health of the whole: which parts are up, how fast they answer, and what is wrong with those that are not.

PostgreSQL and Temporal are asked through the processes that use them: the edge has no login there, and needs none.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import aiohttp
from aiokafka.client import AIOKafkaClient

from chassis.clock import utc_now
from contracts.base import Contract

TIMEOUT_S = 2.0
_FRESH_S = 1.0
_SEEN_BY_USERS = {"database": "postgresql", "temporal": "temporal"}
"""A check in a process's readiness → the part that it tells of."""
Status = Literal["up", "down", "unknown"]


class PartHealth(Contract):
    status: Status
    latency_ms: float | None = None
    reason: str | None = None


class PlatformHealth(Contract):
    """`up`: all of it; `degraded`: some parts are down or unknown, the others work; `down`: nothing answers."""

    status: Literal["up", "degraded", "down"]
    checked_at: datetime
    parts: dict[str, PartHealth]


class HealthOfAll:
    """Asks every part, all at the same time, at most once a second, however many want to know.

    `urls`: processes with a readiness page. `others`: checks that raise if the part is down. They are asked past
    `chassis.clients.OutboundClient`, whose circuit breaker would answer for a part that has come back.
    """

    def __init__(
        self, urls: Mapping[str, str], http: aiohttp.ClientSession, others: Mapping[str, Callable[[], Awaitable[object]]]
    ) -> None:
        self._urls, self._http, self._others = dict(urls), http, dict(others)
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
        seen: dict[str, dict[str, str]] = {}
        checks: dict[str, Awaitable[object]] = {name: self._ready(name, url, seen) for name, url in self._urls.items()}
        checks |= {name: check() for name, check in self._others.items()}
        parts = dict(zip(checks, await asyncio.gather(*map(_part, checks.values())), strict=True))
        parts |= {
            part: _seen_by_users(check, seen)
            for check, part in _SEEN_BY_USERS.items()
            if check == "database" or "worker" in self._urls
        }
        up = [part.status == "up" for part in parts.values()]
        status: Literal["up", "degraded", "down"] = "up" if all(up) else "degraded" if any(up) else "down"
        return PlatformHealth(status=status, checked_at=utc_now(), parts=parts)

    async def _ready(self, name: str, url: str, seen: dict[str, dict[str, str]]) -> None:
        async with self._http.get(f"{url.rstrip('/')}/health/ready", allow_redirects=False) as response:
            checks: dict[str, str] = _checks(await response.read())
            for check, outcome in checks.items():
                seen.setdefault(check, {})[name] = outcome
            if response.status != 200:
                lacking = ", ".join(check for check, outcome in checks.items() if outcome != "ok")
                raise NotReady(f"not ready: {lacking}" if lacking else f"answers {response.status}")


class NotReady(Exception):
    """A part answers, and says that it cannot work. The text is for people, without addresses."""


async def kafka_answers(bootstrap_servers: str) -> None:
    """Fetch the broker's metadata. Raises KafkaError if it cannot be had."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=int(1000 * TIMEOUT_S))
    try:
        await client.bootstrap()
    finally:
        await client.close()


def _checks(body: bytes) -> dict[str, str]:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return {}
    checks = answer.get("checks") if isinstance(answer, dict) else None
    return {str(check): str(outcome) for check, outcome in checks.items()} if isinstance(checks, dict) else {}


async def _part(check: Awaitable[object]) -> PartHealth:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await check
    except TimeoutError:
        return PartHealth(status="down", reason=f"no answer within {TIMEOUT_S:g} s")
    except NotReady as error:
        return PartHealth(status="down", reason=str(error))
    except Exception as error:  # its text may have addresses in it
        return PartHealth(status="down", reason=type(error).__name__)
    return PartHealth(status="up", latency_ms=round((time.perf_counter() - began) * 1000, 1))


def _seen_by_users(check: str, seen: Mapping[str, Mapping[str, str]]) -> PartHealth:
    outcomes = seen.get(check, {})
    without = sorted(name for name, outcome in outcomes.items() if outcome != "ok")
    if without:
        return PartHealth(status="down", reason=f"not reached by {', '.join(without)}")
    if not outcomes:
        return PartHealth(status="unknown", reason="nobody who uses it answers")
    return PartHealth(status="up")
