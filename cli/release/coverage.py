"""Which lines and branches of the saga's code the recorded histories reach.

An edit in a branch that no history reaches could break orders in flight, and no replay would tell.
"""

import json
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import Coverage

MEASURED = "workflows"
UNREACHED = "tests/replay/unreached.toml"
"""What histories cannot reach, line by line, each with why."""
VALIDATORS = r"@\w+\.validator"
"""They run before an update is accepted, and a history holds only those that were."""


@dataclass(frozen=True)
class Excused:
    """Lines that need no history: those of one text in one file, or only the way from there to some other line."""

    file: str
    line: str
    why: str


class Reached:
    """Measures from its making until `stop`; make it before the saga's modules are imported."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._coverage = Coverage(data_file=None, branch=True, config_file=False, include=[f"{root / MEASURED}/*"])
        self._coverage.exclude(VALIDATORS)
        self._coverage.start()

    def stop(self) -> list[str]:
        """What was not reached and has no excuse, and excuses that nothing needs: one line each, with file and line number."""
        self._coverage.stop()
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            self._coverage.json_report(outfile=report.name)
            files = json.loads(Path(report.name).read_text())["files"]
        excused, needed = _excused(self._root), set[Excused]()
        missed: list[str] = []
        for name, found in sorted(files.items()):
            path = Path(name) if Path(name).is_absolute() else Path.cwd() / name
            file, text = str(path.relative_to(self._root)), path.read_text().splitlines()
            for line, what in _missed(found, text):
                excuses = [it for it in excused if it.file == file and it.line == text[line - 1].strip()]
                needed |= set(excuses)
                if not excuses:
                    missed.append(f"{file}:{line}: {what}: {text[line - 1].strip()}")
        missed += [f"{UNREACHED}: histories reach it: {it.file}: {it.line}" for it in excused if it not in needed]
        return missed


def _missed(found: dict[str, Any], text: list[str]) -> Iterator[tuple[int, str]]:
    lines = found["missing_lines"]
    for line in lines:
        yield line, "no history comes here"
    for begin, end in found["missing_branches"]:
        if begin not in lines and end not in lines:
            yield begin, "no history leaves the function here" if end < 0 else f"no history goes on from here at line {end}"


def _excused(root: Path) -> list[Excused]:
    listed = tomllib.loads((root / UNREACHED).read_text()).get("unreached", ())
    return [Excused(it["file"], it["line"], it["why"]) for it in listed]
