"""A Redis cache of JSON values that are cheap to lose: if Redis is away, the caller computes the value."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from chassis.logs import logger

BLOCKED_SECONDS = 10
"""Longer than a reader takes from its look at the database to its `put_many`."""
AWAY_SECONDS = 1.0
log = logger(__name__)


def redis_client(url: str, *, connections: int = 50) -> "redis.Redis":
    """A client whose pool waits for a free connection (redis-py's default raises)."""
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=2, socket_timeout=2, socket_connect_timeout=1
    )
    return redis.Redis.from_pool(pool)


class Cache:
    """Bytes by key, with a time to live. Every failure of Redis reads as a miss.

    A reader that saw the database before a change, and puts what it saw after the `drop`, must not bring the old value back. So
    a drop leaves an empty marker for a while, and a put never overwrites: neither needs a version or a script, and all that it
    costs is that a value which just changed is computed anew for those seconds.
    """

    def __init__(self, client: "redis.Redis", prefix: str, ttl_s: int) -> None:
        self._client, self._prefix, self._ttl = client, prefix, ttl_s
        self._away_until = 0.0
        """Redis just failed: do without it until then, so that its time-outs do not add up."""
        self._asked: list[tuple[Sequence[str], asyncio.Future[dict[str, bytes]]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is cached, by key. Whoever asks while an answer is under way shares the next question: under load a round trip,
        which costs more than all else here, serves many."""
        if not keys or time.monotonic() < self._away_until:
            return {}
        answer: asyncio.Future[dict[str, bytes]] = asyncio.get_running_loop().create_future()
        self._asked.append((keys, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        asked: list[tuple[Sequence[str], asyncio.Future[dict[str, bytes]]]] = []
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                values = await self._get(list({key for keys, _ in asked for key in keys}))
                for keys, answer in asked:
                    if not answer.done():  # its caller may have gone
                        answer.set_result({key: values[key] for key in keys if key in values})
        finally:
            for _, answer in (*asked, *self._asked):
                answer.cancel()  # nobody waits for ever if this task is cancelled
            self._asking, self._asked = None, []

    async def _get(self, keys: Sequence[str]) -> dict[str, bytes]:
        try:
            values = await self._client.mget([self._prefix + key for key in keys])
        except Exception as error:  # whatever it is, many wait here, and for them it is a miss
            self._failed(error)
            return {}
        return {key: value for key, value in zip(keys, values, strict=True) if value and isinstance(value, bytes)}

    async def put_many(self, values: Mapping[str, bytes]) -> None:
        """Cache values, those apart that are there already or have just been dropped; a failure is only logged."""
        if not values or time.monotonic() < self._away_until:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._prefix + key, value, ex=self._ttl, nx=True)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._failed(error)

    async def drop(self, *keys: str) -> None:
        """Forget values that changed. Call it after the commit; the time to live bounds what a failure here can do."""
        if not keys:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(self._prefix + key, b"", ex=BLOCKED_SECONDS)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        log.warning("cache_unavailable", error=repr(error))
