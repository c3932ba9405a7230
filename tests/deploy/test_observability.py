"""deploy/observability/: rules and dashboards that can be read, over metrics that exist."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from prometheus_client import REGISTRY

import gateway.metrics
import services.notification.delivery
import services.payment.adapters
import services.shipping.adapters
from embedded import envoy
from embedded.ports import free_port
from gateway.envoy import render
from gateway.settings import GatewaySettings
from tests.deploy.platform import ROOT, SETTINGS, compose

FOLDER = ROOT / "deploy" / "observability"
ALERTS = FOLDER / "prometheus" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "operations.md"
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")

assert all((gateway.metrics, services.notification.delivery, services.payment.adapters, services.shipping.adapters))

OF_TEMPORALS_SDK = {
    "temporal_activity_execution_failed_total",
    "temporal_activity_schedule_to_start_latency_seconds_bucket",
    "temporal_local_activity_execution_failed_total",
    "temporal_num_pollers",
    "temporal_worker_task_slots_used",
    "temporal_workflow_task_execution_failed_total",
    "temporal_workflow_task_schedule_to_start_latency_seconds_bucket",
}
"""As the worker of this SDK version offers them with our settings (seconds, units and `_total` in the names)."""
OF_WORKFLOWS = [
    name for file in (ROOT / "workflows").glob("*.py") for name in re.findall(r'create_counter\(\s*"(\w+)"', file.read_text())
]
DETAILS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)|\b\d\w*")
WORDS = re.compile(r"\b\w+(?= *\()|\b(or|unless|offset)\b")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def known_metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    ours = {sample for family in REGISTRY.collect() for sample in _samples(family.name, family.type)}
    envoys = await metrics_of_envoy(tmp_path_factory.mktemp("envoy"))
    return ours | envoys | OF_TEMPORALS_SDK | {f"{name}_total" for name in OF_WORKFLOWS} | {"up"}


async def metrics_of_envoy(directory: Path) -> set[str]:
    """What the gateway's Envoy offers to Prometheus once it has passed on a request."""

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream = await asyncio.start_server(service, "127.0.0.1", 0)
    catalog, nobody = (f"http://127.0.0.1:{port}" for port in (upstream.sockets[0].getsockname()[1], free_port()))
    settings = GatewaySettings(port=free_port(), metrics_port=free_port(), catalog_url=catalog, edge_url=nobody)
    names: set[str] = set()
    async with envoy.running(directory, render(settings), settings.metrics_port), aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{settings.port}/api/v1/products/1") as response:
            assert response.status == 200
        while "envoy_vhost_route_upstream_rq_time_bucket" not in names:  # Envoy merges its histograms every few seconds
            await asyncio.sleep(0.2)
            async with http.get(f"http://127.0.0.1:{settings.metrics_port}/metrics") as response:
                names = set(re.findall(r"^(\w+)\{", await response.text(), re.MULTILINE))
    upstream.close()
    return names


def _samples(name: str, kind: str) -> set[str]:
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {name + ending for ending in endings.get(kind, ("",))}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "grafana" / "dashboards" / "commerce.json").read_text())
    return document


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"[a-z_]\w+", WORDS.sub(" ", DETAILS.sub(" ", expression))))


@PROMTOOL
def test_prometheus_takes_its_configuration() -> None:
    subprocess.run(["promtool", "check", "config", FOLDER / "prometheus" / "prometheus.yml"], check=True)


@PROMTOOL
def test_alerts_fire_when_they_should() -> None:
    subprocess.run(["promtool", "test", "rules", "alerts_test.yml"], cwd=ALERTS.parent, check=True)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_is_about_metrics_that_exist_and_says_what_to_do(alert: dict[str, Any], known_metrics: set[str]) -> None:
    assert metrics_in(alert["expr"])
    assert metrics_in(alert["expr"]) <= known_metrics
    assert alert["labels"]["severity"] in ("page", "ticket")
    page, _, section = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert section in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert f"`{alert['alert']}`" in RUNBOOK.read_text()


def test_panels_show_metrics_that_exist_and_do_not_overlap(known_metrics: set[str]) -> None:
    panels = dashboard()["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            assert metrics_in(target["expr"]), target["expr"]
            assert metrics_in(target["expr"]) <= known_metrics, target["expr"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_dashboards_use_a_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((FOLDER / "grafana" / "provisioning" / "datasources" / "datasources.yaml").read_text())
    sources = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    assert all(sources[p["datasource"]["uid"]] == p["datasource"]["type"] for p in dashboard()["panels"] if "datasource" in p)
    providers = yaml.safe_load((FOLDER / "grafana" / "provisioning" / "dashboards" / "dashboards.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert all(provider["options"]["path"] in mounted for provider in providers)


def test_prometheus_asks_every_process() -> None:
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    }
    assert set(jobs["commerce"]["dns_sd_configs"][0]["names"]) == set(SETTINGS)
    port = compose()["services"]["worker"]["environment"]["WORKER_METRICS_ADDRESS"].rpartition(":")[2]
    gateway = jobs["gateway"]["dns_sd_configs"][0]
    assert (gateway["names"], gateway["port"]) == (["gateway"], GatewaySettings.model_fields["metrics_port"].default)
    assert jobs["worker-sdk"]["dns_sd_configs"][0]["port"] == int(port)


def test_the_collector_is_wired_up() -> None:
    collector = yaml.safe_load((FOLDER / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert compose()["x-environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"${{COMPOSE_PROFILES:+http://otel-collector:{port}}}"
