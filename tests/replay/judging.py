"""The gate run on edited copies of the tree: `python -m tests.replay.judging` prints what it says to each edit, as JSON lines.

Each copy is judged in a process of its own, forked from one that has loaded the libraries and the histories, and nothing of ours
that the edit could change.
"""

import gc
import importlib
import json
import multiprocessing
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
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
    # Together, in as few trees as they fit in: those that pass, unless that shows that some do not, and those of which one check
    # tells all that it finds.
    passing = [edit for edit in wanted if not edit.refused]
    kinds = [[edit for edit in wanted if edit.refused.startswith(check)] for check in ("promises:", "events:", "coverage:")]
    batches = [batch for kind in kinds for batch in fitting(kind)]
    if passing and (refused := judge(passing, histories, last, first_only=False)):
        print(f"together: {refused}", file=sys.stderr)
        batches += [[edit] for edit in passing]
    else:
        _tell(passing, [])
    rest = [edit for edit in wanted if edit.refused and not any(edit in batch for batch in batches)]
    of_saga = [[edit] for edit in rest if edit.file.startswith(f"{COPIED}/")]
    others = [[edit] for edit in rest if [edit] not in of_saga]
    for trees, loads in ([*batches, *others], ()), (of_saga, UNDER_THE_SAGA):
        for module in loads:
            importlib.import_module(module)
        gc.freeze()
        for edits in trees:
            _tell(edits, judge(edits, histories, last, first_only=any(edit.refused for edit in edits)))


def _tell(edits: list[Edit], said: list[str]) -> None:
    for edit in edits:
        print(json.dumps({"edit": edit.name, "said": said}), flush=True)


def fitting(edits: list[Edit]) -> list[list[Edit]]:
    """In which trees they fit beside each other: what each changes is there, and no other breaks the same activity or event."""
    batches: list[tuple[list[Edit], dict[str, str]]] = []
    for edit in edits:
        for batch, texts in batches:
            if any(of_what(edit) == of_what(other) for other in batch):
                continue
            try:
                texts |= changed(texts, edit)
            except ValueError:
                continue
            batch.append(edit)
            break
        else:
            batches.append(([edit], changed({}, edit)))
    return [batch for batch, _ in batches]


def of_what(edit: Edit) -> list[str]:
    """E.g. `promises: activity CapturePayment`."""
    return re.split(r"[ .,]+", edit.refused)[:3]


def judge(edits: list[Edit], histories: list[Kept], last: Release, *, first_only: bool) -> list[str]:
    """What the gate refuses of the tree with these edits."""
    more = [Kept(RECORDED / f"{edit.recorded}.json") for edit in edits if edit.recorded]
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve()
        edited(tree, edits)
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_judge, args=(sender, tree, edits, [*more, *histories], last, first_only), daemon=True
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
    texts: dict[str, str] = {}
    for edit in edits:
        texts |= changed(texts, edit)
    packages = {COPIED, *(file.partition("/")[0] for file in texts)}
    for name in CODE:
        if name in packages:
            shutil.copytree(ROOT / name, tree / name)
        else:
            (tree / name).symlink_to(ROOT / name)
    for file, text in texts.items():
        (tree / file).write_text(text)


def changed(texts: Mapping[str, str], edit: Edit) -> dict[str, str]:
    """The files that an edit changes, with what is in them then. `texts`: what other edits have made of files before."""
    found: dict[str, str] = {}
    for file, old, new in [(edit.file, edit.old, edit.new), *([edit.also] if edit.also else [])]:
        text = found.get(file) or texts.get(file) or (ROOT / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{edit.name}: what it replaces is not there once, but {text.count(old)} times")
        found[file] = text.replace(old, new)
    return found


def _judge(sender: Connection, tree: Path, edits: list[Edit], histories: list[Kept], last: Release, first_only: bool) -> None:
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
        said = [str(finding) for finding in gate.verdict(first_only=first_only).findings]
    except Exception as error:
        said = [f"error: {type(error).__name__}: {error}"]
    sender.send(said)
    sender.close()


if __name__ == "__main__":
    main()
