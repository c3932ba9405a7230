"""pyproject.toml declares what the code imports, and requirements.lock pins what is declared."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.image_requirements import entries
from tests.deploy.platform import ROOT, declared

RUNTIME = (
    "activities",
    "audit",
    "chassis",
    "cli",
    "console",
    "contracts",
    "data",
    "gateway",
    "services",
    "temporal",
    "workflows",
    "worker.py",
)
EMBEDDED = ("embedded", "simulators", "testing", "benchmarks")
GROUPS = {"runtime": RUNTIME, "embedded": EMBEDDED, "dev": ("tests", "deploy")}


def names(*groups: str) -> set[str]:
    """The declared packages of these groups."""
    return {canonicalize_name(Requirement(line).name) for group in groups for line in declared()[group]}


def imported(*places: str) -> dict[str, Path]:
    """Top-level modules of others that the code there imports, each with a file that does."""
    own = {entry.stem for entry in ROOT.iterdir()}
    found = {}
    for place in places:
        for file in (ROOT / place).rglob("*.py") if (ROOT / place).is_dir() else [ROOT / place]:
            for name in _imports(ast.parse(file.read_text())):
                if name not in sys.stdlib_module_names and name not in own:
                    found[name] = file.relative_to(ROOT)
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("group", "may_use"), [("runtime", ("runtime",)), ("embedded", ("runtime", "embedded")), ("dev", GROUPS)]
)
def test_every_import_is_declared(group: str, may_use: tuple[str, ...]) -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for module, packages in packages_distributions().items():
        owners[module] |= set(map(canonicalize_name, packages))
    allowed = names(*may_use)
    assert {name: file for name, file in imported(*GROUPS[group]).items() if not owners[name] & allowed} == {}


def test_everything_declared_is_locked_and_declared_once() -> None:
    locked = {canonicalize_name(name) for name in entries((ROOT / "requirements.lock").read_text())}
    assert names(*GROUPS) <= locked
    assert sum(len(lines) for lines in declared().values()) == len(names(*GROUPS))


def test_versions_are_in_the_lock_alone() -> None:
    assert all(not Requirement(line).specifier for lines in declared().values() for line in lines)


def test_make_writes_the_commerce_command(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    python = binaries / "python"  # a link to it would be outside of its environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    subprocess.run(["make", "command", f"BIN={binaries}"], cwd=ROOT, check=True)
    help_page = subprocess.run([binaries / "commerce", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "Usage: commerce" in help_page
