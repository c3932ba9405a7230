"""The protocol over HTTP, and the books."""

from __future__ import annotations

import base64
import re
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators._faults import HttpFaults
from simulators._ledger import now_text, open_ledger, transaction
from simulators._refusals import Refused
from simulators._requests import page, read_body, read_raw
from simulators._service import Simulator
from simulators.push_service.encryption import looks_encrypted

LARGEST_BODY = 4096
LONGEST_CLAIM_S = 24 * 3600
LONGEST_TTL = 28 * 24 * 3600
URGENCIES = ("very-low", "low", "normal", "high")
TOPIC = re.compile("[A-Za-z0-9_-]{1,32}")
VAPID = re.compile(r"vapid t=([\w.-]{1,4000}), ?k=([\w-]{87})")
SCHEMA = """
CREATE TABLE IF NOT EXISTS subscriptions (
    token TEXT PRIMARY KEY,
    vapid_key TEXT,
    is_gone INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL,
    body BLOB NOT NULL,
    ttl INTEGER NOT NULL,
    urgency TEXT NOT NULL,
    topic TEXT,
    subject TEXT NOT NULL,
    is_replaced INTEGER NOT NULL DEFAULT 0,
    received_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of_subscription ON messages (token, seq);
"""


@dataclass(slots=True)
class PushFaults(HttpFaults):
    too_many_next: int = 0
    """429 to this many messages."""
    retry_after_s: int = 5
    """What those answers tell to wait."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message as its sender wants it."""

    body: bytes
    ttl: int
    urgency: str
    topic: str | None
    subject: str
    """Whom to turn to about the sender."""


