"""The card processor's dashboard, and what its webhooks tell: of what no answer told, in whatever order is asked for."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from simulators._webhooks import WebhookTarget, signature
from simulators.payment_provider import SIGNATURE, Options, create_app

pytestmark = pytest.mark.asyncio

SECRET = "secret-of-the-webhooks"
REFERENCE = "order-1/1"
CHARGE = {"reference": REFERENCE, "amount": 12_50, "currency": "EUR", "card_token": "tok_visa", "capture": True}
ONE, DASHBOARD = f"/v1/charges/{REFERENCE}", f"/_dashboard/charges/{REFERENCE}"
Until = Callable[..., Awaitable[Any]]


class Shop:
    """Takes webhooks, and notes them once their signature fits."""

    def __init__(self) -> None:
        self.news: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        stamp, _, signed = request.headers[SIGNATURE].removeprefix("t=").partition(",v1=")
        assert hmac.compare_digest(signed, hmac.new(SECRET.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest())
        self.news.append(json.loads(body))
        return web.Response(status=204)

    def told(self) -> list[tuple[str, str, int]]:
        return [(news["type"], news["state"], news["amount"]) for news in self.news]


@pytest_asyncio.fixture
async def shop(free_port: Callable[[], int]) -> AsyncIterator[Shop]:
    shop, port = Shop(), free_port()
    app = web.Application()
    app.router.add_post("/news", shop.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    shop.url = f"http://127.0.0.1:{port}/news"
    yield shop
    await runner.cleanup()


Open = Callable[..., Any]


@pytest_asyncio.fixture
async def opened(tmp_path: Path, shop: Shop, connect: Callable[[Any], httpx2.AsyncClient]) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> httpx2.AsyncClient:
            target = WebhookTarget(
                url=shop.url,
                sign=lambda body, at: {SIGNATURE: signature(body, SECRET, at)},
                first_wait=0.01,
                longest_wait=0.02,
            )
            app = create_app(tmp_path, "test-key", Options(webhook=target, **options))
            await stack.enter_async_context(app.running())
            return await stack.enter_async_context(connect(app))

        yield start


async def charge(client: httpx2.AsyncClient, **changes: object) -> httpx2.Response:
    body = {**CHARGE, **changes}
    return await client.post("/v1/charges", headers={"Idempotency-Key": str(body["reference"])}, json=body)


async def post(client: httpx2.AsyncClient, path: str, **body: object) -> Any:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_what_an_answer_tells_is_told_by_no_webhook(opened: Open, shop: Shop, until: Until) -> None:
    client = await opened()
    await charge(client)
    await post(client, f"{ONE}/refunds", key="part", amount=100)
    refund = await post(client, f"{DASHBOARD}/refunds", amount=200, reason="by hand")

    async def told() -> bool:
        return bool(shop.news)

    await until(told)
    [news] = shop.news
    assert {name: news[name] for name in ("type", "reference", "movement_id", "key", "amount", "currency", "state")} == {
        "type": "refund",
        "reference": REFERENCE,
        "movement_id": refund["id"],
        "key": None,
        "amount": 200,
        "currency": "EUR",
        "state": "succeeded",
    }


async def test_disputes_are_told_and_decided_once(opened: Open, shop: Shop, until: Until) -> None:
    client = await opened()
    await charge(client)
    first = await post(client, f"{DASHBOARD}/disputes", amount=500, reason="fraudulent")
    second = await post(client, f"{DASHBOARD}/disputes", amount=300)
    for _ in range(2):
        assert (await post(client, f"/_dashboard/disputes/{first['id']}/win"))["state"] == "won"
    await post(client, f"/_dashboard/disputes/{second['id']}/lose")
    assert (await client.post(f"/_dashboard/disputes/{second['id']}/win")).status_code == 409

    async def told() -> bool:
        return len(shop.news) == 4

    await until(told)
    assert sorted(shop.told()) == [
        ("dispute", "lost", 300),
        ("dispute", "open", 300),
        ("dispute", "open", 500),
        ("dispute", "won", 500),
    ]
    kept = (await client.get(ONE)).json()
    assert kept["disputed_amount"] == 300
    totals = (await client.get("/_control/ledger")).json()["currencies"]["EUR"]
    assert (totals["captured"], totals["disputed"]) == (12_50, 300)
    states = [row["state"] for row in (await client.get("/v1/disputes")).json()["data"]]
    assert states == ["won", "lost"]


async def test_a_hold_expires_by_itself(opened: Open, shop: Shop, until: Until) -> None:
    client = await opened(hold_s=0.05)
    held = (await charge(client, capture=False)).json()
    assert (held["status"], held["held_amount"]) == ("authorized", 12_50)

    async def told() -> bool:
        return shop.told() == [("charge", "voided", 0)]

    await until(told)
    assert shop.news[0]["reason"] == "expired"
    assert (await client.post(f"{ONE}/capture", json={})).status_code == 409
    assert (await client.get("/_control/ledger")).json()["currencies"]["EUR"]["voided"] == 12_50


async def test_what_was_taken_of_an_expired_hold_stays_taken(opened: Open) -> None:
    client = await opened()
    await charge(client, capture=False)
    await post(client, f"{ONE}/capture", key="parcel-1", amount=500, is_last=False)
    await post(client, f"{DASHBOARD}/expire")
    kept = (await client.get(ONE)).json()
    assert (kept["status"], kept["captured_amount"], kept["held_amount"]) == ("captured", 500, 0)
    # The capture that was made may be asked for again: it is the same one.
    assert (await post(client, f"{ONE}/capture", key="parcel-1", amount=500, is_last=False))["captured_amount"] == 500


async def test_a_refund_may_fail_days_after_it_succeeded(opened: Open, shop: Shop, until: Until) -> None:
    client = await opened()
    await charge(client)
    refund = await post(client, f"{ONE}/refunds", key="part", amount=200)
    assert refund["state"] == "succeeded"
    for _ in range(2):
        failed = await post(client, f"/_dashboard/refunds/{refund['id']}/fail")
        assert (failed["state"], failed["failure"]) == ("failed", "expired_or_canceled_card")
    assert (await client.post(f"/_dashboard/refunds/{refund['id']}/succeed")).status_code == 409

    async def told() -> bool:
        return shop.told() == [("refund", "failed", 200)]

    await until(told)
    assert shop.news[0]["key"] == "part"
    assert (await client.get(ONE)).json()["refunded_amount"] == 0
    moves = [(row["kind"], row["amount"]) for row in (await client.get("/v1/movements")).json()["data"]]
    assert moves == [("capture", 12_50), ("refund", 200), ("refund_failed", 200)]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (f"{ONE}/capture", {"amount": 12_51, "key": "a"}, "capture_too_large"),
        (f"{ONE}/capture", {"amount": 1, "key": "a", "is_last": False}, "multi_capture_unavailable"),
        (f"{DASHBOARD}/disputes", {"amount": 1}, "dispute_too_large"),
        (f"{ONE}/refunds", {"amount": 1}, "invalid_request"),
    ],
)
async def test_what_cannot_be_is_refused(opened: Open, path: str, body: Any, code: str) -> None:
    client = await opened(multi_capture=False)
    await charge(client, capture=False)
    response = await client.post(path, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert (await client.get(ONE)).json()["captured_amount"] == 0


async def test_one_key_is_one_movement(opened: Open) -> None:
    client = await opened()
    await charge(client, capture=False)
    await post(client, f"{ONE}/capture", key="parcel-1", amount=500, is_last=False)
    other = await client.post(f"{ONE}/capture", json={"key": "parcel-1", "amount": 600, "is_last": False})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_error")
    await post(client, f"{ONE}/refunds", key="part", amount=200)
    other = await client.post(f"{ONE}/refunds", json={"key": "part", "amount": 300})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_error")


async def test_webhooks_come_before_the_answer(opened: Open, shop: Shop) -> None:
    client = await opened()
    await client.post("/_control/faults", json={"webhooks_of_answers": True, "webhooks_early": True})
    await charge(client)
    assert shop.told() == [("charge", "captured", 12_50)]
    await post(client, f"{ONE}/refunds", key="part", amount=200)
    assert shop.told()[1:] == [("refund", "succeeded", 200)]


async def test_webhooks_come_twice_late_and_in_the_wrong_order(opened: Open, shop: Shop, until: Until) -> None:
    client = await opened()
    await charge(client)
    await client.post("/_control/faults", json={"webhooks_twice": True, "webhooks_held": True, "webhooks_newest_first": True})
    for amount in (100, 200):
        await post(client, f"{DASHBOARD}/refunds", amount=amount)
    assert (await client.get("/_control/webhooks")).json()["pending"] == 4
    assert not shop.news
    await client.post("/_control/faults", json={"webhooks_held": False})

    async def told() -> bool:
        return len(shop.news) == 4

    await until(told)
    assert [news["amount"] for news in shop.news] == [200, 200, 100, 100]
    assert len({news["id"] for news in shop.news}) == 2
    await client.post("/_control/faults", json={"webhooks_late_ms": 60_000})
    await post(client, f"{DASHBOARD}/refunds", amount=300)
    assert (await client.get("/_control/webhooks")).json()["pending"] == 2


async def test_books_never_change_what_they_say(tmp_path: Path, opened: Open) -> None:
    client = await opened()
    await charge(client)
    with sqlite3.connect(tmp_path / "payment_provider.sqlite") as books:
        for statement in ("UPDATE moves SET amount = 1", "DELETE FROM moves"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                books.execute(statement)


def _books_of_0_9_0(folder: Path) -> None:
    """One charge held, one refunded, one held and then captured, as release 0.9.0 wrote them."""
    with sqlite3.connect(folder / "payment_provider.sqlite") as books:
        books.executescript(
            """
            CREATE TABLE charges (seq INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE, id TEXT,
                status TEXT NOT NULL, amount INTEGER NOT NULL DEFAULT 0, currency TEXT,
                captured_amount INTEGER NOT NULL DEFAULT 0, refunded_amount INTEGER NOT NULL DEFAULT 0,
                risk TEXT NOT NULL DEFAULT 'normal', decline_code TEXT, decline_message TEXT, description TEXT,
                metadata TEXT NOT NULL DEFAULT '{}', reversal_reason TEXT, created_at TEXT NOT NULL);
            CREATE TABLE movements (reference TEXT NOT NULL, kind TEXT NOT NULL, amount INTEGER NOT NULL,
                currency TEXT NOT NULL, moved_at TEXT NOT NULL, PRIMARY KEY (reference, kind)) WITHOUT ROWID;
            INSERT INTO charges (reference, id, status, amount, currency, captured_amount, refunded_amount, created_at) VALUES
                ('held', 'ch_1', 'authorized', 100, 'EUR', 0, 0, '2026-01-01T00:00:00.000+00:00'),
                ('back', 'ch_2', 'refunded', 200, 'EUR', 200, 200, '2026-01-01T00:00:00.000+00:00'),
                ('kept', 'ch_3', 'captured', 300, 'EUR', 300, 0, '2026-01-01T00:00:00.000+00:00');
            INSERT INTO movements VALUES ('held', 'authorize', 100, 'EUR', '1'), ('back', 'capture', 200, 'EUR', '2'),
                ('back', 'refund', 200, 'EUR', '3'), ('kept', 'authorize', 300, 'EUR', '4'), ('kept', 'capture', 300, 'EUR', '5');
            """
        )


async def test_the_books_of_the_last_release_are_carried_on(tmp_path: Path, opened: Open) -> None:
    _books_of_0_9_0(tmp_path)
    client = await opened()
    held = await post(client, "/v1/charges/held/capture")
    assert (held["status"], held["captured_amount"]) == ("captured", 100)
    again = await post(client, "/v1/charges/kept/capture")
    assert again["captured_amount"] == 300
    back = await post(client, "/v1/charges/back/reversals")
    assert (back["status"], back["refunded_amount"], back["movement"]["amount"]) == ("refunded", 200, 200)
    part = await post(client, "/v1/charges/kept/refunds", key="part", amount=50)
    assert part["state"] == "succeeded"
    totals = (await client.get("/_control/ledger")).json()["currencies"]["EUR"]
    assert (totals["authorized"], totals["captured"], totals["refunded"]) == (400, 600, 250)
