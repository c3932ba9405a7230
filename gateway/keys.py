"""Identity's keys, as the gateway's readiness sees them."""

from typing import Any

import aiohttp

from chassis.tokens import jwks_fetcher


class Keys:
    """Fetches identity's public keys, and remembers that it once could."""

    def __init__(self, http: aiohttp.ClientSession, identity_url: str) -> None:
        self._http, self._url = http, identity_url.rstrip("/")
        self._seen = False

    async def fetch(self) -> dict[str, Any]:
        """The JWKS document. Raises OSError while identity cannot be reached."""
        keys = await jwks_fetcher(self._http, self._url)()
        self._seen = True
        return keys

    async def seen(self) -> None:
        """Raises until identity was reached once; later it may be down, and those who have a token still get in."""
        if not self._seen:
            await self.fetch()
