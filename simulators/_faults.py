"""Failure on demand: switches a test or an operator flips over HTTP while the simulator runs.

They live in memory on purpose: a restarted simulator is a healthy one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from simulators._refusals import Refused

LONGEST_TEXT = 200
LARGEST_NUMBER = 60_000  # a minute in milliseconds: a forgotten switch must not hang a client for good


@dataclass(slots=True)
class Switches:
    """The fields of a subclass are its switches; a default's type is the type that a change must have."""

    def change(self, wanted: Mapping[str, object]) -> None:
        known = {field.name: field.default for field in fields(self)}
        for name, value in wanted.items():
            if name not in known:
                raise Refused(422, "unknown_fault", f"{name!r} is not one of {', '.join(known)}")
            if not _fits(value, known[name]):
                raise Refused(422, "invalid_fault", f"{name}: wrong type, or above {LARGEST_NUMBER}")
        for name, value in wanted.items():  # only now: a half-applied change would be hard to reason about
            setattr(self, name, value)

    def reset(self) -> None:
        for field in fields(self):
            setattr(self, field.name, field.default)

    def shown(self) -> dict[str, object]:
        return asdict(self)


def _fits(value: object, default: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and 0 <= value <= LARGEST_NUMBER
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


@dataclass(slots=True)
class HttpFaults(Switches):
    down: bool = False
    """503 to every request of the API."""
    latency_ms: int = 0
    """Waited before every request of the API is looked at."""
    fail_next: int = 0
    """503 to this many requests of the API, which then have done nothing."""
    lose_replies_next: int = 0
    """This many POSTs to the API are carried out, and then the connection drops instead of a reply."""
    slow_ms: int = 3_000
    """How long the magic values that answer slowly take."""
