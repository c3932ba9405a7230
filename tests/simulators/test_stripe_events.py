"""What the Stripe simulator tells: events, listed and sent as webhooks, in whatever order is asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import stripe as sdk
from aiohttp import web

from simulators._webhooks import WebhookTarget
from simulators.stripe.app import SENT_TYPES, SIGNATURE, Options, create_app, read_options, signed_with
from tests.simulators.stripe_client import KEY, Stripe, fixtures, problems_of, problems_of_event

pytestmark = pytest.mark.asyncio

SECRET, NEXT_SECRET = "whsec_of_the_shop", "whsec_of_the_shop_from_now_on"
DASHBOARD = "charges/order-1/1"
Until = Callable[..., Awaitable[Any]]


class Shop:
    """Takes webhooks, and notes them once Stripe's own SDK finds their signature right."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.signatures: list[str] = []
        self.url = ""
        self.is_open = True

    async def take(self, request: web.Request) -> web.Response:
        if not self.is_open:
            return web.Response(status=503)
        body, signature = await request.read(), request.headers[SIGNATURE]
        sdk.Webhook.construct_event(body, signature, SECRET)
        event = json.loads(body)
        assert not problems_of_event(event), event
        self.events.append(event)
        self.signatures.append(signature)
        return web.Response(status=204)

    def told(self) -> list[tuple[str, str]]:
        return [(event["type"], event["data"]["object"]["status"]) for event in self.events]


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


Open = Callable[..., Awaitable[Stripe]]


@pytest_asyncio.fixture
async def opened(tmp_path: Path, shop: Shop, connect: Callable[[Any], httpx2.AsyncClient]) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def start(*secrets: str, **options: Any) -> Stripe:
            sign = signed_with(*(secrets or (SECRET,)))
            target = WebhookTarget(url=shop.url, sign=sign, first_wait=0.01, longest_wait=0.02)
            app = create_app(tmp_path, KEY, Options(webhook=target, **options))
            await stack.enter_async_context(app.running())
            return Stripe(await stack.enter_async_context(connect(app)))

        yield start


async def types(stripe: Stripe) -> list[str]:
    events = await stripe.all("/v1/events")
    for event in events:
        assert not problems_of_event(event), event
    return [event["type"] for event in events]


async def arrived(until: Until, shop: Shop, *told: tuple[str, str]) -> None:
    async def all_are_there() -> bool:
        return len(shop.events) >= len(told)

    await until(all_are_there)
    assert sorted(shop.told()) == sorted(told)


# ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_payment_tells_its_life(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    held = await stripe.held()
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture", amount_to_capture=500, final_capture=False)
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture")
    await stripe.post("/v1/refunds", payment_intent=held["id"], amount=200)
    assert await types(stripe) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.updated",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
    ]
    await arrived(
        until,
        shop,
        ("payment_intent.amount_capturable_updated", "requires_capture"),
        ("payment_intent.amount_capturable_updated", "requires_capture"),
        ("payment_intent.succeeded", "succeeded"),
        ("refund.created", "succeeded"),
    )


async def test_an_event_says_what_caused_it_and_what_was_before(opened: Open) -> None:
    stripe = await opened()
    held = await stripe.held(key="key-1")
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture", "key-2", amount_to_capture=500, final_capture=False)
    events = await stripe.all("/v1/events", type="payment_intent.amount_capturable_updated")
    assert [event["request"]["idempotency_key"] for event in events] == ["key-1", "key-2"]
    assert all(event["request"]["id"].startswith("req_") for event in events)
    assert events[1]["data"]["previous_attributes"] == {"amount_capturable": 12_50, "amount_received": 0}
    assert (events[1]["api_version"], events[1]["pending_webhooks"]) == ("2026-08-26.dahlia", 1)
    assert await stripe.get(f"/v1/events/{events[0]['id']}") == events[0]
    assert len(await stripe.all("/v1/events", types=["charge.updated", "charge.succeeded"])) == 2


