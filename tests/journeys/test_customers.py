"""A customer's way from the click to the doorstep, and what the rest of the platform knows of it."""

import time
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer

from contracts.events import TOPICS, CloudEvent
from contracts.orders import OrderStatus
from testing.stage import Stage
from tests.conftest import eventually

EVENTS = {
    "order-events": ["OrderCreated", "OrderConfirmed", "OrderCompleted"],
    "payment-events": ["PaymentInitiated", "PaymentProcessed"],
    "inventory-events": ["InventoryReserved"],
    "shipping-events": ["ShipmentCreated", "ShipmentDispatched", "TrackingUpdated", "ShipmentDelivered"],
    "notification-events": ["NotificationSent", "EmailDelivered"] * 3,
}
"""Of an order that meets no trouble, in order, by topic."""


async def test_an_order_is_placed_paid_sent_and_delivered(stage: Stage) -> None:
    shop, purchase = stage.shop, stage.next_purchase()
    placed = await shop.place(purchase)
    assert (placed.status, placed.body["status"]) == (201, OrderStatus.CONFIRMED)
    assert len(placed.body["lines"]) == len(purchase.body["lines"])

    await shop.dispatch(placed.order_id)
    await shop.reaches(placed.order_id, OrderStatus.SHIPPED)
    await shop.deliver(placed.order_id)
    await shop.reaches(placed.order_id, OrderStatus.COMPLETED)

    timeline = await shop.call(purchase.customer, "GET", f"/orders/{placed.order_id}/timeline")
    assert timeline["source"] == "workflow"
    assert [entry["status"] for entry in timeline["entries"]][-1] == OrderStatus.COMPLETED
    mails = await mails_to(stage, purchase.customer.email, 3)
    assert [placed.order_id in mail["text"] for mail in mails] == [True] * 3
    await reported_as_completed(stage, placed.body)
    assert await events_of(stage, placed.order_id) == EVENTS


async def test_a_cancelled_order_tells_its_customer_what_was_refunded(stage: Stage) -> None:
    purchase = stage.next_purchase()
    placed = await stage.shop.place(purchase)
    reply = await stage.shop.cancel(purchase.customer, placed.order_id, "ordered by mistake")
    assert reply.body["refunded"] == placed.body["total"]
    again = await stage.shop.cancel(purchase.customer, placed.order_id, "ordered by mistake")
    assert (again.status, again.body["refunded"]) == (200, placed.body["total"])
    confirmation, cancellation = await mails_to(stage, purchase.customer.email, 2)
    assert placed.body["total"]["amount"] in cancellation["text"]
    assert confirmation["subject"] != cancellation["subject"]


async def test_g6_mails_say_nothing_that_a_customer_wrote(stage: Stage) -> None:
    purchase = stage.next_purchase()
    placed = await stage.shop.place(purchase)
    await stage.shop.cancel(purchase.customer, placed.order_id, "cheap pills at evil.example")
    me = await stage.shop.call(purchase.customer, "GET", "/users/me")
    for mail in await mails_to(stage, purchase.customer.email, 2):
        for words in ("evil.example", me["name"], purchase.body["ship_to"]["line1"]):
            assert words not in mail["subject"] + mail["text"]


async def test_g6_a_customer_who_proved_no_address_gets_no_mail_about_an_order_until_they_did(stage: Stage) -> None:
    purchase = stage.next_purchase()
    newcomer = stage.shop.customer("newcomer")
    await newcomer.sign_up()
    placed = await stage.shop.place(replace(purchase, customer=newcomer))
    assert placed.status == 201

    async def held_back() -> bool:
        found = await stage.shop.call(newcomer, "GET", f"/notifications?order_id={placed.order_id}")
        return [mail["status"] for mail in found["items"]] == ["SUPPRESSED"]

    await eventually(held_back, what="the confirmation held back")
    await newcomer.verify(stage.shop.mailbox)
    [mail] = await mails_to(stage, newcomer.email, 1)
    assert placed.order_id in mail["text"]


async def test_a_client_that_does_not_wait_finds_its_order(stage: Stage) -> None:
    purchase = stage.next_purchase()
    placed = await stage.shop.place(purchase, prefer="respond-async")
    assert placed.status == 202
    order = await stage.shop.reaches(placed.order_id, OrderStatus.CONFIRMED)
    assert order["customer_id"] == placed.body["customer_id"]


async def mails_to(stage: Stage, address: str, count: int) -> list[dict[str, Any]]:
    """The mails about orders that arrived, oldest first, once there are so many."""
    mails: list[dict[str, Any]] = []

    async def all_there() -> bool:
        verification, *mails[:] = (await stage.shop.mailbox.call("GET", f"/messages?to={address}"))["data"]
        assert verification["subject"] == "Confirm your e-mail"
        return len(mails) >= count

    await eventually(all_there, what=f"{count} mails")
    assert len(mails) == count
    return mails


async def reported_as_completed(stage: Stage, order: Any) -> None:
    async def known() -> bool:
        reply = await stage.shop.ask(stage.shop.support, "GET", f"/reports/customers/{order['customer_id']}")
        orders = reply.body.get("recent_orders", [])
        return [(known["order_id"], known["status"]) for known in orders] == [(order["order_id"], OrderStatus.COMPLETED)]

    await eventually(known, what="the order in the reports")


async def events_of(stage: Stage, order_id: str) -> dict[str, list[str]]:
    """All the order's events that are on Kafka, by topic; one that was published twice counts once."""
    env = stage.platform.env
    consumer = AIOKafkaConsumer(*TOPICS, bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest")
    await consumer.start()
    seen: dict[str, tuple[str, str, str]] = {}
    wanted = sum(map(len, EVENTS.values()))
    try:
        deadline = time.monotonic() + 20
        while len(seen) < wanted and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event = CloudEvent.model_validate_json(record.value)
                    if event.data.get("order_id") == order_id:
                        seen.setdefault(str(event.id), (record.topic, event.data.get("notification_id", ""), event.type))
    finally:
        await consumer.stop()
    found: dict[str, list[str]] = {}
    # Mails come to their ends each by itself: what is told of one is in order.
    for topic, _, kind in sorted(seen.values(), key=lambda row: row[1]):
        found.setdefault(topic, []).append(kind)
    return found
