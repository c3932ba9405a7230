"""The simulated providers behind real sockets, and the connections of a process to them."""

import base64
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from chassis.clients import HttpSession
from services.notification.channels import Channel, Message
from services.notification.protocols.webpush import decoded, encoded, point
from simulators.push_service.app import create_app as create_push_service
from simulators.push_service.encryption import decrypt
from simulators.twilio.app import create_app as create_twilio
from tests.serving import served

ACCOUNT = "AC" + "0" * 32
TOKEN = "token-of-the-account"
OLD_TOKEN = "token-of-the-account-before"


@pytest_asyncio.fixture
async def http() -> AsyncIterator[HttpSession]:
    async with HttpSession() as session:
        yield session


@dataclass
class Twilio:
    """The messenger, and who looks into its books."""

    url: str
    http: httpx2.AsyncClient

    async def messages(self, **query: str) -> list[dict[str, Any]]:
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        found: list[dict[str, Any]] = (await self.http.get(path, params=query)).json()["messages"]
        return found

    async def faults(self, **switches: object) -> None:
        (await self.http.post("/_control/faults", json=switches)).raise_for_status()


@pytest_asyncio.fixture
async def twilio(tmp_path: Path) -> AsyncIterator[Twilio]:
    app = create_twilio(tmp_path, ACCOUNT, (TOKEN, OLD_TOKEN))
    async with served(app) as url, httpx2.AsyncClient(base_url=url, auth=(ACCOUNT, TOKEN)) as http:
        yield Twilio(url, http)


@dataclass
class Browser:
    """Somebody's browser as far as push messages go: its subscription, and the keys that it keeps to itself."""

    endpoint: str
    token: str
    vapid_key: str | None
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def subscription(self) -> dict[str, Any]:
        """`PushSubscription.toJSON()`."""
        keys = {"p256dh": encoded(point(self.key.public_key())), "auth": encoded(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    @property
    def address(self) -> str:
        """As a message has it."""
        return json.dumps({**self.subscription, "vapid_key": self.vapid_key})

    def read(self, body: str) -> dict[str, Any]:
        """What the service worker gets."""
        content: dict[str, Any] = json.loads(decrypt(decoded(body), self.key, self.auth))
        return content


@dataclass
class PushService:
    """The browsers' push service."""

    url: str
    http: httpx2.AsyncClient

    async def subscribe(self, vapid_key: str | None = None) -> Browser:
        made = (await self.http.post("/_control/subscriptions", json={"vapid_key": vapid_key})).json()
        return Browser(made["endpoint"], made["token"], vapid_key)

    async def gone(self, browser: Browser) -> None:
        (await self.http.post(f"/_control/subscriptions/{browser.token}/gone")).raise_for_status()

    async def messages(self, browser: Browser) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get("/_control/messages", params={"token": browser.token})).json()["data"]
        return found

    async def faults(self, **switches: object) -> None:
        (await self.http.post("/_control/faults", json=switches)).raise_for_status()


@pytest_asyncio.fixture
async def push_service(tmp_path: Path) -> AsyncIterator[PushService]:
    async with served(create_push_service(tmp_path)) as url, httpx2.AsyncClient(base_url=url) as http:
        yield PushService(url, http)


def sms(to: str = "+491701234567", text: str = "Your order is on its way.") -> Message:
    return Message(uuid4(), Channel.SMS, to, "", text)


def basic(account: str, token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{account}:{token}".encode()).decode()}
