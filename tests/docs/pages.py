"""The pages for people: what is in them, and where it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedded.platform import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """What stands between fences."""

    info: tuple[str, ...]
    """The words after the opening fence: the language, and what else was said of it."""
    text: str


def name_of(page: Path) -> str:
    """E.g. `docs/operations.md`."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """In the order in which they stand on the page."""
    return [Block(tuple(info.split()), text) for info, text in _FENCE.findall(page.read_text())]


def prose(page: Path) -> str:
    """The page without what stands between fences."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> Iterator[str]:
    """What stands in backquotes within the text."""
    for found in _CODE.finditer(prose(page)):
        yield found[1].replace(r"\|", "|")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
