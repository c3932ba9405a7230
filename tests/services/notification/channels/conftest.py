"""The simulated providers behind real sockets, and the connections of a process to them."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from chassis.clients import HttpSession
from chassis.database import Database
from chassis.dependencies import provide, provided
from chassis.tokens import TokenVerifier
from embedded.ports import free_port
from services.notification.adapters.imap import BounceMailbox
from services.notification.api.dependencies import Outside
from services.notification.app import build
from services.notification.channels import Channel, Message, Sender
from services.notification.delivery import DeliveryJob
from services.notification.protocols.webpush import decoded, encoded, new_private_key, point
from simulators._webhooks import WebhookTarget, signature
from simulators.mail_sink import Telling
from simulators.mail_sink import create_app as create_mail_sink
from simulators.push_service.app import create_app as create_push_service
from simulators.push_service.encryption import decrypt
from simulators.twilio.app import create_app as create_twilio
from tests.conftest import TokenMint
from tests.services.notification.conftest import LINKS, People, settings_of
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


VAPID_KEY, OLD_VAPID_KEY = new_private_key(), new_private_key()
EMAIL_SECRET, OLD_EMAIL_SECRET = "secret-of-the-mail-server", "secret-of-the-mail-server-before"


@dataclass
class Shop:
    """Notification as it runs, reached by its providers over a socket, and what it sends by."""

    url: str
    client: httpx2.AsyncClient
    database: Database
    people: People
    sink: httpx2.AsyncClient
    """Of the mail server: its books and switches."""
    senders: Mapping[Channel, Callable[[], Sender]]
    smtp_port: int
    imap_port: int
    ledger: Path
    """Of the mail server."""

    @property
    def mailbox(self) -> BounceMailbox:
        """Where its mails come back to."""
        return BounceMailbox("127.0.0.1", self.imap_port, is_tls=False, user="bounces", password="mail-sink", folder="INBOX")

    def kept_reports(self) -> int:
        """How many are in that mailbox, seen or not."""
        with closing(sqlite3.connect(self.ledger)) as ledger:
            count: int = ledger.execute("SELECT COUNT(*) FROM reports").fetchone()[0]
        return count

    async def send(self, channel: Channel) -> int:
        """Send what is due on a channel."""
        job = DeliveryJob(self.database, self.people, self.senders[channel](), LINKS, asyncio.Event(), attempts=5)
        return await job.send_due()


@pytest_asyncio.fixture
async def shop(
    database: Database, mint: TokenMint, people: People, twilio: Twilio, push_service: PushService, tmp_path: Path
) -> AsyncIterator[Shop]:
    port, smtp_port, imap_port = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    settings = settings_of(
        database,
        public_url=url,
        smtp_port=smtp_port,
        twilio_url=twilio.url,
        twilio_account_sid=ACCOUNT,
        twilio_auth_token=SecretStr(f"{TOKEN},{OLD_TOKEN}"),
        twilio_from="+15005550006",
        vapid_private_key=SecretStr(f"{VAPID_KEY},{OLD_VAPID_KEY}"),
        push_endpoints=push_service.url,
        email_webhook_secret=SecretStr(f"{EMAIL_SECRET},{OLD_EMAIL_SECRET}"),
        bounce_mailbox_url=SecretStr(f"imap://bounces:mail-sink@127.0.0.1:{imap_port}/INBOX"),
    )
    service = build(settings)
    outside = provided(service.api, Outside)
    provide(service.api, Outside, replace(outside, directory=people))
    provide(service.api, TokenVerifier, mint.verifier("notification"))

    def sign(body: str, at: int) -> Mapping[str, str]:
        return {"Content-Type": "message/rfc822", "X-Email-Signature": signature(body, EMAIL_SECRET, at)}

    webhook = WebhookTarget(url=f"{url}/api/v1/notifications/webhooks/email", sign=sign, first_wait=0.01, longest_wait=0.05)
    telling = Telling(webhook=webhook, imap_port=imap_port)
    mail_sink = create_mail_sink(tmp_path, "127.0.0.1", smtp_port, telling=telling)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.opened())
        await stack.enter_async_context(served(service.api, port))
        await stack.enter_async_context(mail_sink.running())
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url))
        transport = httpx2.ASGITransport(mail_sink)
        sink = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://mail"))
        ledger = tmp_path / "mail_sink.sqlite"
        yield Shop(url, client, database, people, sink, outside.senders, smtp_port, imap_port, ledger)


def sms(to: str = "+491701234567", text: str = "Your order is on its way.") -> Message:
    return Message(uuid4(), Channel.SMS, to, "", text)
