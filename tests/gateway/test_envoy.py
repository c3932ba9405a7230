"""What is rendered for Envoy is what the route table says, and Envoy takes it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from contracts.identity import Role
from embedded import envoy
from gateway.envoy import render
from gateway.routes import PUBLIC, READS, ROUTES, Limit, Route
from gateway.settings import GatewaySettings

Json = dict[str, Any]
EVERYTHING: Json = {
    "trusted_proxies": "10.0.0.0/8,2001:db8::/32",
    "cors_allow_origins": "https://shop.example",
    "otel_exporter_otlp_endpoint": "http://collector:4318",
    "catalog_url": "http://catalog:8000",
}


def managers(config: Json) -> list[Json]:
    """The connection managers of the front door: one for trusted proxies, one for all others."""
    door = config["static_resources"]["listeners"][0]
    return [chain["filters"][0]["typed_config"] for chain in door["filter_chains"]]


def routes(config: Json) -> list[Json]:
    (host,) = managers(config)[0]["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    found: list[Json] = host["routes"]
    return found


def met(config: Json, method: str, path: str) -> Json:
    """The route that a request meets: the first that matches, as Envoy does it."""
    given = {":method": method, ":path": path, ":authority": "shop"}

    def matches(match: Json) -> bool:
        if "path" in match and path != match["path"]:
            return False
        if (prefix := match.get("path_separated_prefix")) and path != prefix and not path.startswith(f"{prefix}/"):
            return False
        return all(
            bool(re.fullmatch(header["string_match"]["safe_regex"]["regex"], given[header["name"]]))
            != header.get("invert_match", False)
            for header in match.get("headers", [])
            if header["name"] in given
        ) and not any(header["name"] not in given and header.get("invert_match") for header in match.get("headers", []))

    return next(route for route in routes(config) if matches(route["match"]))


@pytest.fixture(scope="module")
def config() -> Json:
    return render(GatewaySettings(upstream_total_s=120, upstream_timeout_s=35))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.prefix)
def test_each_route_is_rendered_as_the_table_says(config: Json, route: Route) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        rendered = met(config, method, route.prefix)
        if method not in route.methods:
            assert rendered["direct_response"] == {"status": 405}
            assert rendered["response_headers_to_add"][0]["header"] == {"key": "allow", "value": ", ".join(route.methods)}
            continue
        who = route.methods[method]
        assert rendered["route"]["cluster"] == route.cluster
        assert rendered["route"]["timeout"] == f"{route.timeout_s or 120:g}s"
        assert rendered["route"]["idle_timeout"] == "35s"
        assert ("retry_policy" in rendered["route"]) <= (method in ("GET", "HEAD")), "nothing else is ever repeated"
        filters = rendered["typed_per_filter_config"]
        assert filters["envoy.filters.http.buffer"]["buffer"] == {"max_request_bytes": route.body_limit}
        assert filters["callers"]["filter_context"] == {"limit": route.limit, "signed_in": who is not PUBLIC}
        assert ("envoy.filters.http.jwt_authn" in filters) == (route.limit is Limit.CALLER or who is not PUBLIC)
        assert roles_in(filters) == who
        personal = {"key": "cache-control", "value": "no-store"} in [
            added["header"] for added in rendered["response_headers_to_add"]
        ]
        of_everybody = who is PUBLIC and method in READS and route.limit is Limit.CALLER
        assert personal == (not of_everybody)


def roles_in(filters: Json) -> frozenset[Role] | None:
    if "envoy.filters.http.rbac" not in filters:
        return None
    rules = filters["envoy.filters.http.rbac"]["rbac"]["rules"]
    assert rules["action"] == "ALLOW"
    (policy,) = rules["policies"].values()
    matchers = [principal["sourced_metadata"]["metadata_matcher"] for principal in policy["principals"]]
    assert all([step["key"] for step in matcher["path"]] == ["jwt", "roles"] for matcher in matchers)
    return frozenset(Role(matcher["value"]["list_match"]["one_of"]["string_match"]["exact"]) for matcher in matchers)


def test_nothing_is_rendered_that_the_table_does_not_know(config: Json) -> None:
    services = {route["route"]["cluster"] for route in routes(config) if "route" in route} - {"edge"}
    assert services == {route.cluster for route in ROUTES}
    known = {route.prefix for route in ROUTES}
    assert {route["name"] for route in routes(config) if route.get("route", {}).get("cluster") in services} == known
    assert routes(config)[-1]["match"] == {"prefix": "/"}
    assert routes(config)[-1]["direct_response"] == {"status": 404}


def test_the_longest_prefix_is_met_first(config: Json) -> None:
    prefixes = [route["match"].get("path_separated_prefix", "") for route in routes(config)]
    for shorter in prefixes:
        for longer in prefixes:
            if longer.startswith(f"{shorter}/") and shorter:
                assert prefixes.index(longer) < prefixes.index(shorter)


def test_both_doors_are_the_same_but_for_whom_they_believe() -> None:
    trusting, other = managers(render(GatewaySettings(**EVERYTHING)))
    assert trusting["route_config"] == other["route_config"]
    assert trusting["http_filters"] == other["http_filters"]
    assert (trusting["use_remote_address"], other["use_remote_address"]) == (False, True)
    removed = {mutation.get("remove") for mutation in other["early_header_mutation_extensions"][0]["typed_config"]["mutations"]}
    assert removed >= {"traceparent", "tracestate", "baggage", "x-forwarded-for", "x-forwarded-host", "forwarded"}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
async def test_envoy_accepts_it_and_warns_of_nothing(settings: Json, tmp_path: Path) -> None:
    assert await envoy.validate(tmp_path, render(GatewaySettings(**settings))) == ""


def test_it_is_plain_data(config: Json) -> None:
    assert json.loads(json.dumps(config)) == config
    assert render(GatewaySettings()) == render(GatewaySettings())


def test_an_address_that_it_cannot_use_is_told() -> None:
    for url in ("https://catalog", "http://catalog/base", "catalog:8000"):
        with pytest.raises(ValueError, match="catalog"):
            render(GatewaySettings(catalog_url=url))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1")
    monkeypatch.setenv("CORS_ALLOW_ORIGINS", "https://a.example,https://b.example")
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "7")
    settings = GatewaySettings()
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert settings.cors_allow_origins == ("https://a.example", "https://b.example")
    assert settings.quotas()["user"] == 7
