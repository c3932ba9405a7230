"""The whole platform as one `async with`: infrastructure, simulators, services, gateway and worker.

    async with Platform(Path(".commerce")) as platform:
        print(platform.url("gateway"), platform.url("temporal_ui"))

State, ports, logins and logs stay in the data directory, so the next start has them again. A part whose
address is already in the environment (DATABASE_URL_ORDER, REDIS_URL, KAFKA_BOOTSTRAP_SERVERS,
TEMPORAL_ADDRESS) is used, not started.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal, Self

from cli import secrets
from contracts.budgets import DRAIN_S
from contracts.events import TOPICS
from contracts.platform import CONSOLE, EDGE, PROCESSES, SERVICE_NAMES, SERVICES, SIMULATORS, WORKER, Process
from embedded import builds, clock
from embedded.apache_kafka import ApacheKafka
from embedded.envoy import EnvoyServer
from embedded.kafka import KafkaBroker
from embedded.ports import Ports
from embedded.postgres import PostgresServer
from embedded.private import passable_directory, private_directory, write_private
from embedded.probes import http_ok
from embedded.supervisor import PartFailed, ProcessSpec, Supervisor
from embedded.temporal import TemporalServer
from embedded.valkey import ValkeyServer
from gateway.envoy import render
from gateway.settings import GatewaySettings
from temporal.versions import VersionSettings

if TYPE_CHECKING:
    from temporal.deployments import Deployment

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
OUR_PROCESSES = ("gateway", *(process.identifier for process in PROCESSES.values()))
"""What speaks HTTP and is ours: each has a URL, and its address in <NAME>_URL."""
PARTS = ("api", "relay", "consumers")
PARTITIONS = 3
LOOK_FOR_DRAINED_S = 5.0

Broker = Literal["tansu", "apache"]


class AlreadyRunning(RuntimeError):
    """Another platform runs on this data directory."""


class Platform:
    """Runs everything while its block is entered. `settings` are environment variables that win over all
    others here.

    PORT_<PART> (say PORT_GATEWAY=8080, PORT_TEMPORAL_UI=8233) in `settings` fixes a port. PROXY_PORT_<PART> (postgres,
    valkey, kafka, temporal, or one of OUR_PROCESSES) is the port that all others are given instead of the
    part's own: a proxy listens there.
    CLOCK_FILES names a directory with files that say how wrong each process's clock is (`embedded.clock`). Services named in
    `split` run their API, relay and consumers as the processes `order-api`, `order-relay`, `order-consumers`.
    With `infrastructure_only` there are only the four servers. Raises AlreadyRunning and PartFailed on
    entering.

    The worker is a build (`temporal.versions`) that is promoted once it is ready, unless `promote` is false: then the current
    build stays what it was. Builds of earlier starts that still have orders in flight run beside it, from the zips in
    `<data_dir>/builds`, until the last of their orders has ended. `build` names another one than the tree's, with its code: a
    tree or a zip. LONG_HISTORY_EVENTS is after how many events Temporal suggests an order to go on in another run.
    """

    def __init__(
        self,
        data_dir: Path = Path(".commerce"),
        *,
        settings: Mapping[str, str] | None = None,
        kafka: Broker = "tansu",
        infrastructure_only: bool = False,
        split: tuple[str, ...] = (),
        promote: bool = True,
        build: tuple[str, Path] | None = None,
    ) -> None:
        if unknown := set(split) - set(SERVICE_NAMES):
            raise ValueError(f"no such service to split: {', '.join(sorted(unknown))}")
        self.data_dir = data_dir.resolve()
        self.up_seconds = 0.0
        self._settings = dict(settings or {})
        self._env: dict[str, str] = {}
        self._broker: Broker = kafka
        self._infrastructure_only = infrastructure_only
        self._split = split
        self._promote = promote
        self._versions = VersionSettings.model_validate(
            {name.lower(): value for name, value in self._temporal_environment().items()}
        )
        self._builds = builds.BuildStore(self.data_dir / "builds")
        self._other_build = build
        self._draining: asyncio.Task[None] | None = None
        self._lock: IO[str] | None = None
        self._supervisor: Supervisor | None = None
        self._urls: dict[str, str] = {}
        self._ports: Ports
        self._build_id = ""

    @property
    def supervisor(self) -> Supervisor:
        """Kills, stops, starts and measures the parts.

        Raises RuntimeError before the platform was entered.
        """
        if self._supervisor is None:
            raise RuntimeError("the platform is not running")
        return self._supervisor

    @property
    def env(self) -> dict[str, str]:
        """Every address and secret, for clients, tests and the CLI. A process gets of the secrets only its own."""
        return dict(self._env)

    def url(self, name: str) -> str:
        """The base URL of a part that speaks HTTP: one of OUR_PROCESSES, or temporal_ui."""
        return self._urls[name]

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        passable_directory(self.data_dir)
        private_directory(self.data_dir / "simulators")
        self._lock = await _lock_soon(self.data_dir)
        try:
            self._supervisor = Supervisor(self.data_dir / "logs", self._compose(), on_ready=self._publish, forks=True)
            await self._supervisor.start_all()
            try:
                if not self._infrastructure_only:
                    await self._take_up_earlier_builds()
            except BaseException:
                await self._supervisor.stop_all()
                raise
        except BaseException:
            self._release()
            raise
        self.up_seconds = time.monotonic() - began
        self._publish()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._draining is not None:
                self._draining.cancel()
                await asyncio.wait([self._draining])
            await self.supervisor.stop_all()
        finally:
            self._release()

    @property
    def build_id(self) -> str:
        """The build that the part `worker` runs: the tree's, unless another was given."""
        return self._build_id

    async def start_worker(self, code: Path, build_id: str) -> str:
        """Start a worker of another build beside the others, from a tree or a zip, of which a copy is kept; returns the name of
        the part once it serves. No order comes to it until somebody promotes or ramps its build. Raises PartFailed."""
        name = f"worker-{build_id}"
        zipped = self._builds.keep(code, build_id)
        if name not in self.supervisor.names():
            own = self._python(WORKER, self._ports, name=name, start_after=("migrate",))
            env = {**own.env, **builds.environment(zipped, build_id)}
            self.supervisor.add(replace(own, env=env, cwd=self._builds.directory))
        await self.supervisor.start(name)
        return name

    async def stop_worker(self, build_id: str) -> None:
        """Stop the worker of a build, gracefully; the orders that are pinned to it wait."""
        await self.supervisor.stop(WORKER.name if build_id == self._build_id else f"worker-{build_id}")

    async def _take_up_earlier_builds(self) -> None:
        """Start the workers of the builds of which orders may be in flight, and forget the other ones."""
        earlier = self._builds.known() - {self._build_id}
        if not earlier:
            return
        deployment = await self._deployment()
        left = set(earlier)
        for build_id in sorted(earlier):
            if await _is_drained(deployment, build_id):
                self._builds.drop(build_id)
                continue
            try:
                await self.start_worker(self._builds.path(build_id), build_id)
            except PartFailed as failure:  # the other builds serve
                log.error("orders of build %s wait, as its worker does not start: %s", build_id, failure)
        self._draining = asyncio.create_task(self._stop_the_drained(deployment, left), name="stop drained builds")

    async def _stop_the_drained(self, deployment: "Deployment", left: set[str]) -> None:
        """Stop each worker whose build has drained, and forget the build. Temporal forgets it when no worker of it has asked for
        work for a minute."""
        from chassis.clients import Unavailable
        from temporal.deployments import ReleaseError

        while left:
            for build_id in sorted(left):
                try:
                    if not await _is_drained(deployment, build_id):
                        continue
                    if f"worker-{build_id}" in self.supervisor.pids():
                        await self.stop_worker(build_id)
                        self._publish()
                    self._builds.drop(build_id)
                    if build_id in await deployment.builds():
                        await deployment.delete(build_id)
                except (Unavailable, ReleaseError) as error:
                    log.info("build %s is not forgotten yet: %s", build_id, error)
                else:
                    left.discard(build_id)
            await asyncio.sleep(LOOK_FOR_DRAINED_S)

    def _temporal_environment(self) -> dict[str, str]:
        """Where Temporal is, and which deployment is ours."""
        given = {**os.environ, **self._settings, **self._env}
        return {name: value for name, value in given.items() if name.startswith("TEMPORAL_") and value}

    async def _deployment(self) -> "Deployment":
        # Only who has builds to drain needs a client of Temporal, which takes a moment to load.
        from temporal.client import TemporalSettings, connect
        from temporal.deployments import Deployment

        given = {name.lower(): value for name, value in self._temporal_environment().items()}
        settings = TemporalSettings.model_validate(given)
        return Deployment(await connect(settings, lazy=True), self._versions.temporal_deployment_name)

    def _compose(self) -> list[ProcessSpec]:
        """Decide every address, then the processes. Fills `env` and the URLs on the way."""
        ports = self._ports = Ports(self.data_dir / "ports.json")
        infrastructure, addresses = self._infrastructure(ports)
        self._urls["temporal_ui"] = self._web_ui(ports) if addresses["TEMPORAL_UI_URL"] else ""
        for name in OUR_PROCESSES:
            self._urls[name] = f"http://127.0.0.1:{self._port(ports, name)}"
        self._env = {
            **addresses,
            **{
                f"{name.upper()}_URL": f"http://127.0.0.1:{self._port_for_others(name, self._port(ports, name))}"
                for name in OUR_PROCESSES
            },
            "PUBLIC_URL": self._urls["gateway"],
            "PAYMENT_WEBHOOK_URL": f"{self._urls['gateway']}/api/v1/payments/webhook",
            "CARRIER_WEBHOOK_URL": f"{self._urls['gateway']}/api/v1/carriers/webhook",
            "TWILIO_URL": f"http://127.0.0.1:{self._port_for_others('sms_provider', self._port(ports, 'sms_provider'))}",
            "TWILIO_FROM": "+15005550006",
            "TWILIO_STATUS_URL": f"{self._urls['gateway']}/api/v1/notifications/webhooks/twilio",
            "TWILIO_INBOUND_URL": f"{self._urls['gateway']}/api/v1/notifications/webhooks/twilio",
            "PUSH_ENDPOINTS": self._urls["push_service"],
            "EMAIL_WEBHOOK_URL": f"{self._urls['gateway']}/api/v1/notifications/webhooks/email",
            "BANK_RECIPIENT": "The Shop",
            "BANK_IBAN": "DE89370400440532013000",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self._port(ports, "smtp")),
            "SIMULATOR_DATA_DIR": str(self.data_dir / "simulators"),
            **_secrets(self.data_dir / "secrets.json"),
            **self._settings,
        }
        if self._infrastructure_only:
            return infrastructure
        self._build_id, code = self._other_build or (self._versions.build_id, ROOT)
        self._builds.keep(code, self._build_id)
        return [*infrastructure, *self._processes(ports, after=tuple(spec.name for spec in infrastructure))]

    def _infrastructure(self, ports: Ports) -> tuple[list[ProcessSpec], dict[str, str]]:
        """The servers that are not given from outside, and the addresses of all four."""
        given = {**os.environ, **self._settings}
        specs: list[ProcessSpec] = []
        addresses: dict[str, str] = {"TEMPORAL_NAMESPACE": given.get("TEMPORAL_NAMESPACE", "default")}

        database_names = {service.database_variable: service.database_name for service in SERVICES}
        if "DATABASE_URL_ORDER" in given:
            addresses |= {variable: given[variable] for variable in database_names}
        else:
            postgres = PostgresServer(self.data_dir / "postgres", self._port(ports, "postgres"))
            specs.append(postgres.spec())
            proxied = replace(postgres, port=self._port_for_others("postgres", postgres.port))
            addresses |= {variable: proxied.url(name) for variable, name in database_names.items()}
        replicas = [service.read_database_variable for service in SERVICES]
        addresses |= {variable: given[variable] for variable in replicas if variable in given}

        if "REDIS_URL" in given:
            addresses["REDIS_URL"] = given["REDIS_URL"]
        else:
            valkey = ValkeyServer(self.data_dir / "valkey", self._port(ports, "valkey"))
            specs.append(valkey.spec())
            addresses["REDIS_URL"] = replace(valkey, port=self._port_for_others("valkey", valkey.port)).url

        if "KAFKA_BOOTSTRAP_SERVERS" in given:
            addresses["KAFKA_BOOTSTRAP_SERVERS"] = given["KAFKA_BOOTSTRAP_SERVERS"]
            addresses["KAFKA_ENABLE_IDEMPOTENCE"] = given.get("KAFKA_ENABLE_IDEMPOTENCE", "true")
        else:
            broker = self._kafka(ports)
            specs.append(broker.spec())
            addresses["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{self._port_for_others('kafka', broker.port)}"
            addresses["KAFKA_ENABLE_IDEMPOTENCE"] = "true" if self._broker == "apache" else "false"

        if "TEMPORAL_ADDRESS" in given:
            addresses["TEMPORAL_ADDRESS"] = given["TEMPORAL_ADDRESS"]
            addresses["TEMPORAL_UI_URL"] = given.get("TEMPORAL_UI_URL", "")
        else:
            kinds = ("temporal", "temporal_web", "temporal_http", "temporal_metrics")
            long = int(self._settings.get("LONG_HISTORY_EVENTS", "0")) or None
            temporal = TemporalServer(self.data_dir / "temporal", *(self._port(ports, kind) for kind in kinds))
            temporal = replace(temporal, long_history=long, with_codec_server=True)
            specs.append(temporal.spec())
            address = replace(temporal, port=self._port_for_others("temporal", temporal.port)).address
            addresses |= {"TEMPORAL_ADDRESS": address, "TEMPORAL_UI_URL": temporal.ui_url}
        return specs, addresses

    def _web_ui(self, ports: Ports) -> str:
        """Where people find Temporal's Web UI: behind the console's login, which lets them read what is encrypted."""
        return f"http://127.0.0.1:{self._port(ports, 'temporal_ui')}"

    def _kafka(self, ports: Ports) -> KafkaBroker | ApacheKafka:
        port = self._port(ports, "kafka")
        if self._broker == "tansu":
            return KafkaBroker(port, TOPICS, PARTITIONS, advertised_port=self._port_for_others("kafka", port))
        controller_port = self._port(ports, "kafka_controller")
        return ApacheKafka(self.data_dir / "apache-kafka", port, controller_port, TOPICS, PARTITIONS)

    def _processes(self, ports: Ports, after: tuple[str, ...]) -> list[ProcessSpec]:
        """Our own. The databases are migrated once the servers are up.

        All the rest starts together after that.
        """
        simulators = [self._python(simulator, ports, ready="/health/live") for simulator in SIMULATORS]
        migrate = ProcessSpec(
            name="migrate",
            argv=(sys.executable, "-m", "cli.main", "migrate"),
            env=self._env,
            cwd=ROOT,
            once=True,
            start_after=after,
        )
        up = ("migrate", *(simulator.identifier for simulator in SIMULATORS))
        specs = [*simulators, migrate]
        for process in (*SERVICES, EDGE, WORKER, CONSOLE):
            parts = PARTS if process.name in self._split else (None,)
            specs += [self._python(process, ports, part=part, start_after=up) for part in parts]
        if self._promote:
            specs.append(self._release_step())
        # After identity, so that it has its keys before the first request.
        identity = "identity-api" if "identity" in self._split else "identity"
        specs.append(self._envoy(ports).spec("gateway", start_after=(identity,)))
        return specs

    def _release_step(self) -> ProcessSpec:
        """Sends new orders to the tree's build, once its worker is there."""
        return ProcessSpec(
            name="release",
            argv=(sys.executable, "-m", "cli.main", "release", "promote", "--wait"),
            env={**self._temporal_environment(), "TEMPORAL_WORKER_BUILD_ID": self._build_id},
            cwd=ROOT,
            once=True,
            start_after=(WORKER.name,),
        )

    def _envoy(self, ports: Ports) -> EnvoyServer:
        metrics_port = self._port(ports, "gateway_metrics")
        given = {name.lower(): value for name, value in {**os.environ, **self._env}.items() if value}
        own = {"host": "127.0.0.1", "port": self._port(ports, "gateway"), "metrics_port": metrics_port}
        own["console_port"] = self._port(ports, "temporal_ui")
        return EnvoyServer(self.data_dir / "gateway", render(GatewaySettings.model_validate(given | own)), metrics_port)

    def _python(
        self,
        process: Process,
        ports: Ports,
        *,
        part: str | None = None,
        name: str | None = None,
        ready: str = "/health/ready",
        start_after: tuple[str, ...] = (),
    ) -> ProcessSpec:
        """A process of ours, or one `part` of it; or one more of its kind, under a `name` of its own."""
        name = name or (f"{process.identifier}-{part}" if part else process.identifier)
        port = self._port(ports, process.identifier if part == "api" else name.replace("-", "_"))
        own = {"HOST": "127.0.0.1", "PORT": str(port)}
        if process is WORKER:
            own["TEMPORAL_WORKER_BUILD_ID"] = self._build_id
            if self._other_build is not None:
                own |= builds.environment(self._builds.path(self._build_id), self._build_id)
            own["WORKER_METRICS_ADDRESS"] = f"127.0.0.1:{self._port(ports, f'{name}_sdk_metrics')}"
        if "CLOCK_FILES" in self._settings:
            own |= clock.environment(Path(self._settings["CLOCK_FILES"]) / name)
        return ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", process.module, *(("--run", part) if part else ())),
            env={**self._env_of(process), **own},
            cwd=self._builds.directory if "PYTHONPATH" in own else ROOT,
            ready=http_ok(f"http://127.0.0.1:{port}{ready}"),
            start_after=start_after,
            grace_s=DRAIN_S + 5 if process is WORKER else 10,
        )

    def _env_of(self, process: Process) -> dict[str, str]:
        """`env` without the secrets and the databases of others."""
        own = {*process.needs, *process.servers}
        secret = {name for other in PROCESSES.values() for name in (*other.needs, *other.servers)}
        return {name: value for name, value in self._env.items() if name in own or name not in secret}

    def _port(self, ports: Ports, name: str) -> int:
        return ports.get(name, int(self._settings.get(f"PORT_{name.upper()}", "0")) or None)

    def _port_for_others(self, name: str, own: int) -> int:
        """The port at which others find a part."""
        return int(self._settings.get(f"PROXY_PORT_{name.upper()}", own))

    def _publish(self) -> None:
        """Tell other terminals where we are, now and after each restart."""
        write_private(self.data_dir / "env.json", json.dumps(self._env, indent=1))
        description = {
            "pid": os.getpid(),
            "gateway_url": self._urls["gateway"],
            "temporal_ui_url": self._urls["temporal_ui"],
            "urls": self._urls,
            "pids": self.supervisor.pids(),
            "ready": [name for name in self.supervisor.pids() if self.supervisor.is_ready(name)],
            "env_file": str(self.data_dir / "env.json"),
            "logs": str(self.data_dir / "logs"),
            "up_seconds": round(self.up_seconds, 1),
        }
        write_private(self.data_dir / "platform.json", json.dumps(description, indent=1))

    def _release(self) -> None:
        (self.data_dir / "platform.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A platform that another process runs.

    The content of its platform.json, and the environment of its processes.
    """

    gateway_url: str
    temporal_ui_url: str
    pid: int
    pids: dict[str, int]
    ready: list[str]
    """The parts that served when the file was written: whenever one became ready."""
    urls: dict[str, str]
    """Past all proxies."""
    env: dict[str, str]


def find_running(data_dir: Path = Path(".commerce")) -> RunningPlatform | None:
    """The platform that runs (or starts) on `data_dir` now, or None.

    What a killed one left behind does not count.
    """
    data_dir = data_dir.resolve()
    with contextlib.suppress(AlreadyRunning, FileNotFoundError):
        _lock(data_dir).close()
        return None
    try:
        found = json.loads((data_dir / "platform.json").read_text())
        env = json.loads((data_dir / "env.json").read_text())
    except FileNotFoundError:
        return None
    fields = ("gateway_url", "temporal_ui_url", "pid", "pids", "ready", "urls")
    return RunningPlatform(**{name: found[name] for name in fields}, env=env)


async def _is_drained(deployment: "Deployment", build_id: str) -> bool:
    """Whether no order of a build is in flight, nor can be that Temporal does not list yet."""
    from temporal.deployments import Standing

    known = await deployment.builds()
    gets_orders = build_id in known and known[build_id].standing not in (Standing.DRAINED, Standing.INACTIVE)
    return not gets_orders and await deployment.in_flight(build_id) == 0


async def _lock_soon(data_dir: Path) -> IO[str]:
    """`_lock`, with patience for somebody who only looks (`find_running`)."""
    for _ in range(10):
        with contextlib.suppress(AlreadyRunning):
            return _lock(data_dir)
        await asyncio.sleep(0.02)
    return _lock(data_dir)


def _lock(data_dir: Path) -> IO[str]:
    """Hold the data directory until the file is closed, or we are dead. Raises AlreadyRunning."""
    path = data_dir / "lock"
    path.touch(mode=0o600)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise AlreadyRunning(f"a platform runs on {data_dir} already") from None
    return file


def _secrets(file: Path) -> dict[str, str]:
    """The logins and keys of this data directory, made at its first start.

    Later versions add what is new to them.
    """
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    made = {name: value for name, value in secrets.of_processes(kept).items() if value}
    write_private(file, json.dumps(made, indent=1))
    return made
