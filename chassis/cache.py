"""A Redis cache of JSON values that are cheap to lose: if Redis is away, the caller computes the value."""

from collections.abc import Mapping, Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from chassis.logs import logger

log = logger(__name__)


def redis_client(url: str, *, connections: int = 50) -> "redis.Redis":
    """A client whose pool waits for a free connection (redis-py's default raises)."""
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=2, socket_timeout=2, socket_connect_timeout=1
    )
    return redis.Redis(connection_pool=pool)


class Cache:
    """Bytes by key, with a time to live. Every failure of Redis reads as a miss."""

    def __init__(self, client: "redis.Redis", prefix: str, ttl_s: int) -> None:
        self._client, self._prefix, self._ttl = client, prefix, ttl_s

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is cached, by key."""
        if not keys:
            return {}
        try:
            values = await self._client.mget([self._prefix + key for key in keys])
        except (RedisError, OSError) as error:
            log.warning("cache_unavailable", error=repr(error))
            return {}
        return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}

    async def put_many(self, values: Mapping[str, bytes]) -> None:
        """Cache values; a failure is only logged."""
        if not values:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._prefix + key, value, ex=self._ttl)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("cache_unavailable", error=repr(error))

    async def drop(self, *keys: str) -> None:
        """Forget values that changed. Call it after the commit; the time to live bounds what a failure here can do."""
        try:
            await self._client.delete(*[self._prefix + key for key in keys])
        except (RedisError, OSError) as error:
            log.warning("cache_unavailable", error=repr(error))
