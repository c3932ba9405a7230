"""What the tests of shipping send, and how they read what came of it."""

import hashlib
import hmac
import unicodedata
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import col, select

from chassis.clock import utc_now
from chassis.database import Database
from contracts.address import Address
from contracts.ids import parcel_reference, return_reference
from contracts.money import Money
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateReturnLabel, CreateShipment, Direction, ShipmentLine
from services.shipping import queries
from services.shipping.adapters.easypost import MEANS
from services.shipping.commands.news import apply_carrier_news
from services.shipping.model import Package, Shipment, outbox
from services.shipping.ports import TrackerNews
from tests.conftest import ADMIN

ADDRESS = Address(name="A. Customer", line1="12 Main Street", city="Cincinnati", region="OH", postal_code="45202", country="US")


def order(weight_grams: int = 2500, **ship_to: Any) -> CreateShipment:
    return CreateShipment(
        order_id=uuid4(),
        customer_id=uuid4(),
        warehouse_id="410",
        ship_to=ADDRESS.model_copy(update=ship_to),
        weight_grams=weight_grams,
    )


def lines(order: CreateShipment, *lines: tuple[str, int, int]) -> CreateShipment:
    """With so many units of products that weigh so many grams."""
    told = tuple(
        ShipmentLine(
            product_id=product, name=product.title(), quantity=quantity, unit_price=Money(amount=Decimal(2)), weight_grams=grams
        )
        for product, quantity, grams in lines
    )
    return order.model_copy(update={"lines": told})


def sent_again(order: CreateShipment) -> CreateShipment:
    return order.model_copy(update={"parcel": order.parcel + 1})


def undo(order: CreateShipment) -> CancelShipment:
    return CancelShipment(order_id=order.order_id, parcel=order.parcel, reason="the customer changed their mind")


def label(order: CreateShipment | None = None, number: int = 1, weight_grams: int = 2500, **ship_from: Any) -> CreateReturnLabel:
    """The parcel in which a return of an order comes back, to another warehouse than sent it."""
    return CreateReturnLabel(
        order_id=order.order_id if order else uuid4(),
        number=number,
        customer_id=order.customer_id if order else uuid4(),
        ship_from=ADDRESS.model_copy(update=ship_from),
        warehouse_id="367",
        weight_grams=weight_grams,
    )


def undo_label(label: CreateReturnLabel) -> CancelReturnLabel:
    return CancelReturnLabel(order_id=label.order_id, number=label.number, reason="the customer keeps it")


def return_of(label: CreateReturnLabel) -> str:
    """The carrier's name for it."""
    return return_reference(label.order_id, label.number)


def reference_of(order: CreateShipment) -> str:
    return parcel_reference(order.order_id, order.parcel)


async def shipment_of(database: Database, order_id: UUID, parcel: int = 1, direction: Direction = Direction.OUTBOUND) -> Shipment:
    query = select(Shipment).where(
        col(Shipment.order_id) == order_id, col(Shipment.direction) == direction, col(Shipment.parcel) == parcel
    )
    async with database.reading() as session:
        return (await session.exec(query)).one()


async def envelopes_of(database: Database, order_id: UUID) -> list[dict[str, Any]]:
    """The order's events in their order."""
    async with database.reading() as session:
        query = select(outbox.table.c.envelope).where(outbox.table.c.key == str(order_id)).order_by(outbox.table.c.seq)
        return [row.envelope for row in await session.execute(query)]


async def events_of(database: Database, order_id: UUID) -> list[str]:
    """Their types; TrackingUpdated with its status."""
    envelopes = await envelopes_of(database, order_id)
    return [" ".join(filter(None, [each["type"], each["data"].get("status")])) for each in envelopes]


async def history_of(database: Database, order_id: UUID) -> list[str]:
    """What its customer reads of a parcel, as staff gets it."""
    tracking_number = (await shipment_of(database, order_id)).tracking_number or ""
    return [entry.status for entry in (await queries.track(database, ADMIN, tracking_number)).events]


async def package_of(database: Database, shipment_id: UUID, number: int = 1) -> Package:
    query = select(Package).where(col(Package.shipment_id) == shipment_id, col(Package.number) == number)
    async with database.reading() as session:
        return (await session.exec(query)).one()


async def news(database: Database, command: CreateShipment | CreateReturnLabel, status: str, **changes: Any) -> TrackerNews:
    """What EasyPost would tell of a parcel, or of one in which a return comes back."""
    if isinstance(command, CreateShipment):
        shipment = await shipment_of(database, command.order_id, command.parcel)
    else:
        shipment = await shipment_of(database, command.order_id, command.number, Direction.INBOUND)
    package = await package_of(database, shipment.shipment_id)
    told = TrackerNews(
        id=f"evt_{uuid4().hex}",
        provider_id=package.provider_id,
        tracking_number=package.tracking_number or "TRK77",
        status=MEANS.get(status),
        word=status.upper(),
        occurred_at=utc_now(),
    )
    return replace(told, **changes)


async def tell(database: Database, command: CreateShipment | CreateReturnLabel, *statuses: str, **changes: Any) -> None:
    for status in statuses:
        await apply_carrier_news(database, await news(database, command, status, **changes))


def event(told: TrackerNews, status: str) -> dict[str, Any]:
    """The body of EasyPost's request that tells so."""
    stamp = told.occurred_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    tracker: dict[str, Any] = {
        "object": "Tracker",
        "tracking_code": told.tracking_number,
        "status": status,
        "shipment_id": told.provider_id,
        "updated_at": stamp,
        "tracking_details": [],
    }
    return {"id": told.id, "object": "Event", "description": "tracker.updated", "result": tracker}


def signed(body: str, secret: str) -> dict[str, str]:
    """The headers with which EasyPost sends it."""
    digest = hmac.new(unicodedata.normalize("NFKD", secret).encode(), body.encode(), hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Hmac-Signature": f"hmac-sha256-hex={digest}"}