class PushService:
    def __init__(self, ledger: sqlite3.Connection, faults: PushFaults) -> None:
        self._ledger, self._faults = ledger, faults

    def routes(self) -> list[Route]:
        return [
            Route("/push/{token}", self.push, methods=["POST"]),
            Route("/_control/subscriptions", self.subscribe, methods=["POST"]),
            Route("/_control/subscriptions/{token}/gone", self.give_up, methods=["POST"]),
            Route("/_control/messages", self.messages, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def push(self, request: Request) -> Response:
        subscription = self._subscription(request.path_params["token"])
        if self._faults.too_many_next:
            self._faults.too_many_next -= 1
            answer = Refused(429, "too_many_requests", "Try again later.").response()
            answer.headers["Retry-After"] = str(self._faults.retry_after_s)
            return answer
        key, claims = verified(request)
        if subscription["vapid_key"] not in (None, key):
            raise Refused(403, "wrong_key", "The subscription was made with another application server key.")
        message = await pushed(request, str(claims["sub"]))
        number = self._keep(subscription["token"], message)
        return Response(None, 201, {"Location": f"{request.base_url}message/{number}", "TTL": str(message.ttl)})

    def _subscription(self, token: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._ledger.execute("SELECT * FROM subscriptions WHERE token = ?", (token,)).fetchone()
        if row is None:
            raise Refused(404, "not_found", "There is no such subscription.")
        if row["is_gone"]:
            raise Refused(410, "gone", "The browser has given it up.")
        return row

    def _keep(self, token: str, message: Pushed) -> str:
        number = secrets.token_hex(12)
        with transaction(self._ledger) as ledger:
            if message.topic:  # nobody has fetched the one before
                ledger.execute("UPDATE messages SET is_replaced = 1 WHERE token = ? AND topic = ?", (token, message.topic))
            ledger.execute(
                "INSERT INTO messages (id, token, body, ttl, urgency, topic, subject, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (number, token, message.body, message.ttl, message.urgency, message.topic, message.subject, now_text()),
            )
        return number

    # ── A browser, and an operator ───────────────────────────────────────────────────────────────────────────────────────

    async def subscribe(self, request: Request) -> JSONResponse:
        key = (await read_body(request)).optional_text("vapid_key") or None
        token = secrets.token_urlsafe(24)
        self._ledger.execute("INSERT INTO subscriptions VALUES (?, ?, 0, ?)", (token, key, now_text()))
        return JSONResponse({"token": token, "endpoint": f"{request.base_url}push/{token}"}, 201)

    async def give_up(self, request: Request) -> JSONResponse:
        self._ledger.execute("UPDATE subscriptions SET is_gone = 1 WHERE token = ?", (request.path_params["token"],))
        return JSONResponse({"status": "gone"})

    async def messages(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        token = request.query_params.get("token", "")
        rows = self._ledger.execute(
            "SELECT * FROM messages WHERE (? = '' OR token = ?) AND seq > ? ORDER BY seq LIMIT ?", (token, token, cursor, limit)
        ).fetchall()
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": [shown(row) for row in rows], "next_cursor": following})

    async def totals(self, request: Request) -> JSONResponse:
        messages, replaced = self._ledger.execute("SELECT COUNT(*), COALESCE(SUM(is_replaced), 0) FROM messages").fetchone()
        subscriptions, gone = self._ledger.execute("SELECT COUNT(*), COALESCE(SUM(is_gone), 0) FROM subscriptions").fetchone()
        return JSONResponse({"messages": messages, "replaced": replaced, "subscriptions": subscriptions, "gone": gone})


def verified(request: Request) -> tuple[str, dict[str, Any]]:
    """The sender's public key, and what it claims (RFC 8292)."""
    found = VAPID.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        raise Refused(401, "unauthorized", "Send: Authorization: vapid t=<JWT>, k=<public key>.")
    token, key = found.groups()
    try:
        point = base64.urlsafe_b64decode(key + "=")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        claims: dict[str, Any] = jwt.decode(
            token, public, ["ES256"], audience=str(request.base_url).rstrip("/"), options={"require": ["aud", "exp", "sub"]}
        )
    except (ValueError, jwt.PyJWTError) as error:
        raise Refused(403, "invalid_token", f"The signature does not count: {error}") from error
    if claims["exp"] > time.time() + LONGEST_CLAIM_S:
        raise Refused(403, "invalid_token", "It may count for a day at most.")
    if not str(claims["sub"]).startswith(("mailto:", "https:")):
        raise Refused(403, "invalid_token", "sub: a mailto: or https: address.")
    return key, claims


async def pushed(request: Request, subject: str) -> Pushed:
    """The message, if it is as it must be (RFC 8030, 8291)."""
    ttl, urgency = request.headers.get("ttl", ""), request.headers.get("urgency", "normal")
    topic = request.headers.get("topic")
    if not (ttl.isascii() and ttl.isdigit() and len(ttl) < 12):
        raise Refused(400, "invalid_ttl", "TTL: seconds.")
    if urgency not in URGENCIES:
        raise Refused(400, "invalid_urgency", f"Urgency: one of {', '.join(URGENCIES)}.")
    if topic is not None and not TOPIC.fullmatch(topic):
        raise Refused(400, "invalid_topic", "Topic: at most 32 characters of base64url.")
    body = await read_raw(request, LARGEST_BODY)
    if request.headers.get("content-encoding") != "aes128gcm" or not looks_encrypted(body):
        raise Refused(400, "not_encrypted", "Send a body in the content coding aes128gcm.")
    return Pushed(body, min(int(ttl), LONGEST_TTL), urgency, topic, subject)


def shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        **dict(row),
        "body": base64.urlsafe_b64encode(row["body"]).rstrip(b"=").decode(),
        "is_replaced": bool(row["is_replaced"]),
    }


def create_app(data_dir: Path) -> Simulator:
    ledger = open_ledger(data_dir, "push_service", SCHEMA)
    faults = PushFaults()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            ledger.close()

    return Simulator(PushService(ledger, faults).routes(), api_key=None, switches=faults, lifespan=lifespan)
