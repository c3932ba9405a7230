"""What shipping tells reaches the order's saga on a real Temporal server; an order without a saga holds nothing up."""

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from aiokafka import ConsumerRecord
from sqlmodel import select
from temporalio.client import Client

from chassis.clock import utc_now
from chassis.consumer import Consumer
from chassis.database import Database
from contracts.events import (
    SHIPPING,
    BackorderDelayed,
    BackorderFilled,
    CloudEvent,
    Event,
    PaymentAnswered,
    RefundOwed,
    ReturnLabelUpdated,
    ShipmentCreated,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentLost,
    ShipmentReturned,
    TrackingUpdated,
)
from contracts.ids import order_workflow_id, return_workflow_id
from contracts.money import Money
from embedded.ports import free_port
from embedded.temporal import TemporalServer
from services.order import consumers
from services.order.model import inbox
from temporal.client import TemporalSettings
from temporal.names import ORDER_WORKFLOW, RETURN_WORKFLOW
from temporal.orders import OrderSagas
from temporal.returns import ReturnSagas
from tests.services.order.conftest import Catalogue, new_order, settings_for

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def received(event: Event) -> ConsumerRecord[Any, Any]:
    """An event as it comes from Kafka."""
    envelope = CloudEvent(
        id=uuid4(),
        source="/services/shipping",
        type=type(event).__name__,
        subject=event.key,
        time=utc_now(),
        partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )
    value = envelope.model_dump_json().encode()
    return ConsumerRecord(SHIPPING, 0, 0, 0, 0, event.key.encode(), value, None, len(event.key), len(value), ())


def parcel(order_id: UUID) -> dict[str, Any]:
    return {"order_id": order_id, "shipment_id": uuid4(), "customer_id": uuid4(), "tracking_number": "T1"}


def owed(order_id: UUID) -> dict[str, Any]:
    amount = Money(amount=Decimal("3.00"), currency="USD")
    return {"order_id": order_id, "attempt": 1, "movement_key": "parcel-2", "amount": amount, "failure": "account_closed"}


async def test_each_report_is_signalled_once_and_in_order(
    database: Database, catalogue: Catalogue, temporal_server: TemporalServer, temporal_client: Client
) -> None:
    order = new_order()
    workflow_id = order_workflow_id(order.order_id)
    await temporal_client.start_workflow(ORDER_WORKFLOW, order, id=workflow_id, task_queue="nobody-works-here")
    stranger = uuid4()
    events = [
        received(event)
        for event in (
            ShipmentCreated(**parcel(order.order_id), warehouse_id="w1"),
            ShipmentDispatched(**parcel(stranger), occurred_at=WHEN),  # no saga runs: passed over
            ShipmentDispatched(**parcel(order.order_id), occurred_at=WHEN),
            TrackingUpdated(**parcel(order.order_id), status="IN_TRANSIT", occurred_at=WHEN),
            ShipmentDelivered(**parcel(order.order_id), occurred_at=WHEN),
            TrackingUpdated(**parcel(order.order_id), status="CANCELLED", occurred_at=WHEN),  # the saga's own doing
            ShipmentLost(**parcel(order.order_id), parcel=2, occurred_at=WHEN),
            ShipmentReturned(**parcel(order.order_id), parcel=3, occurred_at=WHEN),
            BackorderDelayed(order_id=order.order_id, parcel=4, expected_on=date(2026, 2, 1), was_expected_on=date(2026, 1, 9)),
            BackorderFilled(order_id=order.order_id, parcel=4, warehouse_id="w2", lines=()),
            RefundOwed(**owed(stranger)),
            RefundOwed(**owed(order.order_id)),
            PaymentAnswered(order_id=stranger, attempt=1),
            PaymentAnswered(order_id=order.order_id, attempt=2),
        )
    ]
    reached = TemporalSettings(temporal_address=temporal_server.address)
    async with OrderSagas(reached) as sagas, ReturnSagas(reached) as returns:
        settings = settings_for(database, catalogue, temporal_server.address)
        consumer = Consumer("order", consumers.subscription(sagas, returns), database, inbox, settings)
        await consumer.apply(events)
        await consumer.apply(events)  # delivered again after a rebalance
    history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
    updates: list[dict[str, Any]] = []
    stock: list[dict[str, Any]] = []
    refunds: list[dict[str, Any]] = []
    payments: list[dict[str, Any]] = []
    told_as = {
        "stock_updated": stock,
        "refund_failed": refunds,
        "shipment_updated": updates,
        "payment_answered": payments,
    }
    for event in history.events:
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            told_as[signal.signal_name] += await temporal_client.data_converter.decode(signal.input.payloads)
    assert payments == [{"attempt": 2}]
    assert [(update["status"], update["parcel"]) for update in updates] == [
        ("DISPATCHED", 1), ("IN_TRANSIT", 1), ("DELIVERED", 1), ("LOST", 2), ("RETURNED", 3),
    ]  # fmt: skip
    assert {update["tracking_number"] for update in updates} == {"T1"}
    assert updates[0]["occurred_at"] == "2026-01-02T03:04:00Z"
    async with database.reading() as session:
        applied = (await session.execute(select(inbox.table.c.event_id))).all()
    assert len(applied) == 13
    assert refunds == [
        {"attempt": 1, "key": "parcel-2", "amount": {"amount": "3.00", "currency": "USD"}, "failure": "account_closed"}
    ]
    assert [(update["status"], update["parcel"], update["warehouse_id"], update["expected_on"]) for update in stock] == [
        ("AWAITED", 4, None, "2026-02-01"), ("RESERVED", 4, "w2", None),
    ]  # fmt: skip


