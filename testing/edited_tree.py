"""A copy of this tree with edits, as somebody has it who works on the next release."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.builds import CODE
from embedded.platform import ROOT

PACKAGES = (*CODE, "audit", "cli", "console", "data", "embedded", "gateway", "releases", "services", "simulators", "testing")
"""What the `commerce` command and the platform need of a tree."""


@dataclass(frozen=True)
class Edit:
    """A text that stands once in a file, and what takes its place."""

    file: str
    before: str
    after: str
    why: str = ""


NEW_STEP = (
    Edit(
        "workflows/order.py",
        "            reservation = await progress.do(",
        "            await workflow.sleep(timedelta(milliseconds=10))\n            reservation = await progress.do(",
        why="a pause before the first step: no order that another build has started could go on with this code",
    ),
    Edit(
        "workflows/order.py",
        '"Confirmed", for_staff',
        '"Confirmed by the edited build", for_staff',
        why="an order's timeline tells which build confirmed it",
    ),
)


def edited_tree(folder: Path, edits: Sequence[Edit], *, packages: tuple[str, ...] = PACKAGES) -> Path:
    """Make one. ValueError: an edit does not apply."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in packages:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy2(ROOT / name, folder / name)
    for edit in edits:
        file = folder / edit.file
        text = file.read_text()
        if text.count(edit.before) != 1:
            raise ValueError(f"the edit of {edit.file} ({edit.why}) finds its text {text.count(edit.before)} times")
        file.write_text(text.replace(edit.before, edit.after))
    return folder
