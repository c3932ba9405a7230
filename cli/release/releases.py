"""What was recorded of each release: `releases/VERSION/`, which a change is compared with."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

ROOT = Path(__file__).resolve().parents[2]
RELEASES = "releases"
HISTORIES = "tests/replay/histories"
"""Those of the branches of the saga as it is now."""
LOCAL = "local"
"""Beside histories: what their local activities were asked, which Temporal does not keep."""
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?")

Json = dict[str, Any]


@dataclass
class Kept:
    """A history that was recorded."""

    file: Path

    @property
    def name(self) -> str:
        return self.file.stem

    @cached_property
    def history(self) -> WorkflowHistory:
        return WorkflowHistory.from_json(f"order-{self.name}", self.file.read_text())

    @cached_property
    def local(self) -> list[tuple[str, Any]]:
        """What its local activities were asked: names and arguments."""
        return [(name, argument) for name, argument in json.loads((self.file.parent / LOCAL / self.file.name).read_text())]


@dataclass(frozen=True)
class Release:
    """One that was recorded."""

    folder: Path

    @property
    def version(self) -> str:
        return self.folder.name

    def document(self, name: str) -> Json:
        """`surface`, `openapi` or `asyncapi`."""
        document: Json = json.loads((self.folder / f"{name}.json").read_text())
        return document

    @property
    def worker(self) -> Path:
        """Its build."""
        return self.folder / "worker.zip"


def releases(root: Path = ROOT) -> list[Release]:
    """All that are kept, oldest first."""
    found = [Release(folder) for folder in (root / RELEASES).glob("*") if VERSION.fullmatch(folder.name)]
    return sorted(found, key=lambda release: _order(release.version))


def latest(root: Path = ROOT) -> Release:
    """The newest one. FileNotFoundError, if there is none."""
    kept = releases(root)
    if not kept:
        raise FileNotFoundError("no release is recorded: commerce release record VERSION")
    return kept[-1]


def kept_histories(root: Path = ROOT) -> Iterator[Kept]:
    """Those of every kept release, then those of the branches as they are now; each once."""
    folders = [*(release.folder / "histories" for release in reversed(releases(root))), root / HISTORIES]
    seen: set[bytes] = set()
    for folder in folders:
        for file in sorted(folder.glob("*.json")):
            content = file.read_bytes()
            if content not in seen:
                seen.add(content)
                yield Kept(file)


def accepted(root: Path = ROOT, *, in_flight: bool = True) -> dict[str, str]:
    """What may differ from the last release, each with why (`releases/accepted.toml`). Not `in_flight`: without what only the
    orders of a running platform show."""
    file = root / RELEASES / "accepted.toml"
    listed: Iterable[Json] = tomllib.loads(file.read_text()).get("accepted", ()) if file.exists() else ()
    return {entry["change"]: entry["why"] for entry in listed if in_flight or not entry.get("only_in_flight")}


def is_accepted(difference: str, reasons: Iterable[str]) -> bool:
    """Whether somebody has said why it may be: with these very words, with where it is (the part before the colon), or, after
    `*: `, with what it is, wherever that is."""
    return any(
        difference.endswith(change[1:]) if change.startswith("*: ") else f"{difference}:".startswith(f"{change}:")
        for change in reasons
    )


def _order(version: str) -> tuple[Any, ...]:
    """1.10.0 comes after 1.9.0, and 1.10.0-rc.1 before it."""
    number, _, before = version.partition("-")
    return (*map(int, number.split(".")), not before, before)
