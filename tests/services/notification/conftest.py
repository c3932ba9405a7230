"""Notification on a fresh database, a directory of customers, and a mailbox that real SMTP reaches."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlmodel import select

from chassis.clients import Unavailable
from chassis.database import Database
from contracts.accounts import AccountMail
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind, SendNotification
from embedded.ports import free_port
from services.notification.app import NotificationSettings, build
from services.notification.model import Notification, outbox
from simulators.mail_sink import create_app
from tests.conftest import Databases, TokenMint, running_api


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("notification"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def client(database: Database, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    settings = NotificationSettings(database_url=database.url, service_client_secret=SecretStr("not asked for here"))
    async with running_api(build(settings), mint) as client:
        yield client


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


async def event_types(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope["type"] for row in rows]
