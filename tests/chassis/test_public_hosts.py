"""Which addresses are hosts on the internet, and that names are looked at when the connection is made."""

from ipaddress import ip_address

import aiohttp
import pytest

from chassis.clients import HttpSession
from chassis.public_hosts import PublicHosts, is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.1.6", "2606:4700::1111"])
def test_hosts_on_the_internet(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:8.8.8.8",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db8::1",
    ],
)
def test_all_others(address: str) -> None:
    assert not is_public(ip_address(address))


async def test_a_name_of_our_own_network_has_no_address() -> None:
    resolver = PublicHosts()
    with pytest.raises(OSError, match="no public address"):
        await resolver.resolve("localhost", 443)
    await resolver.close()


async def test_a_session_for_strangers_addresses_does_not_reach_ours() -> None:
    async with HttpSession(public_only=True) as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.session.get("https://localhost/")
