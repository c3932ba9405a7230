"""deploy/observability/: rules and dashboards that can be read and say what to do. That their metrics exist is seen in
tests/journeys/test_metrics.py, on a platform."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tests.deploy.observability import ALERTS, DASHBOARDS, FOLDER, PROMTOOL, alerts, asked_for, metrics_in, panels
from tests.deploy.platform import ROOT, SETTINGS, compose, objects

RUNBOOK = ROOT / "docs" / "operations.md"
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed, and PROMTOOL does not say where it is")


@needs_promtool
def test_prometheus_takes_its_configuration() -> None:
    subprocess.run([str(PROMTOOL), "check", "config", FOLDER / "prometheus" / "prometheus.yml"], check=True)


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    subprocess.run([str(PROMTOOL), "test", "rules", "alerts_test.yml"], cwd=ALERTS.parent, check=True)


def test_each_alert_is_seen_to_fire_and_to_be_quiet() -> None:
    """The tests themselves need promtool. That there are such, and that they expect what the rules say, needs none."""
    fired: set[str] = set()
    quiet: set[str] = set()
    rules = {alert["alert"]: alert for alert in alerts()}
    for test in yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text())["tests"]:
        series = {metrics_in(given["series"]).pop() for given in test["input_series"]}
        for case in test["alert_rule_test"]:
            rule = rules[case["alertname"]]
            assert metrics_in(rule["expr"]) & series, f"{test['name']}: nothing of {case['alertname']} is given"
            (fired if case.get("exp_alerts") else quiet).add(case["alertname"])
            for expected in case.get("exp_alerts", []):
                annotations, told = expected["exp_annotations"], rule["annotations"]
                assert expected["exp_labels"]["severity"] == rule["labels"]["severity"]
                assert (annotations["description"], annotations["runbook"]) == (told["description"], told["runbook"])
                words = [re.escape(part) for part in re.split(r"\{\{[^}]*\}\}", told["summary"])]
                assert re.fullmatch(".+".join(words), annotations["summary"]), annotations["summary"]
    assert fired == quiet == set(rules)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(alert: dict[str, Any]) -> None:
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    page, _, section = alert["annotations"]["runbook"].partition("#")
    assert section in anchors(ROOT / page)
    assert f"`{alert['alert']}`" in RUNBOOK.read_text()


def test_links_within_the_runbook_lead_somewhere() -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK.read_text()))
    assert links
    assert links <= anchors(RUNBOOK)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("max by (for) (orders_waiting)", {"orders_waiting"}),
        ('sum(rate(a_total{b="c d"}[5m])) / sum(rate(e_total[$__rate_interval])) > 0.02', {"a_total", "e_total"}),
        ("absent(up) unless max by (x) (y_seconds) > on () 1e3 and z_total offset 1h", {"up", "y_seconds", "z_total"}),
    ],
)
def test_metrics_are_found_in_expressions(expression: str, metrics: set[str]) -> None:
    assert metrics_in(expression) == metrics


def test_every_expression_asks_for_metrics() -> None:
    assert all(asked_for().values())


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_do_not_overlap(dashboard: Path) -> None:
    found = panels(dashboard)
    cells = [
        (x, y)
        for panel in found
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in found}) == len(found)


def test_dashboards_use_a_data_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load((FOLDER / "grafana" / "provisioning" / "datasources" / "datasources.yaml").read_text())
    sources = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    used = [panel["datasource"] for dashboard in DASHBOARDS for panel in panels(dashboard) if "datasource" in panel]
    assert all(sources[source["uid"]] == source["type"] for source in used)
    providers = yaml.safe_load((FOLDER / "grafana" / "provisioning" / "dashboards" / "dashboards.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert all(provider["options"]["path"] in mounted for provider in providers)
    assert len({json.loads(dashboard.read_text())["uid"] for dashboard in DASHBOARDS}) == len(DASHBOARDS)


def test_prometheus_asks_every_process() -> None:
    jobs = {
        job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    }
    assert set(jobs["commerce"]["dns_sd_configs"][0]["names"]) == set(SETTINGS)
    port = compose()["services"]["worker"]["environment"]["WORKER_METRICS_ADDRESS"].rpartition(":")[2]
    gateway = jobs["gateway"]["dns_sd_configs"][0]
    assert (gateway["names"], gateway["port"]) == (["gateway"], GatewaySettings.model_fields["metrics_port"].default)
    assert jobs["worker-sdk"]["dns_sd_configs"][0]["port"] == int(port)


def test_prometheus_of_a_cluster_finds_the_metrics_of_temporals_sdk() -> None:
    """The pod's annotation has the process's own port."""
    service = objects("Service", "base")["worker"]
    [container] = objects("Deployment", "base")["worker"]["spec"]["template"]["spec"]["containers"]
    [address] = [item["value"] for item in container["env"] if item["name"] == "WORKER_METRICS_ADDRESS"]
    port = service["metadata"]["annotations"]["prometheus.io/port"]
    assert service["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    assert port == address.rpartition(":")[2]
    assert int(port) in [item["port"] for item in service["spec"]["ports"]]
    assert {"port": int(port)} in objects("NetworkPolicy", "base")["monitoring"]["spec"]["ingress"][0]["ports"]


def test_the_collector_is_wired_up() -> None:
    collector = yaml.safe_load((FOLDER / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert compose()["x-environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"${{COMPOSE_PROFILES:+http://otel-collector:{port}}}"
