"""Rate limits that all gateways share: GCRA (an even flow with a burst of the whole quota) in Redis.

Each gateway counts by itself (envoy/callers.lua) and brings here, twice a second, what it has let pass.
"""

from collections.abc import Mapping

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chassis.logs import logger
from gateway.metrics import shared_limits_unavailable_total

WINDOW_MS = 60_000
# KEYS: who. ARGV: for each key, the milliseconds that its requests use up, and after them the window.
# Replies, for each key, with the milliseconds that are used up now. What has passed has passed: it counts also where it is more
# than the window, but nobody is shut out for longer than another window.
_SCRIPT = """
local time, replies = redis.call('TIME'), {}
local now, window = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[#ARGV])
for i, key in ipairs(KEYS) do
  local used = math.max((tonumber(redis.call('GET', key)) or now) - now, 0) + tonumber(ARGV[i])
  used = math.min(used, 2 * window)
  redis.call('SET', key, now + used, 'PX', math.ceil(used) + 1)
  replies[i] = math.ceil(used)
end
return replies
"""
_BATCH = 500
_TIMEOUT_S = 0.5
log = logger(__name__)


class SharedLimits:
    """Adds up what the gateways have counted. `quotas`: requests a minute by the name of the limit."""

    def __init__(self, url: str, quotas: Mapping[str, int]) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=16,
            timeout=_TIMEOUT_S,  # when all are in use, many logins at once wait for their turn
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # a connection that Redis closed while it was idle is replaced at once
        )
        self._redis = redis.Redis.from_pool(pool)
        self._script = self._redis.register_script(_SCRIPT)
        self._cost_ms = {name: WINDOW_MS / quota for name, quota in quotas.items()}
        self._away = False

    async def add(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Count so many requests of each key (`limit:who`); the milliseconds of the window that each has used up now.

        Empty if Redis does not answer or refuses; KeyError for a limit that is not known."""
        keys = list(counts)
        costs = [self._cost_ms[key.partition(":")[0]] * counts[key] for key in keys]
        used: dict[str, int] = {}
        try:
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                arguments = [*costs[start : start + _BATCH], WINDOW_MS]
                replies = await self._script(keys=[f"rate:{key}" for key in batch], args=arguments)
                used |= zip(batch, map(int, replies), strict=True)
        except (redis.RedisError, OSError) as error:
            shared_limits_unavailable_total.inc()
            if not self._away:
                log.error("shared_limits_unavailable", error=repr(error), consequence="each gateway counts by itself, no logins")
            self._away = True
            return {}
        if self._away and keys:
            self._away = False
            log.info("shared_limits_available_again")
        return used

    async def ping(self) -> None:
        """Raises if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()
