"""deploy/kubernetes/: valid, complete, and in keeping with the processes and their settings."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cli import secrets
from contracts.budgets import DRAIN_S, SERVICE_DRAIN_S
from tests.deploy.platform import (
    FRESH,
    ROOT,
    SERVICES,
    SETTINGS,
    SIMULATED,
    compose,
    known_variables,
    manifests,
    objects,
    processes,
    secrets_of,
)

FOLDER = ROOT / "deploy" / "kubernetes"
SCALED = [name for name in (*SETTINGS, "gateway") if name != "console"]
REPLICAS = {name: 1 if name == "analytics" else 3 if name == "catalog" else 2 for name in SCALED}
DEPLOYMENTS = objects("Deployment", "base") | objects("Deployment", "simulators")
SECRETS = {
    (item["metadata"]["namespace"], item["metadata"]["name"]): item["stringData"]
    for item in json.loads(secrets.kubernetes(FRESH))["items"]
}
NAMESPACE = "distributed-commerce"
WORKLOADS = [
    (f"{document['kind']} {document['metadata']['name']}", document["spec"]["template"])
    for _, document in manifests()
    if document["kind"] in ("Deployment", "StatefulSet", "Job")
]
WRITES_TO_ITS_ROOT = ("apache/kafka", "temporalio/ui")
"""Images that write their configuration beside their program when they start."""


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = pod(name)["containers"][0]
    return found


def environment_of(name: str) -> dict[str, str]:
    """What the process is told by its ConfigMap, its Secret and its manifest."""
    told: dict[str, str] = {}
    for source in container(name).get("envFrom", []):
        if "configMapRef" in source:
            told |= objects("ConfigMap", "base")[source["configMapRef"]["name"]]["data"]
        else:
            assert (NAMESPACE, source["secretRef"]["name"]) in SECRETS or source["secretRef"].get("optional")
            told |= SECRETS.get((NAMESPACE, source["secretRef"]["name"]), {})
    return told | {variable["name"]: _value(variable) for variable in container(name).get("env", [])}


def _value(variable: dict[str, Any]) -> str:
    """What is written, or what the label says that is named instead."""
    if "value" in variable:
        return str(variable["value"])
    label = re.fullmatch(r"metadata\.labels\['(.+)'\]", variable["valueFrom"]["fieldRef"]["fieldPath"])
    assert label is not None
    return str(build_kustomization()["labels"][0]["pairs"][label[1]])


def build_kustomization() -> dict[str, Any]:
    """Of one build of the worker."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "base" / "worker-build" / "kustomization.yaml").read_text())
    return found


@pytest.mark.parametrize("file", sorted({file for file, _ in manifests()}), ids=lambda file: str(file.relative_to(FOLDER)))
def test_manifests_are_valid(file: Path) -> None:
    for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_kustomizations_list_every_file_and_only_what_is_there() -> None:
    for file in FOLDER.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(file.read_text())
        listed = {*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))}
        assert all((file.parent / entry).exists() for entry in listed)
        assert {other.name for other in file.parent.glob("*.yaml")} - {"kustomization.yaml"} <= listed


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["production", "evaluation"])
def test_overlays_can_be_built(overlay: str) -> None:
    built = subprocess.run(["kubectl", "kustomize", FOLDER / "overlays" / overlay], capture_output=True, check=True).stdout
    documents = list(yaml.load_all(built, yaml.CSafeLoader))
    assert {"distributed-commerce"} <= {document["metadata"].get("namespace") for document in documents}
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "NetworkPolicy"}
    for service in SERVICES if overlay == "evaluation" else ():
        own, migration = (entry["podSelector"] for entry in policies[f"postgres-{service}"]["ingress"][0]["from"])
        assert own == {"matchLabels": {"database": service}}
        assert migration["matchExpressions"][0]["values"] == ["migrate"]
        assert policies[f"postgres-{service}"]["podSelector"]["matchLabels"]["database"] == service


def test_each_process_has_a_deployment_with_its_command() -> None:
    commands = {name: tuple(container(name)["command"]) for name in DEPLOYMENTS if name != "gateway"}
    jobs = {
        name: tuple(job["spec"]["template"]["spec"]["containers"][0]["command"]) for name, job in objects("Job", "base").items()
    }
    assert commands | jobs == processes()


