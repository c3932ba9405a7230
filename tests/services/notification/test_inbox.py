"""The in-app inbox: what stands in whose, what is read, and live."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.access import Grant, Reach
from chassis.database import Database
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.notification import commands, stream
from services.notification.commands import Staff, Told
from services.notification.model import Audience, Notification
from services.notification.stream import PER_PERSON, Streams
from tests.conftest import TokenMint, changing, eventually
from tests.services.notification.conftest import confirmation, notifications
from tests.services.notification.test_channels import choose, tell

INBOX = "/api/v1/notifications/inbox"
K = NotificationKind


def told_to(audience: Audience, kind: NotificationKind, about: str, **facts: Any) -> Told:
    return Told(kind, about, {"product_id": "milk", "warehouse": "410", "count": "1"}, audience, **facts)


async def seen(client: httpx2.AsyncClient, headers: dict[str, str], **query: Any) -> list[str]:
    page = (await client.get(INBOX, params=query, headers=headers)).json()
    return [item["kind"] for item in page["items"]]


async def test_everybody_finds_what_is_theirs_and_what_is_for_their_work(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    mine = uuid4()
    await commands.send_notification(database, confirmation(mine))
    await tell(database, uuid4())
    async with changing(database) as work:
        told = [
            told_to(Audience.FINANCE, K.REFUND_FAILED, "1"),
            told_to(Audience.SUPPORT, K.DECISION_NEEDED, "2"),
            told_to(Audience.WAREHOUSE, K.LOW_STOCK, "3", warehouse_id="410"),
            told_to(Audience.WAREHOUSE, K.LOW_STOCK, "4", warehouse_id="411"),
            told_to(Audience.WAREHOUSE, K.PRODUCT_WITHDRAWN, "5"),
        ]
        await commands.queue_all(work, Staff(), told)
    assert await seen(client, mint.headers(Role.CUSTOMER, subject=mine)) == ["order_confirmed"]
    assert await seen(client, mint.headers(Role.CUSTOMER)) == []
    assert await seen(client, mint.headers(Role.SUPPORT, subject=mine)) == ["decision_needed", "order_confirmed"]
    assert await seen(client, mint.headers(Role.WAREHOUSE)) == ["product_withdrawn", "low_stock", "low_stock"]
    assert await seen(client, mint.headers(Role.WAREHOUSE, warehouses=["411"])) == ["product_withdrawn", "low_stock"]
    assert len(await seen(client, mint.headers(Role.ADMIN))) == 5
    [item] = (await client.get(INBOX, headers=mint.headers(Role.CUSTOMER, subject=mine))).json()["items"]
    assert (item["title"], item["text"], item["is_read"]) == (
        "Your order is confirmed", "We have received your payment of 12.50 USD.", False,
    )  # fmt: skip


async def test_what_is_read_is_read_and_only_by_whom(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    customer_id = uuid4()
    me, other = mint.headers(Role.CUSTOMER, subject=customer_id), mint.headers(Role.CUSTOMER)
    for _ in range(5):
        await tell(database, customer_id)
    ids = [row.notification_id for row in await notifications(database)]

    async def unread(headers: dict[str, str] = me) -> int:
        found: int = (await client.get(INBOX, headers=headers)).json()["unread"]
        return found

    assert (await unread(), await unread(other)) == (5, 0)
    assert [(await client.post(f"{INBOX}/{ids[4]}/read", headers=me)).status_code for _ in range(2)] == [204, 204]
    assert (await client.post(f"{INBOX}/{ids[4]}/read", headers=other)).status_code == 404
    assert (await client.post(f"{INBOX}/{uuid4()}/read", headers=me)).status_code == 404
    assert await unread() == 4
    assert (await client.post(f"{INBOX}/read-all", json={"up_to": str(ids[1])}, headers=me)).status_code == 204
    assert await unread() == 2
    page = (await client.get(INBOX, params={"unread": True, "limit": 1}, headers=me)).json()
    assert ([item["notification_id"] for item in page["items"]], page["unread"]) == ([str(ids[3])], 2)
    rest = (await client.get(INBOX, params={"unread": True, "cursor": page["next_cursor"]}, headers=me)).json()
    assert [item["notification_id"] for item in rest["items"]] == [str(ids[2])]
    assert (await client.post(f"{INBOX}/read-all", json={}, headers=me)).status_code == 204
    assert (await client.post(f"{INBOX}/read-all", json={"up_to": str(ids[0])}, headers=me)).status_code == 204  # never back
    assert await unread() == 0
    everything = (await client.get(INBOX, headers=me)).json()["items"]
    assert [item["is_read"] for item in everything] == [True] * 5


async def test_of_the_staff_each_reads_for_himself(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    async with changing(database) as work:
        await commands.queue_all(work, Staff(), [told_to(Audience.SUPPORT, K.DECISION_NEEDED, "1")])
    [told] = await notifications(database)
    ann, bob = (mint.headers(Role.SUPPORT, subject=uuid4()) for _ in range(2))
    await client.post(f"{INBOX}/{told.notification_id}/read", headers=ann)
    assert [(await client.get(INBOX, headers=who)).json()["unread"] for who in (ann, bob)] == [0, 1]


async def test_who_wants_nothing_in_the_inbox_finds_nothing(
    client: httpx2.AsyncClient, database: Database, mint: TokenMint
) -> None:
    customer_id = uuid4()
    await choose(database, customer_id, deliveries={"inbox": False})
    await tell(database, customer_id)
    assert await seen(client, mint.headers(Role.CUSTOMER, subject=customer_id)) == []


def grant(subject: UUID, *roles: Role) -> Grant:
    return Grant(Principal(subject, frozenset(roles or {Role.CUSTOMER}), 0), frozenset({Reach.OWN}))


async def valid() -> None:
    pass


@asynccontextmanager
async def following(streams: Streams, caller: Grant, last: UUID | None = None, is_valid: Any = valid) -> AsyncIterator[list[Any]]:
    """What a stream brings, while it is read: the data of its notifications, and None at its end."""
    found: list[Any] = []
    events = await streams.follow(caller, last, is_valid)

    async def read() -> None:
        async for event in events:
            if event.startswith("event: notification"):
                found.append(json.loads(event.partition("data: ")[2]))
        found.append(None)

    reading = asyncio.create_task(read())
    try:
        yield found
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await events.aclose()  # type: ignore[attr-defined]


async def test_what_is_told_comes_live_whichever_process_told_it(database: Database) -> None:
    streams, other_process = Streams(database, lasts_s=60), Database(database.url)
    customer_id, stranger = uuid4(), uuid4()
    async with (
        following(streams, grant(customer_id)) as mine,
        following(streams, grant(stranger)) as theirs,
        following(streams, grant(uuid4(), Role.SUPPORT)) as supports,
    ):
        await tell(other_process, customer_id)
        async with changing(other_process) as work:
            await commands.queue_all(work, Staff(), [told_to(Audience.SUPPORT, K.DECISION_NEEDED, "1")])

        async def came() -> bool:
            return bool(mine) and bool(supports)

        await eventually(came, what="both have their notification")
        await tell(other_process, customer_id)

        async def came_again() -> bool:
            return len(mine) == 2

        await eventually(came_again, what="the second one")
        assert [item["kind"] for item in mine] == ["order_shipped"] * 2
        assert [item["kind"] for item in supports] == ["decision_needed"]
        assert theirs == []
    await other_process.close()


async def test_who_comes_back_gets_what_came_since(database: Database) -> None:
    customer_id = uuid4()
    for _ in range(3):
        await tell(database, customer_id)
    ids = [row.notification_id for row in await notifications(database)]
    async with following(Streams(database, lasts_s=60), grant(customer_id), last=ids[0]) as mine:

        async def came() -> bool:
            return len(mine) >= 2

        await eventually(came, what="what was missed")
        await tell(database, customer_id)

        async def came_live() -> bool:
            return len(mine) >= 3

        await eventually(came_live, what="what came then")
        last = (await notifications(database))[-1].notification_id
        assert [item["notification_id"] for item in mine] == [str(ids[1]), str(ids[2]), str(last)]


async def test_what_is_committed_late_is_not_missed(database: Database) -> None:
    """Ids rise with time, commits come in any order."""
    customer_id = uuid4()
    early = Notification(key="early", kind=K.ORDER_SHIPPED, customer_id=customer_id, is_in_inbox=True)
    async with following(Streams(database, lasts_s=60), grant(customer_id)) as mine:
        await tell(database, customer_id)

        async def came() -> bool:
            return len(mine) == 1

        await eventually(came, what="the one with the higher id")
        async with changing(database) as work:
            work.add(early)

        async def both() -> bool:
            return len(mine) == 2

        await eventually(both, what="the one with the lower id")
        assert mine[1]["notification_id"] == str(early.notification_id)


async def test_a_stream_ends_with_the_login_and_after_its_time(database: Database) -> None:
    ended = asyncio.Event()

    async def is_valid() -> None:
        if ended.is_set():
            raise Refusal(ErrorCode.UNAUTHENTICATED, "The access token is not valid, or no longer.")

    async def over(found: list[Any]) -> bool:
        return found[-1:] == [None]

    streams = Streams(database, lasts_s=60)
    async with following(streams, grant(uuid4()), is_valid=is_valid) as mine:
        ended.set()
        await eventually(lambda: over(mine), what="the login's end is noticed")
    async with following(Streams(database, lasts_s=0.05), grant(uuid4())) as mine:
        await eventually(lambda: over(mine), what="its time is up")
    async with following(streams, grant(uuid4())) as mine:
        streams.stop()
        await eventually(lambda: over(mine), what="the process stops")


async def test_a_person_has_only_so_many_streams_open(database: Database) -> None:
    streams, caller = Streams(database, lasts_s=60), grant(uuid4())
    opened = [await streams.follow(caller, None, valid) for _ in range(PER_PERSON)]
    with pytest.raises(Refusal) as refused:
        await streams.follow(caller, None, valid)
    assert refused.value.code == ErrorCode.RATE_LIMITED
    assert await streams.follow(grant(uuid4()), None, valid)
    assert await anext(opened[0]) == "retry: 2000\n\n"
    await opened[0].aclose()  # type: ignore[attr-defined]
    assert await streams.follow(caller, None, valid)


async def test_a_reader_that_does_not_read_comes_back_for_the_rest(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WAITING_FOR_A_LISTENER", 2)
    streams, customer_id = Streams(database, lasts_s=60), uuid4()
    events = await streams.follow(grant(customer_id), None, valid)
    await anext(events)
    for _ in range(4):
        await tell(database, customer_id)
    [listener] = streams._listeners[customer_id]

    async def is_full() -> bool:
        return listener.waiting.qsize() == 1

    await eventually(is_full, what="only its end is left to be read")
    assert [event async for event in events] == []


async def test_over_http_it_is_an_event_stream(client: httpx2.AsyncClient, database: Database, mint: TokenMint) -> None:
    customer_id = uuid4()
    me = mint.headers(Role.CUSTOMER, subject=customer_id)
    for _ in range(2):
        await tell(database, customer_id)
    first, second = await notifications(database)
    answer = await client.get(f"{INBOX}/stream", headers=me | {"Last-Event-ID": str(first.notification_id)})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert f"event: notification\nid: {second.notification_id}\ndata: {{" in answer.text
    assert str(first.notification_id) not in answer.text
    assert (await client.get(f"{INBOX}/stream", headers=me | {"Last-Event-ID": "x"})).status_code == 422
