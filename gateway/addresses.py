"""Whose request it is: the client's address, through proxies that are trusted and no others."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


class Addresses:
    """Knows the proxies in front of the gateway."""

    def __init__(self, trusted_proxies: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)
        self.is_trusted = lru_cache(maxsize=1024)(self._is_trusted)

    def client(self, peer: str, forwarded_for: str | None) -> str:
        """The address that the request came from: the last hop in X-Forwarded-For that is not one of our proxies.

        What an unknown peer says in that header is not believed.
        """
        if forwarded_for is None or not self.is_trusted(peer):
            return peer
        for hop in reversed(forwarded_for.split(",")):
            hop = hop.strip()
            if not _is_address(hop):
                break
            peer = hop
            if not self.is_trusted(hop):
                break
        return peer

    def _is_trusted(self, address: str) -> bool:
        return within(address, self._trusted)


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; an IPv4 address in IPv6 clothing counts as IPv4."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


@lru_cache(maxsize=4096)
def limit_key(address: str) -> str:
    """What a rate limit counts: an IPv4 address; of IPv6 the /64, since one household has all the addresses in it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False).network_address)
    return address


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
