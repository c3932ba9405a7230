"""Telling the shop what happened: at least once, also across restarts, and in order per reference."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from simulators._ledger import now_text

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS webhooks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    last_error TEXT,
    delivered_at TEXT
);
CREATE INDEX IF NOT EXISTS webhooks_due ON webhooks (due_at, seq) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS webhooks_in_order ON webhooks (reference, seq) WHERE delivered_at IS NULL;
"""

# Later news of a reference waits until its earlier news has arrived.
DUE = """
SELECT * FROM webhooks AS webhook WHERE delivered_at IS NULL AND due_at <= ? AND NOT EXISTS (
    SELECT 1 FROM webhooks AS earlier
    WHERE earlier.reference = webhook.reference AND earlier.delivered_at IS NULL AND earlier.seq < webhook.seq
) ORDER BY due_at, seq LIMIT ?
"""
NEWEST = "SELECT * FROM webhooks WHERE delivered_at IS NULL AND due_at <= ? ORDER BY seq DESC LIMIT 1"


HELD_LOOK_S = 0.05
"""How often it is looked whether news that is held back may go."""


class WebhookQueue:
    def __init__(
        self,
        ledger: sqlite3.Connection,
        *,
        held: Callable[[], bool] = lambda: False,
        newest_first: Callable[[], bool] = lambda: False,
    ) -> None:
        """`held`: whether everything is kept back for now; `newest_first`: whether it goes out in the wrong order, one by one."""
        self._ledger = ledger
        self.held, self.newest_first = held, newest_first
        self.more = asyncio.Event()
        ledger.execute("UPDATE webhooks SET due_at = 0 WHERE delivered_at IS NULL")  # a restart tries at once

    def add(self, reference: str, news: Mapping[str, Any], *, wait_s: float = 0) -> str:
        """Joins the transaction that changed what the news is of: both are kept, or neither. Returns the body."""
        body = json.dumps({"id": f"evt_{secrets.token_hex(12)}", **news, "occurred_at": now_text()})
        self.repeat(reference, body, wait_s=wait_s)
        return body

    def repeat(self, reference: str, body: str, *, wait_s: float = 0) -> int:
        """Its number in the queue."""
        due_at = time.time() + wait_s if wait_s else 0
        number = self._ledger.execute(
            "INSERT INTO webhooks (reference, body, due_at) VALUES (?, ?, ?) RETURNING seq", (reference, body, due_at)
        ).fetchone()[0]
        self.more.set()
        return int(number)

    def due(self, limit: int) -> list[sqlite3.Row]:
        if self.held():
            return []
        if self.newest_first():
            return self._ledger.execute(NEWEST, (time.time(),)).fetchall()
        return self._ledger.execute(DUE, (time.time(), limit)).fetchall()

    def next_due_at(self) -> float | None:
        found: float | None = self._ledger.execute(
            "SELECT MIN(due_at) FROM webhooks WHERE delivered_at IS NULL AND due_at > ?", (time.time(),)
        ).fetchone()[0]
        return found

    def delivered(self, seq: int) -> None:
        self._ledger.execute("UPDATE webhooks SET delivered_at = ?, attempts = attempts + 1 WHERE seq = ?", (now_text(), seq))

    def failed(self, seq: int, error: str, due_at: float) -> None:
        self._ledger.execute(
            "UPDATE webhooks SET attempts = attempts + 1, last_error = ?, due_at = ? WHERE seq = ?",
            (error[:200], due_at, seq),
        )

    def status(self) -> dict[str, Any]:
        pending, delivered, attempts = self._ledger.execute(
            "SELECT COUNT(*) FILTER (WHERE delivered_at IS NULL), COUNT(delivered_at), COALESCE(SUM(attempts), 0) FROM webhooks"
        ).fetchone()
        oldest = self._ledger.execute(
            "SELECT reference, attempts, last_error FROM webhooks WHERE delivered_at IS NULL ORDER BY seq LIMIT 1"
        ).fetchone()
        return {
            "pending": pending,
            "delivered": delivered,
            "attempts": attempts,
            "oldest_pending": dict(oldest) if oldest else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    url: str
    sign: Callable[[str, int], Mapping[str, str]]
    """The headers that prove that a body is ours, sent at that time (seconds since 1970)."""
    first_wait: float = 0.1
    longest_wait: float = 3.0
    timeout: float = 5.0
    at_once: int = 16


class WebhookSender:
    def __init__(self, queue: WebhookQueue, target: WebhookTarget) -> None:
        self._queue = queue
        self._target = target

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._target.timeout)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                self._queue.more.clear()
                due = self._queue.due(self._target.at_once)
                if due:
                    await asyncio.gather(*(self._send(http, row) for row in due))
                else:
                    await self._rest()

    async def _rest(self) -> None:
        due_at = self._queue.next_due_at()
        wait = None if due_at is None else max(0.0, due_at - time.time())
        if self._queue.held():
            wait = min(wait or HELD_LOOK_S, HELD_LOOK_S)
        try:
            async with asyncio.timeout(wait):
                await self._queue.more.wait()
        except TimeoutError:
            pass

    def target_of(self, row: sqlite3.Row) -> WebhookTarget:
        return self._target

    async def _send(self, http: aiohttp.ClientSession, row: sqlite3.Row) -> None:
        body, target = str(row["body"]), self.target_of(row)
        headers = {"Content-Type": "application/json", **target.sign(body, int(time.time()))}
        try:
            async with http.post(target.url, data=body.encode(), headers=headers, allow_redirects=False) as response:
                error = None if 200 <= response.status < 300 else f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as exception:
            error = f"{type(exception).__name__}: {exception}"
        if error is None:
            self._queue.delivered(row["seq"])
            return
        wait = min(target.longest_wait, target.first_wait * 2 ** min(row["attempts"], 10))
        self._queue.failed(row["seq"], error, time.time() + wait)
        log.warning("webhook not accepted, attempt %d: %s", row["attempts"] + 1, error)


def signature(body: str, secret: str, at: int) -> str:
    """Over the time as well, so that a receiver can refuse an old recording."""
    digest = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