async def test_a_report_waits_for_temporal_to_come_back(database: Database, catalogue: Catalogue) -> None:
    """It is not the event's fault: it must not become a dead letter."""
    nowhere = f"127.0.0.1:{free_port()}"
    settings = settings_for(database, catalogue, nowhere).model_copy(update={"consumer_attempts": 1})
    unreachable = TemporalSettings(temporal_address=nowhere)
    async with OrderSagas(unreachable) as sagas, ReturnSagas(unreachable) as returns:
        consumer = Consumer("order", consumers.subscription(sagas, returns), database, inbox, settings)
        applying = asyncio.create_task(consumer.apply([received(ShipmentDelivered(**parcel(uuid4()), occurred_at=WHEN))]))
        done, _ = await asyncio.wait([applying], timeout=0.5)
        applying.cancel()
        assert not done
    async with database.reading() as session:
        assert (await session.execute(select(inbox.table.c.event_id))).all() == []


async def test_what_the_carrier_reports_of_a_label_goes_to_the_saga_of_its_return(
    database: Database, catalogue: Catalogue, temporal_server: TemporalServer, temporal_client: Client
) -> None:
    order = new_order()
    workflow_id = return_workflow_id(order.order_id, 2)
    await temporal_client.start_workflow(RETURN_WORKFLOW, order, id=workflow_id, task_queue="nobody-works-here")
    facts = {"customer_id": order.customer_id, "tracking_number": "T1", "occurred_at": WHEN}
    events = [
        received(ReturnLabelUpdated(order_id=order.order_id, number=number, status=status, **facts))
        for number, status in ((1, "DISPATCHED"), (2, "DISPATCHED"), (2, "CANCELLED"), (2, "DELIVERED"))
    ]
    reached = TemporalSettings(temporal_address=temporal_server.address)
    async with OrderSagas(reached) as sagas, ReturnSagas(reached) as returns:
        settings = settings_for(database, catalogue, temporal_server.address)
        await Consumer("order", consumers.subscription(sagas, returns), database, inbox, settings).apply(events)
    history = await temporal_client.get_workflow_handle(workflow_id).fetch_history()
    told: list[dict[str, Any]] = []
    for event in history.events:
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            assert signal.signal_name == "label_updated"
            told += await temporal_client.data_converter.decode(signal.input.payloads)
    assert [update["status"] for update in told] == ["DISPATCHED", "DELIVERED"]
