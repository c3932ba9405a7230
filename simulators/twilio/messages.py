"""The messenger's books: what it took, and what became of it. Rules here, HTTP in `app`."""

from __future__ import annotations

import asyncio
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from simulators._ledger import now_text, open_ledger, transaction
from simulators.twilio.refusals import TwilioError, missing

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sid TEXT NOT NULL UNIQUE,
    recipient TEXT NOT NULL,
    sender TEXT,
    service_sid TEXT,
    body TEXT NOT NULL,
    status TEXT NOT NULL,
    error_code INTEGER,
    status_callback TEXT,
    steps TEXT NOT NULL,
    due_at REAL,
    created_at REAL NOT NULL,
    sent_at REAL,
    updated_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_recipient ON messages (recipient, seq);
CREATE INDEX IF NOT EXISTS messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS opt_outs (
    number TEXT PRIMARY KEY,
    since TEXT NOT NULL
) WITHOUT ROWID;
"""
NUMBER = re.compile(r"\+[1-9]\d{6,14}")
NAME = re.compile(r"[A-Za-z0-9 ]{1,11}")
LONGEST_BODY = 1600
ENDED = ("delivered", "undelivered", "failed")


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to messages to a number."""

    refusal: tuple[int, str] | None = None
    steps: str = "sent,delivered"
    """The statuses that follow `queued`."""
    error_code: int | None = None
    """Of the last of them."""
    reply: Literal["sent", "slow", "lost"] = "sent"