async def test_a_declined_payment_is_told(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    await stripe.confirm(await stripe.intent("pm_card_visa_chargeDeclined"))
    assert await types(stripe) == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    await arrived(until, shop, ("payment_intent.payment_failed", "requires_payment_method"))


async def test_what_the_customer_says_at_the_bank_is_told(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    intent = await stripe.intent("pm_card_authenticationRequired")
    await stripe.confirm(intent, return_url="https://shop.example")
    assert (await types(stripe))[-1] == "payment_intent.requires_action"
    await stripe.control("control/3ds/order-1/1", result="refuse")
    await stripe.confirm(intent, payment_method="pm_card_authenticationRequired", return_url="https://shop.example")
    await stripe.control("control/3ds/order-1/1", result="confirm")
    failed, succeeded = ("payment_intent.payment_failed", "requires_payment_method"), ("payment_intent.succeeded", "succeeded")
    await arrived(until, shop, failed, succeeded)
    assert shop.events[1]["request"] == {"id": None, "idempotency_key": None}


async def test_refunds_that_end_later_are_told(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    await stripe.faults(refund_ms=1)
    for number, card in enumerate(("pm_card_pendingRefund", "pm_card_refundFail")):
        paid = await stripe.paid(card, f"order-{number}")
        await stripe.post("/v1/refunds", payment_intent=paid["id"], amount=200, metadata={"key": "part"})
    await arrived(
        until,
        shop,
        ("payment_intent.succeeded", "succeeded"),
        ("payment_intent.succeeded", "succeeded"),
        ("refund.created", "pending"),
        ("refund.created", "succeeded"),
        ("refund.updated", "succeeded"),
        ("refund.updated", "failed"),
        ("refund.failed", "failed"),
    )
    failed = next(event["data"] for event in shop.events if event["type"] == "refund.failed")
    assert failed["object"]["metadata"] == {"key": "part"}
    assert failed["previous_attributes"]["status"] == "succeeded"


async def test_disputes_are_told(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    await stripe.paid()
    dispute = await stripe.dashboard(f"{DASHBOARD}/disputes", amount=500, reason="fraudulent")
    await stripe.dashboard(f"disputes/{dispute['id']}/win")
    await arrived(
        until,
        shop,
        ("payment_intent.succeeded", "succeeded"),
        ("charge.dispute.created", "needs_response"),
        ("charge.dispute.closed", "won"),
    )
    assert "charge.dispute.funds_reinstated" in await types(stripe)


async def test_a_hold_expires_by_itself(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened(hold_s=0.05)
    held = await stripe.held()
    held_until, canceled = (
        ("payment_intent.amount_capturable_updated", "requires_capture"),
        ("payment_intent.canceled", "canceled"),
    )
    await arrived(until, shop, held_until, canceled)
    now = await stripe.look(held)
    assert (now["status"], now["cancellation_reason"], now["amount_capturable"]) == ("canceled", "automatic", 0)
    reply = await stripe.try_post(f"/v1/payment_intents/{held['id']}/capture")
    assert reply.refusal == (400, "payment_intent_unexpected_state")
    assert "charge.expired" in await types(stripe)
    assert (await stripe.sums())["voided"] == 12_50


async def test_a_capture_that_comes_too_late_finds_the_hold_expired(opened: Open) -> None:
    now = [1_800_000_000.0]
    stripe = await opened(clock=lambda: now[0])
    held = await stripe.held()
    now[0] += 7 * 86_400 + 1  # before the simulator itself has looked
    reply = await stripe.try_post(f"/v1/payment_intents/{held['id']}/capture")
    assert (reply.refusal, reply.error["payment_intent"]["status"]) == ((400, "payment_intent_unexpected_state"), "canceled")
    assert (await stripe.look(held))["status"] == "canceled"


async def test_what_was_taken_of_an_expired_hold_stays_taken(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    held = await stripe.held()
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture", amount_to_capture=500, final_capture=False)
    expired = await stripe.dashboard(f"{DASHBOARD}/expire")
    assert (expired["status"], expired["amount_received"], expired["amount_capturable"]) == ("succeeded", 500, 0)
    await arrived(
        until,
        shop,
        ("payment_intent.amount_capturable_updated", "requires_capture"),
        ("payment_intent.amount_capturable_updated", "requires_capture"),
        ("payment_intent.succeeded", "succeeded"),
    )
    assert (await stripe.sums())["voided"] == 7_50


async def test_events_can_be_listed_for_thirty_days(opened: Open) -> None:
    now = [1_800_000_000.0]
    stripe = await opened(clock=lambda: now[0])
    await stripe.paid()
    now[0] += 30 * 86_400 - 1
    assert len(await types(stripe)) == 3
    now[0] += 1
    assert await types(stripe) == []
    await stripe.paid()
    assert len(await stripe.all("/v1/events", created={"gte": int(now[0])})) == 3


# ── How it is sent ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_signature_is_stripes() -> None:
    delivery = fixtures()["webhook_delivery"]
    signed = signed_with(delivery["secret"])(delivery["body_raw"], delivery["timestamp"])
    assert signed == {SIGNATURE: delivery["headers"]["Stripe-Signature"]}


async def test_the_fixtures_are_of_the_same_shape_as_our_events() -> None:
    for event in fixtures()["derived"]["event"].values():
        assert not problems_of_event(event)


async def test_while_the_secret_changes_both_are_right(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened(NEXT_SECRET, SECRET)
    await stripe.paid()
    await arrived(until, shop, ("payment_intent.succeeded", "succeeded"))
    assert shop.signatures[0].count("v1=") == 2
    options = read_options({"PAYMENT_WEBHOOK_URL": shop.url, "PAYMENT_WEBHOOK_SECRET": f"{NEXT_SECRET}, {SECRET}"})
    assert options.webhook is not None
    assert options.webhook.sign("{}", 1) == signed_with(NEXT_SECRET, SECRET)("{}", 1)


async def test_only_what_was_asked_for_is_sent(opened: Open, shop: Shop, until: Until) -> None:
    environment = {"PAYMENT_WEBHOOK_EVENTS": "charge.succeeded, refund.created"}
    stripe = await opened(sent_types=read_options(environment).sent_types)
    assert read_options({}).sent_types == SENT_TYPES
    paid = await stripe.paid()
    await stripe.post("/v1/refunds", payment_intent=paid["id"])
    await arrived(until, shop, ("charge.succeeded", "succeeded"), ("refund.created", "succeeded"))
    events = {event["type"]: event["pending_webhooks"] for event in await stripe.all("/v1/events")}
    assert (events["charge.succeeded"], events["payment_intent.succeeded"]) == (1, 0)


async def test_webhooks_come_before_the_answer(opened: Open, shop: Shop) -> None:
    stripe = await opened()
    await stripe.faults(webhooks_early=True)
    paid = await stripe.paid()
    assert shop.told() == [("payment_intent.succeeded", "succeeded")]
    await stripe.post("/v1/refunds", payment_intent=paid["id"], amount=200)
    assert shop.told()[1:] == [("refund.created", "succeeded")]


async def test_webhooks_come_twice_late_and_in_the_wrong_order(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    paid = await stripe.paid()
    await arrived(until, shop, ("payment_intent.succeeded", "succeeded"))
    await stripe.faults(webhooks_twice=True, webhooks_held=True, webhooks_newest_first=True)
    for amount in (100, 200):
        await stripe.post("/v1/refunds", payment_intent=paid["id"], amount=amount)
    assert await stripe.pending() == 4
    assert len(shop.events) == 1
    await stripe.faults(webhooks_held=False)

    async def told() -> bool:
        return len(shop.events) == 5

    await until(told)
    assert [event["data"]["object"]["amount"] for event in shop.events[1:]] == [200, 200, 100, 100]
    assert len({event["id"] for event in shop.events[1:]}) == 2
    await stripe.faults(webhooks_late_ms=60_000)
    await stripe.dashboard(f"{DASHBOARD}/refunds", amount=300)
    assert await stripe.pending() == 2


async def test_webhooks_are_tried_until_they_arrive_and_signed_each_time(opened: Open, shop: Shop, until: Until) -> None:
    stripe = await opened()
    shop.is_open = False
    await stripe.paid()

    async def tried() -> bool:
        return bool((await stripe.http.get("/_control/webhooks")).json()["attempts"] >= 2)

    await until(tried)
    shop.is_open = True
    await arrived(until, shop, ("payment_intent.succeeded", "succeeded"))


async def test_a_restart_keeps_the_books_and_what_was_not_told(
    tmp_path: Path, shop: Shop, until: Until, start_process: Callable[..., Awaitable[Any]]
) -> None:
    process = await start_process("stripe", PAYMENT_WEBHOOK_URL=shop.url, PAYMENT_WEBHOOK_SECRET=SECRET)
    stripe = Stripe(process.http)
    await stripe.faults(webhooks_held=True)
    held = await stripe.held()
    await process.kill()
    assert not shop.events
    await process.start()
    await arrived(until, shop, ("payment_intent.amount_capturable_updated", "requires_capture"))
    assert (await stripe.look(held))["amount_capturable"] == 12_50


# ── What was before ──────────────────────────────────────────────────────────────────────────────────────────────────────


def books_of_0_9_0(folder: Path) -> None:
    """One charge held, one refunded, one held and then captured, one declined, one reversed, as release 0.9.0 wrote them."""
    with sqlite3.connect(folder / "payment_provider.sqlite") as books:
        books.executescript(
            """
            CREATE TABLE charges (seq INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE, id TEXT,
                status TEXT NOT NULL, amount INTEGER NOT NULL DEFAULT 0, currency TEXT,
                captured_amount INTEGER NOT NULL DEFAULT 0, refunded_amount INTEGER NOT NULL DEFAULT 0,
                risk TEXT NOT NULL DEFAULT 'normal', decline_code TEXT, decline_message TEXT, description TEXT,
                metadata TEXT NOT NULL DEFAULT '{}', reversal_reason TEXT, created_at TEXT NOT NULL);
            INSERT INTO charges (reference, id, status, amount, currency, captured_amount, refunded_amount, created_at) VALUES
                ('held', 'ch_1', 'authorized', 100, 'EUR', 0, 0, '2099-01-01T00:00:00.000+00:00'),
                ('back', 'ch_2', 'refunded', 200, 'EUR', 200, 200, '2026-01-01T00:00:00.000+00:00'),
                ('kept', 'ch_3', 'captured', 300, 'EUR', 300, 0, '2026-01-01T00:00:00.000+00:00'),
                ('void', 'ch_4', 'voided', 400, 'EUR', 0, 0, '2026-01-01T00:00:00.000+00:00');
            INSERT INTO charges (reference, id, status, amount, currency, decline_code, decline_message, created_at) VALUES
                ('no', 'ch_5', 'declined', 500, 'EUR', 'card_declined', 'No.', '2026-01-01T00:00:00.000+00:00');
            INSERT INTO charges (reference, status, created_at) VALUES ('never', 'reversed', '2026-01-01T00:00:00.000+00:00');
            """
        )


async def test_the_books_of_the_last_release_are_carried_on(tmp_path: Path, opened: Open) -> None:
    books_of_0_9_0(tmp_path)
    stripe = await opened()
    expected = {"canceled": 1, "requires_capture": 1, "requires_payment_method": 1, "succeeded": 2}
    assert (await stripe.totals())["by_status"] == expected
    for charge in await stripe.all("/v1/charges"):
        assert not problems_of("charge", charge)
    held = await stripe.post("/v1/payment_intents/pi_1/capture")
    assert (held["status"], held["amount_received"], held["metadata"]) == ("succeeded", 100, {"reference": "held"})
    assert (await stripe.get("/v1/charges/ch_1"))["payment_intent"] == "pi_1"
    part = await stripe.post("/v1/refunds", charge="ch_3", amount=50)
    assert (part["status"], part["payment_intent"]) == ("succeeded", "pi_3")
    assert (await stripe.try_post("/v1/refunds", charge="ch_2")).refusal == (400, "charge_already_refunded")
    totals = await stripe.sums()
    assert (totals["authorized"], totals["captured"], totals["voided"], totals["refunded"]) == (500, 600, 400, 250)


async def test_old_books_are_taken_over_once(tmp_path: Path, opened: Open) -> None:
    books_of_0_9_0(tmp_path)
    await opened()
    assert (await (await opened()).totals())["references"] == 5
