"""What the gateway costs: the same read asked of the service directly, through a bare Envoy, and through the gateway.

The three take turns, so that whatever else the machine does meanwhile meets them alike; ratios are taken within a turn.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.figures import Measured, spreads
from benchmarks.load import Load, load
from benchmarks.orders import Ordering, cpu_s
from data.baskets import read_baskets
from embedded import envoy
from embedded.platform import Platform
from embedded.ports import free_port
from gateway.envoy import render
from gateway.settings import GatewaySettings

SECONDS = 2.0
WARM_UP_SECONDS = 1.0
CONNECTIONS = 16
GATEWAY_PROCESSES = ("gateway", "edge")


async def measure_gateway(shop: Ordering, turns: int, data: Path, *, as_customer: bool) -> Measured:
    """Reads of one product, with the token of a customer or without any."""
    product, _ = read_baskets()[0].lines[0]
    token = await shop.customers[0].token() if as_customer else None
    found = await gateway_costs(shop.platform, f"/api/v1/products/{product}", token, data, turns)
    return Measured(spreads(found))


async def gateway_costs(platform: Platform, path: str, token: str | None, data: Path, turns: int) -> list[dict[str, float]]:
    """The figures of each turn, after a short one that warms up."""
    found = []
    pids = [platform.supervisor.pid(name) for name in GATEWAY_PROCESSES]
    async with bare_envoy(platform.url("catalog"), data) as (bare_url, bare_pid):
        for seconds in (WARM_UP_SECONDS, *[SECONDS] * turns):
            direct, _ = await asked(platform.url("catalog") + path, token, seconds, [])
            bare, bare_cpu_us = await asked(bare_url + path, token, seconds, [bare_pid])
            gateway, cpu_us = await asked(platform.url("gateway") + path, token, seconds, pids)
            found.append(
                {
                    "gateway_to_direct": gateway.per_second / direct.per_second,
                    "gateway_to_bare_envoy": gateway.per_second / bare.per_second,
                    "gateway_cpu_us": cpu_us,
                    "bare_envoy_cpu_us": bare_cpu_us,
                    "gateway_rps": gateway.per_second,
                    "bare_envoy_rps": bare.per_second,
                    "direct_rps": direct.per_second,
                }
            )
    return found[1:]


async def asked(url: str, token: str | None, seconds: float, pids: list[int]) -> tuple[Load, float]:
    """What was answered, and the CPU microseconds that these processes spent on each request."""
    before = sum(cpu_s(pid) for pid in pids)
    answers = await load(url, connections=CONNECTIONS, seconds=seconds, token=token)
    return answers, (sum(cpu_s(pid) for pid in pids) - before) / answers.answered * 1e6


@asynccontextmanager
async def bare_envoy(service_url: str, directory: Path) -> AsyncIterator[tuple[str, int]]:
    """The gateway's Envoy and listener with no filter but the router, before one service: its URL and its process id."""
    port, metrics_port = free_port(), free_port()
    config = render(GatewaySettings(port=port, metrics_port=metrics_port, catalog_url=service_url))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][-1:]
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "catalog"}}
    manager["route_config"] = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [everything]}]}
    async with envoy.running(directory / "bare-envoy", config, metrics_port) as supervisor:
        yield f"http://127.0.0.1:{port}", supervisor.pid("gateway")
