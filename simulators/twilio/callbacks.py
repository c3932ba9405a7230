"""Telling each message's StatusCallback what became of it: a signed form, at least once, also across restarts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget


def queue_callback(queue: WebhookQueue, url: str, fields: Mapping[str, str], *, wait_s: float) -> None:
    """Each under a name of its own, since these come in no order; the address is in the name."""
    queue.repeat(f"{secrets.token_hex(12)} {url}", urlencode(fields), wait_s=wait_s)


def sign(url: str, fields: Mapping[str, str], token: str) -> str:
    """Over the address and the fields by name (https://www.twilio.com/docs/usage/security)."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class CallbackSender(WebhookSender):
    """Sends each to the address that its message came with."""

    def __init__(self, queue: WebhookQueue, token: str) -> None:
        super().__init__(queue, WebhookTarget(url="", sign=lambda body, at: {}))
        self._token = token

    def target_of(self, row: sqlite3.Row) -> WebhookTarget:
        url = str(row["reference"]).partition(" ")[2]

        def signed(body: str, at: int) -> Mapping[str, str]:
            signature = sign(url, dict(parse_qsl(body, keep_blank_values=True)), self._token)
            return {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}

        return WebhookTarget(url=url, sign=signed)
