"""Where a request comes from, as far as that can be known."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Annotated

from fastapi import Depends, Request


@dataclass(frozen=True)
class Origin:
    """The client's address, and what it says it is (User-Agent, cut short)."""

    address: str
    device: str = ""

    @property
    def network(self) -> str:
        """What guesses are counted by: an IPv4 address; of IPv6 the /64, since one household has all the addresses in it."""
        address = ip_address(self.address)
        if isinstance(address, IPv6Address):
            return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False).network_address)
        return str(address)


async def origin_of(request: Request) -> Origin:
    """The last hop that X-Forwarded-For names: the gateway sets it, whatever a client says in it. Without it, the peer."""
    peer = request.client.host if request.client else "0.0.0.0"  # noqa: S104
    hop = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    device = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))[:200]
    for address in (hop, peer):
        try:
            return Origin(str(ip_address(address)), device)
        except ValueError:
            continue
    return Origin("0.0.0.0", device)  # noqa: S104


ClientOrigin = Annotated[Origin, Depends(origin_of)]
