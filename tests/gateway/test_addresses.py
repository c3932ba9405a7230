"""Whose request it is, through any chain of proxies."""

from ipaddress import ip_network

import pytest

from gateway.addresses import Addresses, limit_key, within
from gateway.settings import GatewaySettings

ours = Addresses([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.1", None, "203.0.113.1"),
        ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1,10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_client_is_the_last_hop_that_is_not_ours(peer: str, forwarded_for: str | None, client: str) -> None:
    assert ours.client(peer, forwarded_for) == client


def test_a_household_has_one_count() -> None:
    assert limit_key("203.0.113.1") == "203.0.113.1"
    assert limit_key("::ffff:203.0.113.1") == "203.0.113.1"
    assert limit_key("2001:db8:1:2:aaaa::1") == limit_key("2001:db8:1:2:bbbb::2") == "2001:db8:1:2::"
    assert limit_key("2001:db8:1:3::1") != limit_key("2001:db8:1:2::1")


def test_an_address_in_other_clothes_is_the_same() -> None:
    assert within("::ffff:10.1.2.3", [ip_network("10.0.0.0/8")])
    assert not within("nonsense", [ip_network("0.0.0.0/0")])


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1")
    monkeypatch.setenv("CORS_ALLOW_ORIGINS", "https://a.example,https://b.example")
    monkeypatch.setenv("METRICS_ALLOWED", "192.0.2.0/24")
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "7")
    settings = GatewaySettings()
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"))
    assert settings.cors_allow_origins == ("https://a.example", "https://b.example")
    assert settings.metrics_allowed == (ip_network("192.0.2.0/24"),)
    assert settings.rate_limit_per_minute == 7
