"""docker-compose.yml: valid, complete, and in keeping with the processes and their settings."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts.platform import PROCESSES
from temporal.names import SEARCH_ATTRIBUTES, search_attribute_kind
from tests.deploy.platform import (
    FRESH,
    ROOT,
    SERVICES,
    SETTINGS,
    SIMULATED,
    compose,
    interpolate,
    known_variables,
    needed_for_compose,
    processes,
    secrets_of,
    simulator_variables,
    variables,
)

COMPOSE = compose()["services"]
OURS = {name: service for name, service in COMPOSE.items() if service.get("image", "").startswith("distributed-commerce:")}
ELSEWHERE = ("127.0.0.1", "localhost")


def environment_of(name: str) -> dict[str, str]:
    return {variable: interpolate(str(value), FRESH) for variable, value in COMPOSE[name].get("environment", {}).items()}


def test_it_is_valid() -> None:
    command = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([command, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"], cwd=ROOT, check=True)


def test_each_process_runs_as_on_a_laptop() -> None:
    assert {name: tuple(OURS[name]["command"]) for name in processes()} == processes()
    assert set(OURS) == {*processes(), "commerce", "gateway-config", "worker-previous"}


def test_a_previous_worker_is_the_same_process_of_the_image_before() -> None:
    previous, worker = COMPOSE["worker-previous"], COMPOSE["worker"]
    assert previous["profiles"] == ["previous"]
    assert previous["image"] == "distributed-commerce:previous"
    assert "build" not in previous  # the code that comes now must never take its place
    own = {"profiles", "image", "pull_policy", "networks"}
    assert {k: v for k, v in previous.items() if k not in own} == {k: v for k, v in worker.items() if k not in ("image", "build")}


def test_the_image_says_which_build_it_is_and_nothing_else_does() -> None:
    assert compose()["x-process"]["build"]["args"] == {"BUILD_ID": "${BUILD_ID:-}"}
    assert "TEMPORAL_WORKER_BUILD_ID=$BUILD_ID" in (ROOT / "Dockerfile").read_text()
    assert not any("TEMPORAL_WORKER_BUILD_ID" in service.get("environment", {}) for service in COMPOSE.values())


@pytest.mark.parametrize("name", SETTINGS)
def test_its_settings_can_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is required is missing, and no address is left at its default, which is a laptop's."""
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    for variable, value in environment_of(name).items():
        monkeypatch.setenv(variable, value)

    settings = SETTINGS[name]()

    addresses = ((field, value) for field, value in settings if field != "public_url")  # that one is for the laptop's browser
    local = [field for field, value in addresses if any(address in str(value) for address in ELSEWHERE)]
    assert local == []


@pytest.mark.parametrize("name", SIMULATED)
def test_simulators_get_what_they_need(name: str) -> None:
    needed = {variable for variable, required in simulator_variables(name).items() if required}
    assert needed <= {variable for variable, value in environment_of(name).items() if value}


@pytest.mark.parametrize("name", [*SETTINGS, *SIMULATED])
def test_every_variable_means_something(name: str) -> None:
    common = set(compose()["x-environment"]) & set().union(*map(known_variables, SETTINGS))
    assert set(environment_of(name)) <= known_variables(name) | (common if name in SETTINGS else set())


@pytest.mark.parametrize("name", [*SETTINGS, *SIMULATED, "gateway-config", "migrate", "commerce"])
def test_secrets_come_from_outside_and_go_only_where_they_are_used(name: str) -> None:
    names = set().union(*map(secrets_of, SETTINGS.values()))
    given = {variable: value for variable, value in COMPOSE[name].get("environment", {}).items() if variable in names}
    assert all("${" in value and ":-" not in value.replace(":-}", "") for value in given.values())
    if name in SETTINGS:
        assert set(given) <= secrets_of(SETTINGS[name])


def test_the_env_file_is_complete() -> None:
    example = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert all(value == "" for _, value in example)
    assert {name for name, _ in example} == set(FRESH)
    assert needed_for_compose() <= {name for name, value in FRESH.items() if value}
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_images_are_pinned() -> None:
    for service in (service for name, service in COMPOSE.items() if name != "worker-previous"):
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+(-\w+)?", service["image"])


@pytest.mark.parametrize("name", COMPOSE)
def test_containers_may_do_no_more_than_they_must(name: str) -> None:
    service = COMPOSE[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name in (*OURS, "gateway"):
        assert service["read_only"]
        assert service["user"] == "10001:10001"
        assert service["deploy"]["resources"]["limits"]["memory"]


def test_only_the_front_door_and_the_consoles_are_open_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in COMPOSE.items() if "ports" in service}
    assert set(published) == {"gateway", "payment-provider", "grafana", "prometheus", "jaeger"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_a_browser_reaches_the_simulated_bank_where_it_is_sent() -> None:
    [port] = COMPOSE["payment-provider"]["ports"]
    environment = environment_of("payment-provider")
    _, published, inside = port.split(":")
    assert environment["PAYMENT_PROVIDER_PUBLIC_URL"] == f"http://localhost:{published}"
    assert inside == environment["PORT"]
    assert published == str(PROCESSES["payment-provider"].port)
    assert published not in {
        port.split(":")[1] for name, each in COMPOSE.items() if name != "payment-provider" for port in each.get("ports", ())
    }


@pytest.mark.parametrize("name", [*SETTINGS, *SIMULATED])
def test_health_is_asked(name: str) -> None:
    path = "ready" if name in SETTINGS else "live"
    assert f":{environment_of(name)['PORT']}/health/{path}" in COMPOSE[name]["healthcheck"]["test"][-1]


def test_what_must_have_happened_before() -> None:
    def waits(name: str, other: str) -> bool:
        condition: Any = COMPOSE[name]["depends_on"].get(other)
        return bool(condition == {"condition": "service_completed_successfully"})

    assert all(waits(service, "migrate") for service in SERVICES)
    assert waits("order", "temporal-setup")
    assert waits("worker", "temporal-setup")
    assert waits("gateway", "release")
    assert COMPOSE["release"]["depends_on"] == {"worker": {"condition": "service_healthy"}}
    assert waits("temporal", "temporal-schema")


def test_each_service_knows_its_own_database_alone() -> None:
    own = {name: [v for v in environment_of(name) if v.startswith("DATABASE_URL_")] for name in OURS}
    assert {name: found for name, found in own.items() if found and name not in ("migrate", "commerce")} == {
        name: [f"DATABASE_URL_{name.upper()}"] for name in SERVICES
    }
    assert len(own["migrate"]) == len(SERVICES)
    replicas = {name: [v for v in environment_of(name) if v.startswith("DATABASE_READ_URL_")] for name in OURS}
    assert {name: found for name, found in replicas.items() if found} == {
        name: [f"DATABASE_READ_URL_{name.upper()}"] for name in SERVICES
    }


def test_temporal_gets_the_search_attributes_that_the_laptop_has() -> None:
    script = (ROOT / "deploy" / "temporal" / "setup.sh").read_text()
    wanted = {key.name: search_attribute_kind(key) for key in SEARCH_ATTRIBUTES}
    assert dict(re.findall(r"--name (\w+) --type (\w+)", script)) == wanted


def test_variables_of_processes_are_named_alike_everywhere() -> None:
    """What a laptop's platform sets for all its processes has the same name here."""
    everywhere = set().union(*(variables(settings) for settings in SETTINGS.values()))
    assert set(compose()["x-environment"]) <= everywhere
