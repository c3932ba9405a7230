"""Telling each message's StatusCallback what became of it: a signed form, at least once, also across restarts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import sqlite3
import time
from urllib.parse import urlencode

import aiohttp

from simulators._webhooks import HELD_LOOK_S, WebhookQueue

AT_ONCE = 16
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 3.0
log = logging.getLogger(__name__)


def sign(url: str, fields: dict[str, str], token: str) -> str:
    """Over the address and the fields by name (https://www.twilio.com/docs/usage/security)."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class CallbackSender:
    """Sends what is queued; in the queue, the body is the address and the fields as JSON."""

    def __init__(self, queue: WebhookQueue, token: str) -> None:
        self._queue, self._token = queue, token

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while True:
                self._queue.more.clear()
                due = self._queue.due(AT_ONCE)
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

    async def _send(self, http: aiohttp.ClientSession, row: sqlite3.Row) -> None:
        told = json.loads(row["body"])
        url, fields = told["url"], told["fields"]
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": sign(url, fields, self._token),
            "I-Twilio-Idempotency-Token": told["id"],
        }
        try:
            async with http.post(url, data=urlencode(fields).encode(), headers=headers, allow_redirects=False) as response:
                error = None if 200 <= response.status < 300 else f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exception:
            error = f"{type(exception).__name__}: {exception}"
        if error is None:
            self._queue.delivered(row["seq"])
            return
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(row["attempts"], 10))
        self._queue.failed(row["seq"], error, time.time() + wait)
        log.warning("status callback not accepted, attempt %d: %s", row["attempts"] + 1, error)
