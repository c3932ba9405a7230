"""The image: what is in it suffices for every process, and there is nothing more."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.image_requirements import NOT_IN_THE_IMAGE, entries, image_requirements
from tests.deploy.platform import ROOT, declared, processes

DECLARED = declared()
LOCK = (ROOT / "requirements.lock").read_text()
SIMULATORS_NEED = ("aiosmtpd", "pillow", "python-barcode")
COMMANDS = ("gateway.envoy", "cli.main", "cli.migrate", "cli.secrets", "cli.stocking", "audit.command")


def let_through() -> list[str]:
    """What .dockerignore lets into the image."""
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!") and line != "!deploy"]


def closure(roots: Iterator[Requirement]) -> set[str]:
    """The names of all packages that these need, as installed here."""
    todo = [(root.name, extra) for root in roots for extra in ("", *root.extras)]
    seen: set[tuple[str, str]] = set()
    while todo:
        name, extra = todo.pop()
        if (canonicalize_name(name), extra) not in seen:
            seen.add((canonicalize_name(name), extra))
            for needed in map(Requirement, distribution(name).requires or ()):
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    todo += [(needed.name, more) for more in ("", *needed.extras)]
    return {name for name, _ in seen}


def test_it_installs_what_the_processes_need_and_no_more() -> None:
    needed = closure(Requirement(line) for line in (*DECLARED["runtime"], *SIMULATORS_NEED))
    assert set(entries(LOCK)) - needed == NOT_IN_THE_IMAGE


def test_every_package_of_the_image_is_locked_with_its_hashes() -> None:
    assert len(entries(LOCK)) == len(re.findall("^[^ #\n]", LOCK, re.MULTILINE))
    kept = entries(image_requirements(LOCK))
    assert all("--hash=sha256:" in entry for entry in kept.values())


def test_every_process_finds_what_it_imports(tmp_path: Path) -> None:
    """Import them all from a copy of what the image holds, where nothing else is."""
    for name in let_through():
        source = ROOT / name
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    modules = sorted({command[2] for command in processes().values()} | set(COMMANDS))
    absent = [name for name, owners in packages_distributions().items() if {*map(canonicalize_name, owners)} <= NOT_IN_THE_IMAGE]
    script = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({absent}))  # as if they were not installed
for name in {modules}:
    importlib.import_module(name)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def test_it_is_built_as_we_want_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    instructions = [line.split(maxsplit=1) for line in dockerfile.splitlines() if re.match("[A-Z]+ ", line)]
    bases = {rest.split()[0] for name, rest in instructions if name == "FROM"}
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    assert ["USER", "10001:10001"] in instructions
    assert "--require-hashes" in dockerfile
    assert "index-url" not in dockerfile


@pytest.mark.parametrize("private", [".env", ".git", ".commerce", ".venv", "tests"])
def test_private_things_stay_outside(private: str) -> None:
    assert not any(name == private or name.startswith(f"{private}/") for name in let_through())
