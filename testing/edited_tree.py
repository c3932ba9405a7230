"""A copy of this tree with edits, as somebody has it who works on the next release."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from embedded.builds import CODE
from embedded.platform import ROOT

PACKAGES = (*CODE, "audit", "cli", "console", "data", "embedded", "gateway", "services", "simulators", "testing")
"""All that a platform runs."""
NEW_STEP = {
    # A pause before the first step: no order that another build has started could go on with this code.
    "            reservation = await progress.do(": (
        "            await workflow.sleep(timedelta(milliseconds=10))\n            reservation = await progress.do("
    ),
    '"Confirmed", for_staff': '"Confirmed by the edited build", for_staff',
}
"""Edits of workflows/order.py."""


def edited_tree(folder: Path, edits: Mapping[str, str], *, packages: tuple[str, ...] = PACKAGES) -> Path:
    """Make one, with each text of the order's workflow replaced. ValueError: a text is not there just once."""
    for name in packages:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy2(ROOT / name, folder / name)
    story = folder / "workflows" / "order.py"
    text = story.read_text()
    for before, after in edits.items():
        if text.count(before) != 1:
            raise ValueError(f"{story} has this {text.count(before)} times: {before}")
        text = text.replace(before, after)
    story.write_text(text)
    return folder
