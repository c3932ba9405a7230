"""The one list of processes: complete, and what settings say by default agrees with it."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from contracts.platform import CLIENTS, PROCESSES, SERVICE_NAMES, SERVICES, SIMULATORS, local_url
from embedded.platform import Platform
from gateway.routes import SERVICES as ROUTED
from tests.deploy.platform import SETTINGS, secrets_of

ROOT = Path(__file__).parent.parent.parent


def test_every_process_is_in_the_list_and_can_be_started() -> None:
    assert all(find_spec(process.module) for process in PROCESSES.values())
    assert set(SERVICE_NAMES) == {file.parent.name for file in (ROOT / "services").glob("*/app.py")}
    assert {simulator.module for simulator in SIMULATORS} == {
        f"simulators.{path.stem}"
        for path in (ROOT / "simulators").glob("[a-z]*")
        if (path / "__main__.py").exists() or (path.suffix == ".py" and "__main__" in path.read_text())
    }
    assert set(ROUTED) == set(SERVICE_NAMES)


def test_no_two_listen_at_the_same_place() -> None:
    assert len({process.port for process in PROCESSES.values()}) == len(PROCESSES)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_find_everybody_by_default(name: str) -> None:
    # Simulators stand for companies that are elsewhere.
    ours = [process for process in PROCESSES.values() if process not in SIMULATORS]
    known = {f"{process.identifier}_url": local_url(process.name) for process in ours}
    defaults = {field: info.default for field, info in SETTINGS[name].model_fields.items() if field in known}
    assert {field: url for field, url in defaults.items() if isinstance(url, str) and url != known[field]} == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_process_reads_the_secrets_that_the_list_gives_it_and_no_others(name: str) -> None:
    process = PROCESSES[name]
    given_or_not_secret = {"ADMIN_EMAIL", "JWT_PREVIOUS_PUBLIC_KEYS", "SMTP_USERNAME", "TWILIO_ACCOUNT_SID"}
    assert secrets_of(SETTINGS[name]) - set(process.servers) - {"TEMPORAL_API_KEY"} == set(process.needs) - given_or_not_secret


def test_a_process_is_told_of_its_own_replica_alone(tmp_path: Path) -> None:
    given = {process.read_database_variable: f"postgresql://{process.name}" for process in SERVICES}
    specs = [spec for spec in Platform(tmp_path, settings=given)._compose() if spec.name in PROCESSES]
    told = {spec.name: [name for name in spec.env if name in given] for spec in specs}
    assert told == {name: [PROCESSES[name].read_database_variable] if PROCESSES[name].has_database else [] for name in told}
    assert {process.name for process in SERVICES} <= set(told)


def test_whoever_has_a_client_secret_calls_others_with_it() -> None:
    with_tokens = {
        file.parent.name if file.name == "app.py" else file.stem
        for file in (*ROOT.glob("services/*/app.py"), ROOT / "console" / "app.py", ROOT / "worker.py")
        if any(isinstance(node, ast.Name) and node.id == "ServiceTokens" for node in ast.walk(ast.parse(file.read_text())))
    }
    assert with_tokens == {client.name for client in CLIENTS}
