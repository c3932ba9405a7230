"""Notification on a fresh database, and a mailbox that real SMTP reaches."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest_asyncio
from sqlmodel import select

from chassis.database import Database
from contracts.notifications import NotificationKind, SendNotification
from embedded.ports import free_port
from services.notification import commands
from services.notification.app import build
from services.notification.model import Contact, Notification, outbox
from services.notification.settings import NotificationSettings
from simulators.mail_sink import create_app
from tests.conftest import Databases, TokenMint, running_api


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("notification"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def client(database: Database, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    settings = NotificationSettings(database_url=database.url)
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


async def contact(database: Database, email: str = "zoe@example.org", name: str = "Zoe") -> UUID:
    """A customer whom we can reach."""
    customer_id = uuid4()
    async with database.transaction() as session:
        await commands.remember_contact(session, Contact(customer_id=customer_id, email=email, name=name))
    return customer_id


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
