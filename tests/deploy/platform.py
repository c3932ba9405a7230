"""What the deployment files must agree with: the processes of the platform, their settings, and their secrets."""

import ast
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from cli import secrets
from console.app import ConsoleSettings
from contracts.platform import PROCESSES, SERVICE_NAMES, SIMULATORS
from embedded.platform import Platform
from gateway.settings import GatewaySettings
from services.analytics.app import AnalyticsSettings
from services.catalog.app import CatalogSettings
from services.identity.app import IdentitySettings
from services.inventory.app import InventorySettings
from services.notification.app import NotificationSettings
from services.order.app import OrderSettings
from services.payment.app import PaymentSettings
from services.shipping.app import ShippingSettings
from worker import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
FRESH = secrets.fresh()
"""Such secrets as `commerce secrets` makes."""
SETTINGS: dict[str, type[BaseSettings]] = {
    "edge": GatewaySettings,
    "identity": IdentitySettings,
    "catalog": CatalogSettings,
    "order": OrderSettings,
    "payment": PaymentSettings,
    "inventory": InventorySettings,
    "shipping": ShippingSettings,
    "notification": NotificationSettings,
    "analytics": AnalyticsSettings,
    "worker": WorkerSettings,
    "console": ConsoleSettings,
}
"""Of our own processes. The front door is Envoy, which is told of GatewaySettings by a configuration (see test_gateway.py)."""
SIMULATED = tuple(simulator.name for simulator in SIMULATORS)
SERVICES = SERVICE_NAMES
assert set(PROCESSES) == {*SETTINGS, *SIMULATED}


@cache
def processes() -> dict[str, tuple[str, ...]]:
    """Each process of ours that a platform on a laptop runs, with its command."""
    with TemporaryDirectory() as directory:
        specs = Platform(Path(directory))._compose()
    ours = [spec for spec in specs if "-m" in spec.argv]
    return {spec.name.replace("_", "-"): ("python", *spec.argv[1:]) for spec in ours}


def variables(settings: type[BaseSettings]) -> dict[str, str]:
    """The environment variables that a settings class reads, with the name of the field."""
    return {str(field.validation_alias or name).upper(): name for name, field in settings.model_fields.items()}


def secrets_of(settings: type[BaseSettings]) -> set[str]:
    """Those among them that nobody may read."""
    hints = {name: str(field.annotation) for name, field in settings.model_fields.items()}
    secret = {name for name, hint in hints.items() if SecretStr.__name__ in hint}
    addresses = ("database_url", "database_read_url", "redis_url")
    secret |= {name for name in hints if name in (*addresses, "temporal_api_key", "admin_password")}
    return {variable for variable, name in variables(settings).items() if name in secret}


def simulator_variables(process: str) -> dict[str, bool]:
    """The environment variables that a simulator reads, and whether it needs them."""
    found = {"HOST": False, "PORT": True, "SIMULATOR_DATA_DIR": True}
    for call in (node for node in ast.walk(ast.parse(simulator_source(process))) if isinstance(node, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        for argument in call.args:
            if (
                name in ("required", "get")
                and isinstance(argument, ast.Constant)
                and re.fullmatch("[A-Z]+_[A-Z_]+", str(argument.value))
            ):
                found[str(argument.value)] = name == "required"
    return found


def simulator_source(process: str) -> str:
    """Its module's, or those of all modules of its package, the head first."""
    path = ROOT.joinpath(*PROCESSES[process].module.split("."))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return "\n".join(file.read_text().replace("from __future__ import annotations\n", "") for file in files)


def known_variables(process: str) -> set[str]:
    """All environment variables that mean something to a process."""
    return set(variables(SETTINGS[process])) if process in SETTINGS else set(simulator_variables(process))


@cache
def declared() -> dict[str, list[str]]:
    """The requirements that pyproject.toml declares, by group; `runtime` is what every installation needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"runtime": project["dependencies"], **project["optional-dependencies"]}


@cache
def compose() -> dict[str, Any]:
    """docker-compose.yml."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@cache
def manifests(folder: str = "") -> tuple[tuple[Path, dict[str, Any]], ...]:
    """Every Kubernetes object under deploy/kubernetes/, with its file."""
    files = sorted((ROOT / "deploy" / "kubernetes" / folder).rglob("*.yaml"))
    return tuple(
        (file, document)
        for file in files
        if file.name != "kustomization.yaml"
        for document in yaml.load_all(file.read_text(), yaml.CSafeLoader)
    )


@cache
def objects(kind: str, folder: str = "") -> dict[str, dict[str, Any]]:
    """The objects of a kind, by name."""
    return {document["metadata"]["name"]: document for _, document in manifests(folder) if document["kind"] == kind}


_SUBSTITUTION = re.compile(r"\$\{(\w+)(?::([-?+])([^}]*))?\}")


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """As Docker Compose does. Raises KeyError for a variable that must be set and is not."""

    def replaced(match: re.Match[str]) -> str:
        name, operator, operand = match.groups()
        value = environment.get(name, "")
        if operator == "+":
            return operand if value else ""
        if not value and operator == "?":
            raise KeyError(name)
        return value or (operand if operator == "-" else "")

    return _SUBSTITUTION.sub(replaced, text)


def needed_for_compose() -> set[str]:
    """The variables without which docker-compose.yml cannot be used."""
    text = (ROOT / "docker-compose.yml").read_text()
    return {match[1] for match in _SUBSTITUTION.finditer(text) if match[2] == "?"}
