"""A simulator's own books: one SQLite file, one connection, one writer.

A handler runs its statements without awaiting in between, so on the single event loop each transaction is
alone: that is what makes twenty identical requests at once one charge.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


def open_ledger(directory: Path, name: str, schema: str) -> sqlite3.Connection:
    directory.mkdir(parents=True, exist_ok=True)
    ledger = sqlite3.connect(directory / f"{name}.sqlite", isolation_level=None)
    ledger.row_factory = sqlite3.Row
    # A commit in the write-ahead log outlives kill -9; NORMAL gives up only what a power cut would take.
    ledger.execute("PRAGMA journal_mode = WAL")
    ledger.execute("PRAGMA synchronous = NORMAL")
    ledger.executescript(schema)
    return ledger


@contextmanager
def transaction(ledger: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Leave it before replying: what was answered is then already on disk."""
    ledger.execute("BEGIN IMMEDIATE")
    try:
        yield ledger
    except BaseException:
        ledger.execute("ROLLBACK")
        raise
    ledger.execute("COMMIT")


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