@pytest.mark.parametrize("name", [*SETTINGS, *SIMULATED])
def test_its_environment_has_the_same_names_as_in_compose(name: str) -> None:
    by_the_image = {"TEMPORAL_WORKER_BUILD_ID"} if name == "worker" else set()
    assert set(environment_of(name)) - by_the_image == set(compose()["services"][name]["environment"])


@pytest.mark.parametrize("name", SETTINGS)
def test_its_settings_can_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    for variable, value in environment_of(name).items():
        monkeypatch.setenv(variable, value)

    settings = SETTINGS[name]()

    assert [field for field, value in settings if "127.0.0.1" in str(value)] == []


@pytest.mark.parametrize("name", SETTINGS)
def test_secrets_come_from_the_secret_of_the_process_and_go_nowhere_else(name: str) -> None:
    everybodys = set().union(*map(secrets_of, SETTINGS.values()))
    config = objects("ConfigMap", "base")["commerce"]["data"]
    written = {variable["name"] for variable in container(name).get("env", [])}
    assert not everybodys & (set(config) | written)
    assert set(SECRETS.get((NAMESPACE, name), {})) <= known_variables(name)


def test_no_manifest_holds_a_secret() -> None:
    assert not objects("Secret")
    for label, template in WORKLOADS:
        for each in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            for variable in each.get("env", []):
                secretive = re.search("PASSWORD$|PWD|SECRET|KEY|DATABASE_URL", variable["name"])
                assert not secretive or "secretKeyRef" in variable.get("valueFrom", {}), label


def test_secrets_that_manifests_name_are_made() -> None:
    for _, template in WORKLOADS:
        for each in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            for variable in each.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert any(reference["key"] in values for (_, name), values in SECRETS.items() if name == reference["name"])


@pytest.mark.parametrize(("label", "template"), WORKLOADS, ids=[label for label, _ in WORKLOADS])
def test_pods_may_do_no_more_than_they_must(label: str, template: dict[str, Any]) -> None:
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # they would set variables that look like our settings: ORDER_PORT, SMTP_PORT
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in [*spec["containers"], *spec.get("initContainers", [])]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"].get("readOnlyRootFilesystem") or each["image"].startswith(WRITES_TO_ITS_ROOT)
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", each["image"])
        assert set(each["resources"]["requests"]) == set(each["resources"]["limits"]) == {"cpu", "memory"}


