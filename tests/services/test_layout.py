"""Every service is laid out alike. import-linter says which files there are and which may import which (pyproject.toml); here is
what it cannot say: in which file things are made."""

import ast
from pathlib import Path

import pytest

from contracts.platform import SERVICE_NAMES
from tests.deploy.platform import ROOT

MADE_IN = {
    "OutboundClient": "adapters",  # calls of outside companies, each behind a port
    "Subscription": "consumers",
    "AccessTable": "access",
    "Outbox": "model",
    "Inbox": "model",
}
"""The one file of a service that makes each of these."""


def files_that_call(name: str, service: Path) -> set[str]:
    """By the file's role: the module or package directly under the service."""
    found = set()
    for file in service.rglob("*.py"):
        calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        if any(isinstance(call, ast.Name) and call.id == name for call in calls):
            found.add(file.relative_to(service).parts[0].removesuffix(".py"))
    return found


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_each_thing_is_made_in_its_file(service: str) -> None:
    for name, role in MADE_IN.items():
        assert files_that_call(name, ROOT / "services" / service) <= {role}, name


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_service_has_migrations_and_its_adapters_have_ports(service: str) -> None:
    folder = ROOT / "services" / service
    assert list(folder.glob("migrations/versions/0001_*.py"))
    assert (folder / "migrations" / "env.py").exists()
    has_adapters = (folder / "adapters.py").exists() or (folder / "adapters" / "__init__.py").exists()
    assert has_adapters == (folder / "ports.py").exists()
