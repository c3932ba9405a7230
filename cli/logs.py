"""`commerce logs ORDER`: what all processes on this machine have logged of one order, in the sequence in which it happened.

A line belongs to the order if it names it, or the trace of a line that does: the gateway's line of the request, a refusal. Files
are read line by line, twice: first for the traces, then for the lines.
"""

import heapq
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import typer

from cli.operators import DONE, REFUSED, UNREACHABLE, fail, plain

MOST_TRACES = 10_000
LOOK_BACK = 1000
"""So many lines of a file may stand before one that is older than they: a request is logged at its end, with its beginning."""
LONGEST_LINE = 1_000_000
"""What is longer is no line of ours."""
AT_ONCE = 4_000_000
"""So many bytes of a file are read at a time while following."""
POLL_S = 0.3
_TRACE = re.compile(rb'"trace\.id":"([0-9a-f]{32})"')
_SHOWN_ELSEWHERE = frozenset(
    {
        "@timestamp", "log.level", "message", "ecs.version", "service.name", "log.logger", "event.action", "trace.id", "span.id",
        "http.request.id", "labels.order_id", "error.stack_trace",
    }
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Line:
    """One line of a log. Lines are in the order of their times."""

    time: str
    raw: str = field(compare=False)
    fields: dict[str, Any] = field(compare=False, repr=False)


class Finder:
    """Which lines belong to an order."""

    def __init__(self, order_id: UUID) -> None:
        self._order = str(order_id).encode()
        self._traces: set[bytes] = set()

    def learn(self, raw: bytes) -> None:
        """The trace of a line that names the order belongs to it."""
        if self._order in raw and (found := _TRACE.search(raw)) and len(self._traces) < MOST_TRACES:
            self._traces.add(found[1])

    def line(self, raw: bytes) -> Line | None:
        """The line, if it is one of the order's."""
        if self._order not in raw and not ((found := _TRACE.search(raw)) and found[1] in self._traces):
            return None
        try:
            fields = json.loads(raw)
            return Line(str(fields["@timestamp"]), raw.decode(errors="replace").rstrip(), fields)
        except (ValueError, KeyError, TypeError):
            return None  # a line of a server that is not ours


def show_logs(data: Path, order_id: UUID, *, follow: bool, as_json: bool) -> int:
    """Print the lines; the exit code: 0, 1 if there is none, 2 if there are no logs at all."""
    folder = data / "logs"
    files = sorted(folder.glob("*.log"))
    if not files:
        fail(f"There are no logs in {folder}: no platform has run on {data}.", UNREACHABLE)
    finder = Finder(order_id)
    ends = {file: file.stat().st_size for file in files}
    for file, end in ends.items():
        for raw in _lines(file, end):
            finder.learn(raw)
    count = 0
    for line in heapq.merge(*(_in_order(finder, file, end) for file, end in ends.items())):
        _print(line, as_json=as_json)
        count += 1
    if follow:
        _follow(folder, finder, ends, as_json=as_json)
    if not count:
        fail(f"No log in {folder} says anything of order {order_id}.", REFUSED)
    return DONE


def _lines(file: Path, end: int) -> Iterator[bytes]:
    """The lines of the file as far as it went."""
    with file.open("rb") as stream:
        read = 0
        while read < end and (raw := stream.readline(LONGEST_LINE)):
            read += len(raw)
            yield raw


def _in_order(finder: Finder, file: Path, end: int) -> Iterator[Line]:
    waiting: list[Line] = []
    for raw in _lines(file, end):
        if (line := finder.line(raw)) is not None:
            heapq.heappush(waiting, line)
        if len(waiting) > LOOK_BACK:
            yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def _follow(folder: Path, finder: Finder, ends: dict[Path, int], *, as_json: bool) -> None:
    """Print what comes, until Ctrl-C."""
    tails: dict[Path, _Tail] = {file: _Tail(file, end) for file, end in ends.items()}
    try:
        while True:
            for file in folder.glob("*.log"):
                tails.setdefault(file, _Tail(file, 0))
            new = [raw for tail in tails.values() for raw in tail.new()]
            for raw in new:
                finder.learn(raw)
            for line in sorted(filter(None, map(finder.line, new))):
                _print(line, as_json=as_json)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return


class _Tail:
    """The end of a file that grows."""

    def __init__(self, file: Path, at: int) -> None:
        self._file, self._at, self._begun = file, at, b""

    def new(self) -> Sequence[bytes]:
        """The lines that have become whole since."""
        with self._file.open("rb") as stream:
            if self._size(stream) < self._at:  # it was begun anew
                self._at, self._begun = 0, b""
            stream.seek(self._at)
            read = stream.read(AT_ONCE)
        self._at += len(read)
        *lines, self._begun = (self._begun + read).split(b"\n")
        self._begun = self._begun[-LONGEST_LINE:]
        return lines

    @staticmethod
    def _size(stream: BinaryIO) -> int:
        return stream.seek(0, 2)


def _print(line: Line, *, as_json: bool) -> None:
    typer.echo(line.raw if as_json else plain_line(line))


def plain_line(line: Line) -> str:
    """Time (UTC), process, what, and what else it says."""
    fields = line.fields
    what = str(fields.get("event.action") or fields.get("message", ""))
    if what == "request":
        what = str(fields.get("message", what))
    clock = line.time.partition("T")[2][:12] or line.time
    level = str(fields.get("log.level", "info")).upper()
    more = " ".join(_details(fields, without=what))
    mark = "" if level in ("INFO", "DEBUG") else f"{level} "
    return plain(f"{clock}  {fields.get('service.name', '?')!s:<13} {mark}{what:<32} {more}").rstrip()


def _details(fields: dict[str, Any], *, without: str) -> Iterable[str]:
    for name, value in fields.items():
        if name in _SHOWN_ELSEWHERE or str(value) in without or value in ("", None, "-"):
            continue
        if name == "event.duration":
            yield f"{float(value) / 1e6:.1f}ms"
        else:
            yield f"{name.rpartition('.')[2] if name.startswith('labels.') else name}={value}"
