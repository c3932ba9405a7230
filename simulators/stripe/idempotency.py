"""What an idempotency key promises: the first result is heard again, as long as keys are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from simulators.stripe.books import Books
from simulators.stripe.errors import InvalidParameter, NothingDone

KEPT_S = 86_400.0
LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Kept:
    status: int
    content: str


class Keys:
    def __init__(self, books: Books, kept_s: float = KEPT_S) -> None:
        self._books, self._kept_s = books, kept_s
        self._under_way: set[str] = set()

    def earlier(self, key: str, fingerprint: bytes) -> Kept | None:
        """What was answered under the key, if anything was."""
        if not 1 <= len(key) <= LONGEST_KEY:
            raise InvalidParameter(f"Idempotency keys have up to {LONGEST_KEY} characters.")
        if key in self._under_way:
            why = "There is currently another in-progress request using this Idempotent Key."
            raise NothingDone(409, "idempotency_error", why, "idempotency_key_in_use")
        row = self._books.ledger.execute("SELECT * FROM idempotency_keys WHERE key = ?", (key,)).fetchone()
        if row is None or row["created"] <= self._books.clock() - self._kept_s:
            return None
        if row["fingerprint"] != fingerprint:
            why = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a"
                f" key other than '{key}' if you meant to execute a different request."
            )
            raise NothingDone(400, "idempotency_error", why)
        return Kept(row["status"], row["content"])

    def keep(self, key: str, fingerprint: bytes, status: int, content: str) -> None:
        """Joins the transaction that did what the content tells of."""
        self._books.ledger.execute(
            "INSERT OR REPLACE INTO idempotency_keys (key, fingerprint, status, content, created) VALUES (?, ?, ?, ?, ?)",
            (key, fingerprint, status, content, self._books.clock()),
        )

    @contextmanager
    def under_way(self, key: str | None) -> Iterator[None]:
        """Whoever sends the key meanwhile has to come again."""
        if key is None:
            yield
            return
        self._under_way.add(key)
        try:
            yield
        finally:
            self._under_way.discard(key)

    def forget(self) -> None:
        self._books.forget(self._kept_s)


def fingerprint(path: str, pairs: Sequence[tuple[str, str]]) -> bytes:
    return hashlib.sha256(repr((path, sorted(pairs))).encode()).digest()
