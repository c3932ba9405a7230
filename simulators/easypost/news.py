"""Events, and who hears of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from pydantic_core import to_json

from simulators._faults import HttpFaults
from simulators._ledger import transaction
from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget
from simulators.easypost.asked import AskedWebhook
from simulators.easypost.clock import Clock, event_stamp, stamp
from simulators.easypost.refusals import not_found
from simulators.easypost.wire import MODE, Object, new_id

SCHEMA = """
CREATE TABLE IF NOT EXISTS hooks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    secret TEXT,
    headers TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    previous TEXT NOT NULL,
    created REAL NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    event_id TEXT NOT NULL,
    url TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (event_id, number)
) WITHOUT ROWID;
"""
SIGNATURE = "X-Hmac-Signature"
USER = "user_54356a6b96c940d8913961a3c7b909f2"
OWN_HOOK = f"hook_{'0' * 32}"
"""The one from the environment: always the same, so that what waits for it outlives a restart."""


@dataclass(slots=True)
class CarrierFaults(HttpFaults):
    fail_cancels: bool = False
    """503 to every refund, which then has done nothing."""
    fail_rates: bool = False
    """No carrier knows a rate; the messages say so."""
    carriers_down: str = ""
    """Names of carriers that do not answer, separated by commas: no rates of theirs, and no purchases."""
    limit_next: int = 0
    """429 to this many requests of the API, which then have done nothing."""
    no_credit: bool = False
    """402 to every purchase."""
    refund_ms: int = 2_000
    """How long a refund takes."""
    reject_refunds: bool = False
    """Refunds that are decided while this is on are rejected."""
    webhooks_late_ms: int = 0
    """Waited before each webhook."""
    webhooks_twice: bool = False
    webhooks_held: bool = False
    """No webhook goes out until this is switched off."""
    webhooks_newest_first: bool = False
    """They go out one by one, the newest of those that wait first, also of one parcel."""

    def down_carriers(self) -> frozenset[str]:
        return frozenset(name.strip() for name in self.carriers_down.split(",") if name.strip())


def signed(secret: str, body: bytes) -> str:
    key = unicodedata.normalize("NFKD", secret).encode()
    return f"hmac-sha256-hex={hmac.new(key, body, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Hook:
    id: str
    url: str
    secret: str | None
    created_at: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def sign(self, body: str, at: int) -> dict[str, str]:
        proof = {SIGNATURE: signed(self.secret, body.encode())} if self.secret else {}
        return {**self.headers, **proof}

    def shown(self) -> Object:
        return {
            "id": self.id,
            "object": "Webhook",
            "mode": MODE,
            "url": self.url,
            "created_at": self.created_at,
            "disabled_at": None,
            "custom_headers": [{"name": name, "value": value} for name, value in self.headers.items()],
        }


class Hooks:
    """Those that were registered, and the one from the environment."""

    def __init__(self, ledger: sqlite3.Connection, clock: Clock, own: WebhookTarget | None) -> None:
        self._ledger, self._clock, self._own = ledger, clock, own
        rows = ledger.execute("SELECT * FROM hooks ORDER BY seq").fetchall()
        mine = [Hook(OWN_HOOK, own.url, None, stamp(clock.now()))] if own else []
        self._hooks = {
            hook.id: hook
            for hook in (
                *mine,
                *(Hook(row["id"], row["url"], row["secret"], row["created_at"], json.loads(row["headers"])) for row in rows),
            )
        }
        if own is None:
            self._forget(OWN_HOOK)

    def all(self) -> list[Hook]:
        return list(self._hooks.values())

    def get(self, name: str) -> Hook:
        if name not in self._hooks:
            raise not_found()
        return self._hooks[name]

    def register(self, asked: AskedWebhook) -> Hook:
        headers = {header.name: header.value for header in asked.custom_headers}
        hook = Hook(new_id("hook"), asked.url, asked.webhook_secret, stamp(self._clock.now()), headers)
        with transaction(self._ledger) as ledger:
            ledger.execute(
                "INSERT INTO hooks (id, url, secret, headers, created_at) VALUES (?, ?, ?, ?, ?)",
                (hook.id, hook.url, hook.secret, json.dumps(headers), hook.created_at),
            )
        self._hooks[hook.id] = hook
        return hook

    def remove(self, name: str) -> None:
        """What waits for it is never sent."""
        self.get(name)
        with transaction(self._ledger) as ledger:
            ledger.execute("DELETE FROM hooks WHERE id = ?", (name,))
            self._forget(name)
        del self._hooks[name]

    def target(self, name: str, pace: WebhookTarget) -> WebhookTarget:
        """Where news for a hook goes, as patiently as to the one from the environment."""
        hook = self._hooks.get(name)
        if hook is None:
            return no_target()  # removed a moment ago
        if name == OWN_HOOK:
            return pace
        return WebhookTarget(
            url=hook.url, sign=hook.sign, first_wait=pace.first_wait, longest_wait=pace.longest_wait, timeout=pace.timeout
        )

    def _forget(self, name: str) -> None:
        self._ledger.execute("DELETE FROM webhooks WHERE delivered_at IS NULL AND substr(reference, 1, 37) = ?", (name,))


class News:
    def __init__(
        self, ledger: sqlite3.Connection, clock: Clock, faults: CarrierFaults, queue: WebhookQueue, hooks: Hooks
    ) -> None:
        self._ledger, self._clock, self._faults, self._queue, self._hooks = ledger, clock, faults, queue, hooks

    def tell(self, description: str, result: Object, previous: Mapping[str, Any], about: str) -> None:
        """Joins the transaction that changed what it tells of. What is told `about` one parcel arrives in order."""
        at, name, hooks = self._clock.now(), new_id("evt"), self._hooks.all()
        written = event_stamp(at)
        before = to_json(previous).decode()
        self._ledger.execute(
            "INSERT INTO events (id, description, previous, created, created_at) VALUES (?, ?, ?, ?, ?)",
            (name, description, before, at.timestamp(), written),
        )
        if not hooks:
            return
        event = {
            "description": description,
            "mode": MODE,
            "previous_attributes": previous,
            "created_at": written,
            "pending_urls": [hook.url for hook in hooks],
            "completed_urls": [],
            "updated_at": written,
            "id": name,
            "user_id": USER,
            "status": "pending",
            "object": "Event",
            "result": result,
        }
        body = to_json(event).decode()
        for hook in hooks:
            self._send(hook, name, about, body)
            if self._faults.webhooks_twice:
                self._send(hook, name, f"{about} {token_hex(4)}", body)

    def _send(self, hook: Hook, event: str, about: str, body: str) -> None:
        number = self._queue.repeat(f"{hook.id} {about}", body, wait_s=self._faults.webhooks_late_ms / 1000)
        self._ledger.execute("INSERT INTO deliveries VALUES (?, ?, ?)", (event, hook.url, number))

    def shown(self, row: sqlite3.Row) -> Object:
        return {
            "description": row["description"],
            "id": row["id"],
            "user_id": USER,
            "status": "pending" if self._urls(row["id"], pending=True) else "completed",
            "created_at": row["created_at"],
            "mode": MODE,
            "object": "Event",
        }

    def shown_in_full(self, row: sqlite3.Row) -> Object:
        return {
            **self.shown(row),
            "previous_attributes": json.loads(row["previous"]),
            "pending_urls": self._urls(row["id"], pending=True),
            "completed_urls": self._urls(row["id"], pending=False),
            "updated_at": row["created_at"],
        }

    def _urls(self, event: str, *, pending: bool) -> list[str]:
        rows = self._ledger.execute(
            "SELECT DISTINCT url FROM deliveries JOIN webhooks ON webhooks.seq = number"
            " WHERE event_id = ? AND (delivered_at IS NULL) = ? ORDER BY url",
            (event, pending),
        )
        return [row["url"] for row in rows]


class HookQueue(WebhookQueue):
    """Keeps no body that has arrived: those are most of what there is."""

    def delivered(self, seq: int) -> None:
        super().delivered(seq)
        self._ledger.execute("UPDATE webhooks SET body = '' WHERE seq = ?", (seq,))


class HookSender(WebhookSender):
    """Sends each piece of news to its hook."""

    def __init__(self, queue: WebhookQueue, pace: WebhookTarget, hooks: Hooks) -> None:
        super().__init__(queue, pace)
        self._pace, self._hooks = pace, hooks

    def target_of(self, row: sqlite3.Row) -> WebhookTarget:
        return self._hooks.target(row["reference"].partition(" ")[0], self._pace)


def sign_with(secret: str) -> Callable[[str, int], Mapping[str, str]]:
    return lambda body, at: {SIGNATURE: signed(secret, body.encode())}


def no_target() -> WebhookTarget:
    """The pace of what is sent, where the environment names no webhook."""
    return WebhookTarget(url="", sign=lambda body, at: {})
