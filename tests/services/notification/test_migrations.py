"""Mails that a build before this one has queued: they are moved, or taken over when nobody can be sending them any more."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest_asyncio
import uuid_utils.compat as uuids

from chassis import migrations
from chassis.clock import utc_now
from chassis.database import Database
from contracts.identity import Role
from contracts.notifications import NotificationKind
from embedded.postgres import PostgresServer
from services.notification import commands
from services.notification.app import build
from services.notification.channels import Channel
from services.notification.queries.templates import live_texts
from tests.conftest import ROOT, TokenMint, running_api
from tests.services.notification.conftest import Mailbox, People, confirmation, deliveries, event_types, settings_of
from tests.services.notification.test_delivery import delivery

FOLDER = ROOT / "services" / "notification" / "migrations"


async def queue_as_before(connection: asyncpg.Connection, customer_id: UUID, **facts: Any) -> UUID:
    """What the build before writes for a mail."""
    notification_id = uuids.uuid7()
    row = {
        "notification_id": notification_id, "key": f"old {notification_id}", "kind": "order_confirmed",
        "customer_id": customer_id, "order_id": uuid4(), "values": "{}", "status": "PENDING", "attempts": 0, "due_at": utc_now(),
        "reason": None, "created_at": utc_now(), "sent_at": None, "version": 1, **facts,
    }  # fmt: skip
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await connection.execute(f"insert into notifications ({names}) values ({places})", *row.values())
    return notification_id


@pytest_asyncio.fixture
async def before(postgres: PostgresServer) -> str:
    name = f"notification_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url("postgres").replace("+asyncpg", ""))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    await asyncio.to_thread(migrations.upgrade, FOLDER, postgres.url(name), "0009")
    return postgres.url(name)


async def test_what_was_sent_is_moved_and_what_is_being_sent_is_taken_over_when_its_lease_ends(
    before: str, people: People, mailbox: Mailbox, mint: TokenMint
) -> None:
    customer_id, now = people.customer(), utc_now()
    connection = await asyncpg.connect(before.replace("+asyncpg", ""))
    await connection.execute("update templates set subject = 'As we wrote it' where kind = 'order_confirmed'")
    sent = await queue_as_before(connection, customer_id, status="SENT", attempts=1, due_at=None, sent_at=now)
    failed = await queue_as_before(connection, customer_id, status="FAILED", attempts=12, due_at=None, reason="550 no Ada here")
    lease = now + timedelta(minutes=2)
    leased = await queue_as_before(connection, customer_id, due_at=lease)
    waiting = await queue_as_before(connection, customer_id)
    await asyncio.to_thread(migrations.upgrade, FOLDER, before)
    database = Database(before)

    assert [(row.delivery_id, row.status, row.attempts) for row in await deliveries(database)] == [
        (sent, "SENT", 1), (failed, "FAILED", 12),
    ]  # fmt: skip
    assert await connection.fetchval("select count(*) from notifications where reason is not null") == 0

    late = await queue_as_before(connection, customer_id)  # by a process of the build before, which still runs
    await commands.take_over(database)
    assert {row.delivery_id: row.status for row in await deliveries(database)} == {
        sent: "SENT", failed: "FAILED", waiting: "PENDING", late: "PENDING",
    }  # fmt: skip
    # The build before says that it has sent what it had claimed.
    assert await connection.fetchval("select due_at from notifications where notification_id = $1", leased) == lease
    ended = "update notifications set status = 'SENT', attempts = 1, due_at = null, sent_at = $1 where notification_id = $2"
    await connection.execute(ended, now, leased)
    new = (await commands.send_notification(database, confirmation(customer_id))).notification_id
    await commands.take_over(database)
    await delivery(database, people, mailbox.port).send_due()
    assert {row.delivery_id: row.status for row in await deliveries(database)} == {
        sent: "SENT", failed: "FAILED", leased: "SENT", waiting: "SENT", late: "SENT", new: "SENT",
    }  # fmt: skip
    assert {mail["subject"] for mail in await mailbox.mails()} == {"As we wrote it"}
    assert await event_types(database) == ["NotificationSent"] * 3
    # The build before never sends what this one has queued.
    assert await connection.fetchval("select count(*) from notifications where due_at is not null") == 0

    async with running_api(build(settings_of(database)), mint) as client:
        shown = await seen(client, mint)
    assert shown[str(sent)] == ("SENT", 1)
    assert shown[str(failed)] == ("FAILED", 12)
    await connection.close()
    await database.close()


async def seen(client: httpx2.AsyncClient, mint: TokenMint) -> dict[str, tuple[str, int]]:
    page = (await client.get("/api/v1/notifications", headers=mint.headers(Role.SUPPORT))).json()
    return {item["notification_id"]: (item["status"], item["attempts"]) for item in page["items"]}


async def test_many_are_taken_over_step_by_step(before: str) -> None:
    connection = await asyncpg.connect(before.replace("+asyncpg", ""))
    for _ in range(7):
        await queue_as_before(connection, uuid4())
    await asyncio.to_thread(migrations.upgrade, FOLDER, before)
    database = Database(before)
    rounds = [await commands.take_over(database, limit=3) for _ in range(3)]
    assert rounds == [True, True, False]
    assert len(await deliveries(database)) == 7
    assert (NotificationKind.LOW_STOCK, Channel.EMAIL, "en") in await live_texts(database, {NotificationKind.LOW_STOCK})
    await connection.close()
    await database.close()
