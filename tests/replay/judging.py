"""The gate run on edited copies of the tree: `python -m tests.replay.judging` prints what it says to each edit, as JSON lines.

Each copy is judged in a process of its own, forked from one that has loaded the libraries and the histories, and nothing of ours
that the edit could change.
"""

import gc
import importlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from cli.release.releases import ROOT, Kept, Release, kept_histories, latest
from tests.replay.edits import EDITS, Edit
from tests.replay.gate import Gate

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
UNDER_THE_SAGA = ("activities", "chassis.clients", "chassis.service", "contracts.events", "gateway.openapi", "temporal.orders")
"""Ours, and not changed by an edit of the saga's own code: loaded once for all of those."""
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
    wanted = [edit for edit in EDITS if edit.name in sys.argv[1:] or not sys.argv[1:]]
    # These replay every history to its end: once for all that pass, unless that shows that some do not, and once for all that
    # no history reaches.
    passing = [edit for edit in wanted if not edit.refused]
    unreached = [edit for edit in wanted if edit.refused.startswith("coverage:")]
    alone = [edit for edit in wanted if edit not in (*passing, *unreached)]
    if passing and (refused := judge(passing, histories, last)):
        print(f"together: {refused}", file=sys.stderr)
        alone += passing
    else:
        _tell(passing, [])
    if unreached:
        _tell(unreached, judge(unreached, histories, last))
    of_saga = [edit for edit in alone if edit.file.startswith(f"{COPIED}/")]
    others = [edit for edit in alone if edit not in of_saga]
    for edits, loads in ((others, ()), (of_saga, UNDER_THE_SAGA)):
        for module in loads:
            importlib.import_module(module)
        gc.freeze()
        for edit in edits:
            _tell([edit], judge([edit], histories, last))


def _tell(edits: list[Edit], said: list[str]) -> None:
    for edit in edits:
        print(json.dumps({"edit": edit.name, "said": said}), flush=True)


def judge(edits: list[Edit], histories: list[Kept], last: Release) -> list[str]:
    """What the gate refuses of the tree with these edits."""
    more = [Kept(RECORDED / f"{edit.recorded}.json") for edit in edits if edit.recorded]
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve()
        edited(tree, edits)
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_judge, args=(sender, tree, edits, [*more, *histories], last), daemon=True
        )
        process.start()
        sender.close()
        try:
            said: list[str] = receiver.recv()
        except EOFError:
            said = ["the gate did not come to an end"]
        process.join()
        return said


def edited(tree: Path, edits: list[Edit]) -> None:
    """Make a copy of the tree with these edits."""
    places = [(edit.file, edit.old, edit.new) for edit in edits] + [edit.also for edit in edits if edit.also]
    packages = {COPIED, *(file.partition("/")[0] for file, _, _ in places)}
    for name in CODE:
        if name in packages:
            shutil.copytree(ROOT / name, tree / name)
        else:
            (tree / name).symlink_to(ROOT / name)
    for file, old, new in places:
        text = (tree / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"what an edit of {file} replaces is not there once, but {text.count(old)} times: {old}")
        (tree / file).write_text(text.replace(old, new))


def _judge(sender: Connection, tree: Path, edits: list[Edit], histories: list[Kept], last: Release) -> None:
    sys.path.insert(0, str(tree))
    warnings.simplefilter("ignore")
    gate = Gate(
        histories,
        last,
        tree=tree,
        measures=any(edit.file.startswith(f"{COPIED}/") for edit in edits),
        compares_api=any(edit.file.startswith(HTTP) for edit in edits),
    )
    try:
        said = [str(finding) for finding in gate.verdict(first_only=len(edits) == 1 and bool(edits[0].refused)).findings]
    except Exception as error:
        said = [f"error: {type(error).__name__}: {error}"]
    sender.send(said)
    sender.close()


if __name__ == "__main__":
    main()
