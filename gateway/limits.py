"""Rate limits: GCRA (an even flow with a burst of the whole quota) in Redis, so that all gateways count together."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chassis.logs import logger
from gateway.answers import Headers
from gateway.metrics import rate_limit_unavailable_total

# Why not a library: requests that wait at the same moment share one call here, which no library does. CPU of this process for one
# check, with 32 requests in flight (with one): throttled-py 0.100 ms (0.166), one EVALSHA a request 0.080 ms (0.107),
# this 0.010 ms (0.118). A whole proxied request costs 0.11 ms.
#
# KEYS: who. ARGV: microseconds that one request uses up, window in microseconds; for each key.
# Replies, for each key, with the microseconds that are used up now, or minus those until the next request may come.
_SCRIPT = """
local time, replies = redis.call('TIME'), {}
local now = time[1] * 1000000 + time[2]
for i, key in ipairs(KEYS) do
  local cost, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local used = math.max((tonumber(redis.call('GET', key)) or now) - now, 0) + cost
  if used > window + 1 then
    replies[i] = -math.ceil(used - window)
  else
    redis.call('SET', key, now + used, 'PX', math.ceil(used / 1000))
    replies[i] = math.floor(used)
  end
end
return replies
"""
_BATCH = 500
_TIMEOUT_S = 0.5
_PAUSE_S = 1.0
"""After a failure requests pass uncounted for this long, so that they do not each wait for a Redis that is away."""
log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """So many requests in so many seconds."""

    name: str
    quota: int
    window_s: int = 60

    @property
    def cost_us(self) -> float:
        """What one request uses up of the window."""
        return self.window_s * 1_000_000 / self.quota

    @property
    def window_us(self) -> int:
        return self.window_s * 1_000_000


class Verdict(NamedTuple):
    """Whether a request may pass, with its RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10)."""

    allowed: bool
    headers: Headers


class RateLimiter:
    """Counts requests. Without Redis everything passes: a shop that is open unlimited beats one that is closed."""

    def __init__(self, url: str) -> None:
        # Few connections: there is one call at a time, for all who wait. One that Redis closed while idle is replaced at once.
        self._redis = redis.Redis.from_url(
            url,
            max_connections=4,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._waiting: list[tuple[str, Policy, asyncio.Future[int | None]]] = []
        self._caller: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        self._away = False

    async def check(self, policy: Policy, who: str) -> Verdict:
        """Count one request of `who`, and say whether it may pass."""
        reply = None
        if time.monotonic() >= self._paused_until:
            answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            self._waiting.append((f"rate:{policy.name}:{who}", policy, answer))
            if self._caller is None:
                self._caller = asyncio.create_task(self._call())
            reply = await answer
        if reply is None:
            rate_limit_unavailable_total.inc()
            return Verdict(True, [])
        return _verdict(policy, reply)

    async def ping(self) -> None:
        """Raises if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        if self._caller is not None:
            await asyncio.wait([self._caller])
        await self._redis.aclose()

    async def _call(self) -> None:
        """Ask for everybody who waits, and for those who came meanwhile, until nobody does."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                replies = await self._ask([(key, policy) for key, policy, _ in batch])
                for (_, _, answer), reply in zip(batch, replies, strict=True):
                    if not answer.done():  # a client that went away
                        answer.set_result(reply)
        finally:
            self._caller = None

    async def _ask(self, questions: list[tuple[str, Policy]]) -> list[int] | list[None]:
        if time.monotonic() < self._paused_until:
            return [None] * len(questions)
        arguments = [number for _, policy in questions for number in (policy.cost_us, policy.window_us)]
        try:
            replies: list[int] = await self._script(keys=[key for key, _ in questions], args=arguments)
        except Exception as error:  # whatever it is, it must not close the shop
            self._paused_until = time.monotonic() + _PAUSE_S
            if not self._away:
                log.error("rate_limits_unavailable", error=repr(error), consequence="requests pass uncounted")
            self._away = True
            return [None] * len(questions)
        if self._away:
            self._away = False
            log.info("rate_limits_available_again")
        return replies


def _verdict(policy: Policy, reply: int) -> Verdict:
    allowed = reply >= 0
    if allowed:
        remaining = int((policy.window_us - reply) / policy.cost_us + 0.001)
        reset = math.ceil(reply / 1_000_000)
    else:
        # The draft wants `t` to point at the same moment as Retry-After.
        remaining, reset = 0, max(math.ceil(-reply / 1_000_000), 1)
    headers = [
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (policy.name.encode(), policy.quota, policy.window_s)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (policy.name.encode(), remaining, reset)),
    ]
    if not allowed:
        headers.append((b"retry-after", b"%d" % reset))
    return Verdict(allowed, headers)
