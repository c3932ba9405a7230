"""What clients asked and what they were told: recorded while they work, kept in a file, judged by `testing.checker`.

    history = History()
    async with open_shop(platform.env, history) as shop:
        ...
    assert check(history.calls) == []

Only calls about orders, stock and parcels are kept: no logins, so no passwords and no tokens.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt

from cli.client import Reply
from embedded.private import write_private

KEPT = ("/api/v1/orders", "/api/v1/returns", "/api/v1/stock", "/api/v1/shipments")
_HEADERS = {"idempotency-key": "key", "prefer": "prefer"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Times are seconds since the history began."""

    who: str
    """The user's id, as the access token names it; empty without one."""
    method: str
    path: str
    """With its query."""
    body: Any
    invoked_at: float
    answered_at: float
    """When the answer came, or when the client gave up waiting for one."""
    status: int | None = None
    """None: no answer came, so whether the request was carried out is unknown."""
    answer: Any = None
    key: str | None = None
    """Its Idempotency-Key."""
    prefer: str | None = None

    @property
    def order_id(self) -> str | None:
        """The order that the answer names."""
        return self.told("order_id")

    @property
    def code(self) -> str | None:
        """The code of a refusal or fault."""
        return self.told("code")

    def told(self, field: str) -> str | None:
        """A field of the answer, if it has it."""
        value = self.answer.get(field) if isinstance(self.answer, dict) else None
        return None if value is None else str(value)

    def before(self, other: "Call") -> bool:
        """Whether this one had ended when the other one began; if neither is before the other, they ran at once."""
        return self.answered_at < other.invoked_at

    def __str__(self) -> str:
        """E.g. `1.203-1.250 s  3f2a… POST /api/v1/orders, key 7c21… → 201 CONFIRMED`."""
        key = f", key {self.key}" if self.key else ""
        answer = " ".join(filter(None, (str(self.status), self.told("status") if self.status in (200, 201, 202) else self.code)))
        return (
            f"{self.invoked_at:.3f}-{self.answered_at:.3f} s  {self.who[:8]} {self.method} {self.path}{key} → "
            f"{'no answer' if self.status is None else answer}"
        )


class History:
    """A record of calls. Any thread or task may add to it: a call is one append to a list."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.calls: list[Call] = []

    def __call__(
        self, method: str, path: str, body: Any, token: str | None, headers: Mapping[str, str], began: float, reply: Reply | None
    ) -> None:
        """Keep a call that has ended just now. `began`: by time.monotonic(). `reply` None: no answer came."""
        if not path.startswith(KEPT):
            return
        ended = time.monotonic()
        named = {_HEADERS[name.lower()]: value for name, value in headers.items() if name.lower() in _HEADERS}
        self.calls.append(
            Call(
                who=_subject(token) if token else "",
                method=method,
                path=path,
                body=body,
                invoked_at=began - self._began,
                answered_at=ended - self._began,
                status=reply.status if reply else None,
                answer=reply.body if reply else None,
                **named,
            )
        )

    def write(self, file: Path) -> None:
        """All calls as JSON lines, readable by their owner alone: they have addresses."""
        write_private(file, "".join(json.dumps(asdict(call)) + "\n" for call in list(self.calls)))


def read(file: Path) -> list[Call]:
    """The calls that `History.write` wrote."""
    return [Call(**json.loads(line)) for line in file.read_text().splitlines()]


def in_order(calls: Iterable[Call]) -> list[Call]:
    """By the moment at which they were asked."""
    return sorted(calls, key=lambda call: call.invoked_at)


@lru_cache(maxsize=10_000)
def _subject(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["sub"])
