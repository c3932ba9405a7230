"""Which lines and branches of the saga's code the recorded histories reach.

An edit in a branch that no history reaches could break orders in flight, and no replay would tell.
"""

import ast
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
QUERIES = r"@workflow\.query"
ONLY_ASKED = "workflows/waits.py"
"""They are asked and change nothing: no history depends on what they answer."""


@dataclass(frozen=True)
class Excused:
    """A line of a function that needs no history."""

    function: str
    """E.g. `workflows/delivery.py Delivery._cancel`."""
    line: str
    why: str


class Reached:
    """Measures from its making until `stop`; make it before the saga's modules are imported."""

    def __init__(self, root: Path, excuses: Path) -> None:
        self._root, self._excuses = root, excuses
        self._coverage = Coverage(
            data_file=None, branch=True, config_file=False, include=[f"{root / MEASURED}/*"], omit=[f"{root / ONLY_ASKED}"]
        )
        self._coverage.exclude(VALIDATORS)
        self._coverage.exclude(QUERIES)
        self._coverage.start()

    def stop(self) -> list[str]:
        """What was not reached and has no excuse, and excuses that nothing needs: one line each, with file and line number."""
        self._coverage.stop()
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            self._coverage.json_report(outfile=report.name)
            files: dict[str, Any] = json.loads(Path(report.name).read_text())["files"]
        excused, needed, missed = _excused(self._excuses), set[Excused](), list[str]()
        for name, found in sorted(files.items()):
            path = Path.cwd() / name
            file, code = str(path.relative_to(self._root)), path.read_text()
            for line, what in _missed(found):
                text, function = code.splitlines()[line - 1].strip(), function_at(code, line)
                excuses = {it for it in excused if it.function == f"{file} {function}" and it.line == text}
                needed |= excuses
                if not excuses:
                    missed.append(f"{file}:{line} {function}: {what}: {text}")
        missed += [f"{UNREACHED}: needs no excuse: {it.function}: {it.line}" for it in excused if it not in needed]
        return missed


def function_at(code: str, line: int) -> str:
    """The innermost function that this line is part of, with the names around it, e.g. `Delivery._cancel`."""
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, scopes)]
    return ".".join(node.name for node in found if node.lineno <= line <= (node.end_lineno or 0))


def _missed(found: dict[str, Any]) -> Iterator[tuple[int, str]]:
    lines = found["missing_lines"]
    yield from ((line, "no history comes here") for line in lines)
    for begin, end in found["missing_branches"]:
        if begin not in lines and end not in lines:
            yield begin, "no history leaves the function here" if end < 0 else f"no history goes on from here at line {end}"


def _excused(file: Path) -> list[Excused]:
    listed = tomllib.loads(file.read_text()).get("unreached", ())
    return [Excused(it["function"], it["line"], it["why"]) for it in listed]
