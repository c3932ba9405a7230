"""Forgetting a customer: nobody can tell any more where an order's parcels went; that they did, stays."""

import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.store import in_transaction
from contracts.address import FORGOTTEN
from contracts.errors import Refusal
from contracts.events import OrderForgotten
from contracts.shipments import Direction
from services.shipping.commands import parcels
from services.shipping.commands.labels import fetch_labels
from services.shipping.model import LabelPicture, Package, Shipment
from services.shipping.sending import Sending
from tests.conftest import ADMIN
from tests.personal import found_in
from tests.services.shipping.parcels import label, order, shipment_of

PERSONAL = ("A. Customer", "Main Street", "Cincinnati", "45202")


async def test_where_parcels_went_is_blanked_and_what_became_of_them_stays(database: Database, sending: Sending) -> None:
    command, of_another = order(), order(name="Somebody Else", line1="1 Elm Road", city="Dayton", postal_code="45402")
    booked = await parcels.create_shipment(database, sending, command)
    await parcels.create_shipment(database, sending, of_another)
    await parcels.dispatch_shipment(database, ADMIN, booked.shipment_id)
    while await fetch_labels(database, sending):
        pass
    assert await labels_in(database) == 2
    assert await found_in(database.url, PERSONAL) != []
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    for _ in range(2):
        await in_transaction(database, lambda work: parcels.forget_order(work, event))
    assert await found_in(database.url, PERSONAL) == []
    row = await shipment_of(database, command.order_id)
    assert (row.customer_id, row.tracking_number, row.status) == (command.customer_id, booked.tracking_number, "DISPATCHED")
    assert row.ship_to is not None
    assert (row.ship_to["line1"], row.ship_to["country"]) == (FORGOTTEN, "US")
    assert (await shipment_of(database, of_another.order_id)).ship_to == of_another.ship_to.model_dump()
    assert await labels_in(database) == 1
    while await fetch_labels(database, sending):
        pass
    assert await labels_in(database) == 1


async def labels_in(database: Database) -> int:
    async with database.reading() as session:
        return len((await session.exec(select(LabelPicture))).all())


async def test_where_a_return_was_fetched_is_blanked_too(database: Database, sending: Sending) -> None:
    command = label()
    booked = await parcels.create_return_label(database, sending, command)
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    await in_transaction(database, lambda work: parcels.forget_order(work, event))
    assert await found_in(database.url, PERSONAL) == []
    row = await shipment_of(database, command.order_id, direction=Direction.INBOUND)
    assert (row.tracking_number, row.ship_from and row.ship_from["country"]) == (booked.tracking_number, "US")


async def test_what_the_carrier_said_of_an_address_is_blanked(database: Database, sending: Sending) -> None:
    command = order(country="ZZ")
    with pytest.raises(Refusal):
        await parcels.create_shipment(database, sending, command)
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    await in_transaction(database, lambda work: parcels.forget_order(work, event))
    row = await shipment_of(database, command.order_id)
    assert (row.refusal_code, row.refusal_detail) == ("address_undeliverable", None)


def test_whatever_is_added_to_a_shipment_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {
        *("shipment_id", "order_id", "parcel", "reference", "customer_id", "warehouse_id", "weight_grams", "status"),
        *("tracking_number", "promised_on", "strayed", "carrier_cost_minor", "carrier_currency", "refusal_code", "created_at"),
        "version",
        *("service", "parcels", "direction"),
    }
    blanked = {"ship_to", "ship_from", "refusal_detail"}
    assert set(Shipment.model_fields) == kept | blanked
    changed = set()
    for row in (Shipment.to_book(order(country="ZZ")), Shipment.label_to_book(label(country="ZZ"))):
        before = row.model_dump()
        row.forget_person()
        changed |= {name for name in before if before[name] != row.model_dump()[name]}
    assert changed == blanked
    kept = {
        *(
            "package_id",
            "shipment_id",
            "number",
            "reference",
            "box",
            "length_mm",
            "width_mm",
            "height_mm",
            "weight_grams",
            "lines",
        ),
        *("carrier", "provider_id", "offers", "rate_id", "choice", "tracking_number", "status", "reported_at", "ask_at"),
        *("refund", "refund_since", "refund_at", "created_at", "version"),
    }
    assert set(Package.model_fields) == kept | {"label_url", "label_at"}
