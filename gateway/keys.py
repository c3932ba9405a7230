"""Identity's keys, as the gateway's readiness sees them."""

import time
from typing import Any

import aiohttp

from chassis.tokens import jwks_fetcher

_PAUSE_S = 1.0


class Keys:
    """Fetches identity's public keys, and remembers that it once could, or just could not."""

    def __init__(self, http: aiohttp.ClientSession, identity_url: str) -> None:
        self._http, self._url = http, identity_url.rstrip("/")
        self._seen = False
        self._failed_at = float("-inf")

    async def fetch(self) -> dict[str, Any]:
        """The JWKS document. Raises OSError while identity cannot be reached."""
        # Those who wait for the same keys ask one after the other; without this each would wait for a time-out of its own.
        if time.monotonic() - self._failed_at < _PAUSE_S:
            raise OSError("identity's keys could not be fetched a moment ago")
        try:
            keys = await jwks_fetcher(self._http, self._url)()
        except OSError:
            self._failed_at = time.monotonic()
            raise
        self._seen = True
        return keys

    async def seen(self) -> None:
        """Raises until identity was reached once; later it may be down, and those who have a token still get in."""
        if not self._seen:
            await self.fetch()
