"""Notification on a fresh database, a directory of customers, and a mailbox that real SMTP reaches."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.dependencies import provide
from contracts.accounts import AccountMail
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind, SendNotification
from embedded.ports import free_port
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.api.dependencies import Outside
from services.notification.app import NotificationSettings, build
from services.notification.channels import Channel, Message, Receipt, Sender
from services.notification.links import Links
from services.notification.model import Attempt, Delivery, DeliveryStatus, Notification, outbox
from services.notification.protocols.webpush import Subscribing, VapidKeys, new_private_key
from simulators.mail_sink import create_app
from tests.conftest import Databases, TokenMint, changing, running_api


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("notification"), pool_size=20)
    yield database
    await database.close()


LINKS = Links("https://shop.example", [b"a secret of the tests"])


def settings_of(database: Database, **more: Any) -> NotificationSettings:
    return NotificationSettings(
        database_url=database.url,
        service_client_secret=SecretStr("not asked for here"),
        notification_secrets=SecretStr("a secret of the tests"),
        **more,
    )


@pytest_asyncio.fixture
async def client(
    database: Database, mint: TokenMint, people: "People", mailbox: "Mailbox", phones: "Phones"
) -> AsyncIterator[httpx2.AsyncClient]:
    """The API beside a mailbox, and telephones and browsers that take everything."""
    service = build(settings_of(database, inbox_stream_seconds=0.5))
    senders: dict[Channel, Callable[[], Sender]] = {
        Channel.EMAIL: partial(SmtpMailer, SmtpSettings(smtp_port=mailbox.port)),
        Channel.SMS: lambda: phones.sender(Channel.SMS),
        Channel.PUSH: lambda: phones.sender(Channel.PUSH),
    }
    provide(service.api, Outside, Outside(people, senders, Subscribing(VapidKeys([new_private_key()]))))
    async with running_api(service, mint) as client:
        yield client


@dataclass
class Phones:
    """What SMS and push senders were given. Their adapters are tried on their providers' own protocols in `channels/`."""

    messages: list[Message] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Raised in turn, in place of taking a message."""
    taken: int = 0

    def sender(self, channel: Channel) -> "PhoneSender":
        return PhoneSender(self, channel)


@dataclass
class PhoneSender:
    phones: Phones
    channel: Channel

    async def send(self, message: Message) -> Receipt:
        if self.phones.failures:
            raise self.phones.failures.pop(0)
        self.phones.messages.append(message)
        self.phones.taken += 1
        return Receipt(f"provider-{self.phones.taken}")

    async def close(self) -> None:
        pass


@pytest.fixture
def phones() -> Phones:
    return Phones()


@dataclass
class Mailbox:
    """Everything that was sent, and the switches of the server that takes it."""

    port: int
    http: httpx2.AsyncClient

    async def mails(self, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get("/messages", params={"limit": "100"} | query)).json()["data"]
        return found

    async def faults(self, **switches: object) -> None:
        (await self.http.post("/_control/faults", json=switches)).raise_for_status()


@pytest_asyncio.fixture
async def mailbox(tmp_path: Path) -> AsyncIterator[Mailbox]:
    port = free_port()
    app = create_app(tmp_path, "127.0.0.1", port)
    transport = httpx2.ASGITransport(app)
    async with app.running(), httpx2.AsyncClient(transport=transport, base_url="http://mail") as http:
        yield Mailbox(port, http)


@dataclass
class People:
    """What identity would answer. That identity does so is seen on the whole platform, in tests/journeys."""

    addresses: dict[UUID, str] = field(default_factory=dict)
    wanted: dict[UUID, AccountMail] = field(default_factory=dict)
    away: bool = False

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        if self.away:
            raise Unavailable("identity is away")
        return {each: self.addresses[each] for each in customer_ids if each in self.addresses}

    async def account_mail(self, request_id: UUID) -> AccountMail:
        if self.away:
            raise Unavailable("identity is away")
        if request_id not in self.wanted:
            raise Refusal(ErrorCode.LINK_INVALID, "not wanted")
        return self.wanted[request_id]

    def customer(self, email: str = "zoe@example.org") -> UUID:
        """A customer whose address is verified."""
        customer_id = uuid4()
        self.addresses[customer_id] = email
        return customer_id


@pytest.fixture
def people() -> People:
    return People()


def confirmation(customer_id: UUID, **values: str) -> SendNotification:
    order_id = uuid4()
    return SendNotification(
        key=f"{order_id}:order_confirmed",
        kind=NotificationKind.ORDER_CONFIRMED,
        customer_id=customer_id,
        order_id=order_id,
        values={"total": "12.50 USD"} | values,
    )


async def notifications(database: Database) -> list[Notification]:
    async with database.reading() as session:
        return list((await session.exec(select(Notification).order_by(Notification.notification_id))).all())  # type: ignore[arg-type]


async def deliveries(database: Database, channel: Channel | None = None) -> list[Delivery]:
    """In the sequence in which they were queued."""
    about = Notification.notification_id == Delivery.notification_id
    query = select(Delivery).join(Notification, about).order_by(Notification.notification_id, Delivery.channel, Delivery.target)  # type: ignore[arg-type]
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return [row for row in rows if channel is None or row.channel == channel]


async def statuses(database: Database, channel: Channel | None = None) -> list[tuple[str, int]]:
    return [(each.status.value, each.attempts) for each in await deliveries(database, channel)]


async def attempts(database: Database) -> list[tuple[int, str]]:
    async with database.reading() as session:
        rows = (await session.exec(select(Attempt).order_by(Attempt.at))).all()  # type: ignore[arg-type]
    return [(row.number, row.outcome) for row in rows]


async def make_due(database: Database) -> None:
    """Time passes."""
    async with changing(database) as work:
        waiting = update(Delivery).where(Delivery.status.in_([DeliveryStatus.PENDING, DeliveryStatus.WAITING]))  # type: ignore[attr-defined]
        await work.rows(waiting.values(due_at=utc_now() - timedelta(seconds=1)))


async def event_types(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope["type"] for row in rows]
