"""The gate run on edited copies of the tree: `python -m tests.replay.judging` prints what it says to each edit, as JSON lines.

Each copy is judged in a process of its own, forked from one that has loaded the libraries and the histories, but nothing of ours
that an edit could change.
"""

import gc
import importlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from cli.release.gate import Gate
from cli.release.releases import ROOT, Kept, Release, kept_histories, latest
from tests.replay.edits import EDITS, Edit

RECORDED = Path(__file__).parent / "recorded"
"""Histories of orders that were placed after an edit."""
CODE = ("activities", "chassis", "cli", "contracts", "gateway", "services", "temporal", "workflows", "worker.py")
COPIED = "workflows"
"""Copied for every edit, because what is reached is told by where a file is. The rest is linked, where it is not edited."""
LIBRARIES = (
    "aiohttp",
    "aiokafka",
    "asyncpg",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "fastapi",
    "jinja2",
    "opentelemetry.sdk.trace",
    "redis.asyncio",
    "sqlmodel",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "temporalio.contrib.pydantic",
    "temporalio.worker",
    "uvicorn",
)
HTTP = ("chassis", "contracts", "gateway", "services")
"""Where an edit may change the API. The services do not know the saga (import-linter)."""


def main() -> None:
    """Judge all edits, or those whose names are given."""
    assert not any(name.split(".")[0] in ("contracts", "temporal", "workflows") for name in sys.modules)
    for library in LIBRARIES:
        importlib.import_module(library)
    histories, last = list(kept_histories()), latest()
    loaded = [(kept.history, kept.local) for kept in histories]
    assert loaded
    gc.freeze()
    names = sys.argv[1:]
    for edit in EDITS:
        if not names or edit.name in names:
            print(json.dumps({"edit": edit.name, "said": list(judge(edit, histories, last))}), flush=True)


def judge(edit: Edit, histories: list[Kept], last: Release) -> Iterator[str]:
    """What the gate refuses of the tree with this edit."""
    more = [Kept(RECORDED / f"{edit.recorded}.json")] if edit.recorded else []
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve()
        edited(tree, edit)
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_judge, args=(sender, tree, edit, [*more, *histories], last), daemon=True
        )
        process.start()
        sender.close()
        try:
            yield from receiver.recv()
        except EOFError:
            yield "the gate did not come to an end"
        process.join()


def edited(tree: Path, edit: Edit) -> None:
    """Make a copy of the tree with this edit."""
    places = [(edit.file, edit.old, edit.new), *([edit.also] if edit.also else [])]
    packages = {COPIED, *(file.partition("/")[0] for file, _, _ in places)}
    for name in CODE:
        if name in packages:
            shutil.copytree(ROOT / name, tree / name)
        else:
            (tree / name).symlink_to(ROOT / name)
    for file, old, new in places:
        text = (tree / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{edit.name}: what it replaces is not there once, but {text.count(old)} times")
        (tree / file).write_text(text.replace(old, new))


def _judge(sender: Connection, tree: Path, edit: Edit, histories: list[Kept], last: Release) -> None:
    sys.path.insert(0, str(tree))
    warnings.simplefilter("ignore")
    gate = Gate(
        histories,
        last,
        tree=tree,
        measures=edit.file.startswith("workflows/"),
        compares_api=edit.file.startswith(HTTP),
    )
    try:
        said = [str(finding) for finding in gate.verdict(first_only=bool(edit.refused)).findings]
    except Exception as error:
        said = [f"error: {type(error).__name__}: {error}"]
    sender.send(said)
    sender.close()


if __name__ == "__main__":
    main()