@pytest.mark.parametrize("name", [*SETTINGS, *SIMULATED])
def test_probes(name: str) -> None:
    ready = "/health/ready" if name in SETTINGS else "/health/live"
    paths = {kind: container(name)[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": ready}
    assert {"name": "http", "containerPort": int(environment_of(name)["PORT"])} in container(name)["ports"]


@pytest.mark.parametrize("name", SETTINGS)
def test_there_is_time_to_stop(name: str) -> None:
    """What is under way is finished before Kubernetes or Docker kill the process."""
    closing = 5  # the relay's producer, the consumer leaving its group
    needed = SERVICE_DRAIN_S + (DRAIN_S if name == "worker" else closing)
    pause = container(name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod(name)["terminationGracePeriodSeconds"] > needed + pause
    assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > needed


@pytest.mark.parametrize("name", SCALED)
def test_it_scales_and_survives_a_drain(name: str) -> None:
    scaler = objects("HorizontalPodAutoscaler", "base")[name]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert scaler["minReplicas"] == REPLICAS[name] < scaler["maxReplicas"]
    assert "replicas" not in DEPLOYMENTS[name]["spec"]  # each `kubectl apply` would undo what the scaler did
    labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    budget = objects("PodDisruptionBudget", "base")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    for selector in (budget["selector"]["matchLabels"], DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert objects("Service", "base")[name]["spec"]["selector"].items() <= labels.items()


def test_there_is_one_console_since_logins_live_in_its_memory() -> None:
    spec = DEPLOYMENTS["console"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert "console" not in objects("HorizontalPodAutoscaler", "base")
    assert objects("Service", "base")["console"]["spec"]["selector"] == spec["selector"]["matchLabels"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_until_its_database_is_migrated(name: str) -> None:
    (waiting,) = pod(name)["initContainers"]
    assert waiting["command"] == ["python", "-m", "cli.main", "migrated", name]


def test_production_changes_only_what_exists() -> None:
    base = objects("ConfigMap", "base")["commerce"]["data"]
    changed = objects("ConfigMap", "overlays/production")["commerce"]["data"]
    assert set(changed) <= set(base)
    assert all(isinstance(value, str) for value in (base | changed).values())
    for variable in (
        "PAYMENT_PROVIDER_URL",
        "CARRIER_URL",
        "SMTP_HOST",
        "TWILIO_URL",
        "PUSH_ENDPOINTS",
    ):  # no simulator in production
        assert changed[variable] != base[variable]


def test_each_build_has_workers_and_a_release_of_its_own() -> None:
    kustomization, image = build_kustomization(), compose()["services"]["worker"]["image"]
    build_id = image.partition(":")[2]
    assert kustomization["labels"] == [{"pairs": {"temporal.io/build-id": build_id}, "includeSelectors": True}]
    assert kustomization["nameSuffix"] == f"-{build_id.replace('.', '-')}"
    production = yaml.safe_load((FOLDER / "overlays" / "production" / "kustomization.yaml").read_text())
    assert production["images"] == [{"name": "distributed-commerce", "newTag": build_id}]
    (job,) = [job for name, job in objects("Job", "base").items() if name == "release"]
    (told,) = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert (told["name"], _value(told)) == ("TEMPORAL_WORKER_BUILD_ID", build_id)
    assert environment_of("worker")["TEMPORAL_WORKER_BUILD_ID"] == build_id
    assert job["spec"]["template"]["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": "commerce"}}]
    # What all builds share is found by what they have in common.
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        assert "temporal.io/build-id" not in str(objects(kind, "base")["worker"])


def test_the_release_reaches_temporal_and_nothing_else() -> None:
    assert servers_reached("release") == {("temporal", None)}
    policy = next(policy for name, policy in objects("NetworkPolicy", "infrastructure").items() if name == "temporal")
    allowed = {
        entry["podSelector"]["matchLabels"].get("app.kubernetes.io/name") for entry in policy["spec"]["ingress"][0]["from"]
    }
    assert {"order", "worker", "release"} <= allowed


# ── Who may talk to whom ─────────────────────────────────────────────────────────────────────────────────────────────────


def labels_of(name: str) -> dict[str, str]:
    if name in objects("Job", "base"):
        return {"app.kubernetes.io/name": name}
    labels: dict[str, str] = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    return labels


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


@cache
def policies_of(name: str) -> list[dict[str, Any]]:
    policies = {**objects("NetworkPolicy", "base"), **objects("NetworkPolicy", "simulators")}
    return [policy["spec"] for policy in policies.values() if selects(policy["spec"]["podSelector"], labels_of(name))]


def may_call(caller: str, callee: str, port: int = 8000) -> bool:
    """Whether both sides allow it."""

    def allowed(mine: str, other: str, way: str, peer: str) -> bool:
        return any(
            port in [entry["port"] for entry in rule["ports"]]
            and (
                peer not in rule
                or any(
                    "podSelector" in entry
                    and "namespaceSelector" not in entry
                    and selects(entry["podSelector"], labels_of(other))
                    for entry in rule[peer]
                )
            )
            for policy in policies_of(mine)
            for rule in policy.get(way, [])
        )

    return allowed(caller, callee, "egress", "to") and allowed(callee, caller, "ingress", "from")


def needs(caller: str) -> set[str]:
    """The processes whose addresses this one reads; all read identity's, for its keys. Of those in GatewaySettings Envoy needs
    all but the worker, the edge app all but the console."""
    if caller == "gateway":
        return {*SERVICES, "edge", "console"}
    fields = SETTINGS[caller].model_fields
    return {name for name in SETTINGS if f"{name}_url" in fields and name != caller} - (
        {"console"} if caller == "edge" else set()
    )


def test_each_process_reaches_those_that_it_calls_and_no_others() -> None:
    for caller in (*SETTINGS, "gateway"):
        assert {callee for callee in SETTINGS if callee != caller and may_call(caller, callee)} == needs(caller), caller


def test_simulators_are_reached_by_their_customers_alone() -> None:
    for caller, callee, port in (
        ("payment", "payment-provider", 8000),
        ("shipping", "carrier", 8000),
        ("payment", "bank", 8000),
        ("notification", "mail-sink", 1025),
        ("notification", "sms-provider", 8000),
        ("notification", "push-service", 8000),
    ):
        assert [name for name in SETTINGS if may_call(name, callee, port)] == [caller]
    assert may_call("carrier", "gateway")
    assert not any(may_call("carrier", name) for name in SERVICES)


def test_a_browser_reaches_the_simulated_bank_by_the_port_forward_that_is_documented() -> None:
    told = environment_of("payment-provider")
    port = told["PAYMENT_PROVIDER_PUBLIC_URL"].removeprefix("http://localhost:")
    command = f"kubectl -n {NAMESPACE} port-forward service/payment-provider {port}:{told['PORT']}"
    for page in (ROOT / "docs" / "payments.md", FOLDER / "overlays" / "evaluation" / "kustomization.yaml"):
        assert command in page.read_text()
    [service] = objects("Service", "simulators")["payment-provider"]["spec"]["ports"]
    assert str(service["port"]) == told["PORT"]


def test_only_the_gateway_is_open_to_everybody() -> None:
    for namespace in ("base", "infrastructure"):
        denied = objects("NetworkPolicy", namespace)["default-deny"]["spec"]
        assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to_all = [
        document["metadata"]["name"]
        for _, document in manifests()
        if document["kind"] == "NetworkPolicy" and any("from" not in rule for rule in document["spec"].get("ingress", []))
    ]
    assert open_to_all == ["gateway"]
    assert {service["spec"].get("type", "ClusterIP") for service in objects("Service").values()} == {"ClusterIP"}
    paths = objects("Ingress")["gateway"]["spec"]["rules"][0]["http"]["paths"]
    assert {path["backend"]["service"]["name"] for path in paths} == {"gateway"}
    assert not any("/metrics".startswith(path["path"].rstrip("/")) for path in paths)


def servers_reached(name: str) -> set[tuple[str, str | None]]:
    """The servers in the infrastructure namespace that a process may go to: name, and database."""
    return {
        (entry["podSelector"]["matchLabels"]["app.kubernetes.io/name"], entry["podSelector"]["matchLabels"].get("database"))
        for policy in policies_of(name)
        for rule in policy.get("egress", [])
        for entry in rule.get("to", [])
        if entry.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") == "infrastructure"
    }


@pytest.mark.parametrize("name", [*SETTINGS, "gateway"])
def test_each_process_reaches_its_own_servers_alone(name: str) -> None:
    expected: set[tuple[str, str | None]] = set()
    if name in SERVICES:
        expected |= {("postgres", name), ("kafka", None)}
    if name in ("edge", "catalog"):
        expected |= {("valkey", None)}
    if name == "edge":
        expected |= {("kafka", None)}  # for the health of the whole
    if name == "gateway":
        expected |= {("temporal-ui", None)}
    elif "temporal_address" in SETTINGS[name].model_fields:
        expected |= {("temporal", None)}
    assert servers_reached(name) == expected


def test_each_database_is_made_for_one_service() -> None:
    found = {
        file.parent.name: yaml.safe_load(file.read_text())
        for file in FOLDER.glob("infrastructure/databases/*/kustomization.yaml")
    }
    assert set(found) == {*SERVICES, "temporal"} == set(SECRETS["infrastructure", "postgres"])
    for name, kustomization in found.items():
        assert kustomization["resources"] == ["../../postgres"]
        assert kustomization["nameSuffix"] == f"-{name}"
        assert kustomization["labels"] == [{"pairs": {"database": name}, "includeSelectors": True}]
    for name in SERVICES:
        assert labels_of(name)["database"] == name
        assert f"@postgres-{name}.infrastructure:5432/{name}_db" in SECRETS[NAMESPACE, name][f"DATABASE_URL_{name.upper()}"]