FATES = {
    "+15005550001": Fate(refusal=(21211, "The 'To' number {to} is not a valid phone number.")),
    "+15005550002": Fate(refusal=(21612, "The 'To' phone number {to} is not currently reachable using the 'From' phone number.")),
    "+15005550003": Fate(refusal=(21408, "Permission to send an SMS has not been enabled for the region of {to}.")),
    "+15005550004": Fate(refusal=(21610, "Attempt to send to unsubscribed recipient")),
    "+15005550009": Fate(refusal=(21614, "'To' number {to} is not a valid mobile number")),
    "+15005550010": Fate(steps="sent,undelivered", error_code=30003),
    "+15005550011": Fate(steps="sent,undelivered", error_code=30005),
    "+15005550012": Fate(steps="sent,undelivered", error_code=30007),
    "+15005550013": Fate(steps="sent"),
    "+15005550014": Fate(steps="failed", error_code=21610),
    "+15005550015": Fate(reply="slow"),
    "+15005550016": Fate(reply="lost"),
}
SENDERS = {
    "+15005550001": (21212, "The 'From' number +15005550001 is not a valid phone number, shortcode, or alphanumeric sender ID."),
    "+15005550007": (21606, "The From phone number +15005550007 is not a valid, SMS-capable number for your account."),
    "+15005550008": (21611, "This 'From' number has exceeded the maximum number of queued messages."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    to: str
    sender: str
    service_sid: str
    body: str
    status_callback: str

    def check(self) -> None:
        """As Twilio does, in its order."""
        if not self.to:
            raise TwilioError(400, 21604, "A 'To' phone number is required.")
        if not self.sender and not self.service_sid:
            raise TwilioError(400, 21603, "A 'From' phone number is required.")
        if not self.body:
            raise TwilioError(400, 21602, "Message body is required.")
        if len(self.body) > LONGEST_BODY:
            raise TwilioError(400, 21617, "The concatenated message body exceeds the 1600 character limit.")
        if not NUMBER.fullmatch(self.to):
            raise TwilioError(400, 21211, f"The 'To' number {self.to} is not a valid phone number.")
        if self.service_sid and not re.fullmatch("MG[0-9a-f]{32}", self.service_sid):
            raise TwilioError(400, 21701, "The Messaging Service resource does not exist.")
        if self.sender and not (NUMBER.fullmatch(self.sender) or NAME.fullmatch(self.sender)):
            raise TwilioError(400, 21212, f"The 'From' number {self.sender} is not a valid phone number.")
        if refusal := SENDERS.get(self.sender):
            raise TwilioError(400 if refusal[0] != 21611 else 429, *refusal)
        if self.status_callback and urlsplit(self.status_callback).scheme not in ("http", "https"):
            raise TwilioError(400, 21609, "The StatusCallback URL is not a valid URL.")


Announce = Callable[[sqlite3.Row], None]


class Messages:
    def __init__(self, ledger: sqlite3.Connection, announce: Announce, step_s: Callable[[], float]) -> None:
        self._ledger, self._announce, self._step_s = ledger, announce, step_s
        self.more = asyncio.Event()
        """There is something new that will be due."""

    def take(self, wanted: Wanted) -> sqlite3.Row:
        """Each call is a message of its own: Twilio knows no idempotency key here."""
        wanted.check()
        fate = fate_of(wanted.to)
        if fate.refusal:
            raise TwilioError(400, fate.refusal[0], fate.refusal[1].format(to=wanted.to))
        sid, now = f"SM{secrets.token_hex(16)}", time.time()
        with transaction(self._ledger) as ledger:
            if ledger.execute("SELECT 1 FROM opt_outs WHERE number = ?", (wanted.to,)).fetchone():
                raise TwilioError(400, 21610, "Attempt to send to unsubscribed recipient")
            ledger.execute(
                "INSERT INTO messages (sid, recipient, sender, service_sid, body, status, status_callback, steps, due_at,"
                " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    sid,
                    wanted.to,
                    wanted.sender or None,
                    wanted.service_sid or None,
                    wanted.body,
                    "accepted" if wanted.service_sid else "queued",
                    wanted.status_callback or None,
                    fate.steps,
                    now + self._step_s(),
                    now,
                    now,
                ),
            )
            row = self.get(sid)
            self._announce(row)
        self.more.set()
        return row

    def advance(self, until: float) -> None:
        """Let each message whose time has come take its next step."""
        with transaction(self._ledger) as ledger:
            for row in ledger.execute("SELECT * FROM messages WHERE due_at <= ? ORDER BY due_at", (until,)).fetchall():
                step, _, rest = row["steps"].partition(",")
                error = fate_of(row["recipient"]).error_code if not rest else None
                self._become(row["sid"], step, error, rest)

    def end(self, sid: str, status: str, error_code: int | None) -> sqlite3.Row:
        """Somebody decides what becomes of it."""
        with transaction(self._ledger):
            self.get(sid)
            return self._become(sid, status, error_code, "")

    def _become(self, sid: str, status: str, error_code: int | None, rest: str) -> sqlite3.Row:
        now = time.time()
        self._ledger.execute(
            "UPDATE messages SET status = ?, error_code = ?, steps = ?, due_at = ?, updated_at = ?,"
            " sent_at = COALESCE(sent_at, ?) WHERE sid = ?",
            (status, error_code, rest, now + self._step_s() if rest else None, now, now if status == "sent" else None, sid),
        )
        row = self.get(sid)
        self._announce(row)
        if rest:
            self.more.set()
        return row

    def get(self, sid: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._ledger.execute("SELECT * FROM messages WHERE sid = ?", (sid,)).fetchone()
        if row is None:
            raise missing(sid)
        return row

    def listed(self, to: str, sender: str, limit: int, skip: int) -> list[sqlite3.Row]:
        """Newest first."""
        return self._ledger.execute(
            "SELECT * FROM messages WHERE (? = '' OR recipient = ?) AND (? = '' OR sender = ?)"
            " ORDER BY seq DESC LIMIT ? OFFSET ?",
            (to, to, sender, sender, limit, skip),
        ).fetchall()

    def kept(self, after: int, limit: int) -> list[dict[str, object]]:
        """What an auditor compares, oldest first: who each message went to, and its text, is nobody's business."""
        rows = self._ledger.execute(
            "SELECT seq, sid, status, error_code, status_callback, created_at, updated_at FROM messages"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [dict(row) for row in rows.fetchall()]

    def opt_out(self, number: str) -> None:
        self._ledger.execute("INSERT OR IGNORE INTO opt_outs VALUES (?, ?)", (number, now_text()))

    def opt_in(self, number: str) -> None:
        self._ledger.execute("DELETE FROM opt_outs WHERE number = ?", (number,))

    def next_due_at(self) -> float | None:
        found: float | None = self._ledger.execute("SELECT MIN(due_at) FROM messages").fetchone()[0]
        return found

    def totals(self) -> dict[str, object]:
        messages, distinct = self._ledger.execute(
            "SELECT COUNT(*), COUNT(DISTINCT COALESCE(status_callback, sid)) FROM messages"
        ).fetchone()
        by_status = self._ledger.execute("SELECT status, COUNT(*) FROM messages GROUP BY status ORDER BY status").fetchall()
        return {"messages": messages, "distinct_callbacks": distinct, "by_status": {row[0]: row[1] for row in by_status}}


def fate_of(number: str) -> Fate:
    return FATES.get(number, Fate())


def open_messages(directory: Path) -> sqlite3.Connection:
    return open_ledger(directory, "twilio", SCHEMA)
