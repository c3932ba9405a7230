"""Which hosts on the internet may be asked at an address that a stranger has told: none of our own network's.

A name is looked at when the connection is made, and never again after: one that stood for a public address a moment ago may stand
for a private one now.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

_TRANSLATED = IPv6Network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is one host on the internet. IPv6 addresses that stand for IPv4 ones are not looked into: they are none."""
    if isinstance(address, IPv6Address):
        stands_for_another = address.ipv4_mapped or address.sixtofour or address.teredo or address in _TRANSLATED
        if stands_for_another:
            return False
    return address.is_global and not address.is_multicast


class PublicHosts(AbstractResolver):
    """Knows the public addresses of names alone."""

    def __init__(self) -> None:
        self._all = ThreadedResolver(asyncio.get_running_loop())

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """OSError: it has none."""
        found = await self._all.resolve(host, port, family)
        public = [each for each in found if is_public(ip_address(each["host"].partition("%")[0]))]
        if not public:
            raise OSError("the host has no public address")
        return public

    async def close(self) -> None:
        await self._all.close()
