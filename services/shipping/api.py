"""Shipping over HTTP: the public endpoints, the carrier's webhook, and the internal ones of the saga and the order service."""

import time
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request, Response

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from chassis.webhooks import WebhookSecrets, verify_signature
from contracts import shipments as contract
from contracts.base import ParcelNumber
from contracts.paging import Page
from contracts.shipments import (
    CancelReturnLabel,
    CancelShipment,
    CreateReturnLabel,
    CreateShipment,
    Direction,
    LookUpTariff,
    ShipmentStatus,
    Tariff,
)
from services.shipping import commands, queries
from services.shipping.access import ACCESS
from services.shipping.model.rates import tariff_of
from services.shipping.ports import Carrier
from services.shipping.schemas import (
    AddressCheckRequest,
    AddressCheckView,
    CarrierNewsRequest,
    RatesRequest,
    RatesView,
    ShipmentView,
    TrackingNumber,
    TrackingView,
)

public = ACCESS.router(prefix="/api/v1", tags=["shipping"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


TheCarrier = Annotated[Carrier, from_app(Carrier)]


async def signed_by_carrier(
    request: Request,
    secret: Annotated[WebhookSecrets, from_app(WebhookSecrets)],
    signature: Annotated[
        str | None, Header(alias="X-Carrier-Signature", max_length=1000, description="`t=<unix time>,v1=<HMAC-SHA256>`")
    ] = None,
) -> None:
    """Refusal: invalid_signature."""
    verify_signature(signature, await request.body(), secret, time.time())


@public.post("/shipping/rates", summary="What a parcel would cost")
async def quote(request: RatesRequest) -> RatesView:
    return queries.quote(request)


@public.post("/shipping/address-checks", summary="Check and normalise an address")
async def check_address(request: AddressCheckRequest) -> AddressCheckView:
    return await queries.check_address(request.address)


@public.get("/shipments", summary="List shipments, newest first")
async def list_shipments(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    status: ShipmentStatus | None = None,
    direction: Annotated[
        Direction, Query(description="`inbound`: those in which returns come back to a warehouse.")
    ] = Direction.OUTBOUND,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ShipmentView]:
    return await queries.list_shipments(
        db, caller, direction=direction, order_id=order_id, status=status, cursor=cursor, limit=limit
    )


@public.get("/shipments/{shipment_id}", summary="Get a shipment")
async def get_shipment(db: Db, caller: Caller, shipment_id: UUID, response: Response) -> ShipmentView:
    return tagged(response, await queries.get_shipment(db, caller, shipment_id))


@public.get("/tracking/{tracking_number}", summary="Where a parcel is")
async def track(db: MayLag, caller: Caller, tracking_number: TrackingNumber) -> TrackingView:
    return await queries.track(db, caller, tracking_number)


@public.post("/shipments/{shipment_id}/dispatch", summary="Hand a parcel over to the carrier")
async def dispatch(
    db: Db, carrier: TheCarrier, caller: Caller, shipment_id: UUID, seen: OptionalSeenVersion, response: Response
) -> ShipmentView:
    view = partial(ShipmentView.of, for_staff=caller.is_staff)
    with showing(view):
        return tagged(response, view(await commands.dispatch_shipment(db, carrier, caller, shipment_id, seen)))


@public.post("/shipments/{shipment_id}/deliver", summary="Record a delivery by hand")
async def deliver(db: Db, caller: Caller, shipment_id: UUID, seen: OptionalSeenVersion, response: Response) -> ShipmentView:
    view = partial(ShipmentView.of, for_staff=caller.is_staff)
    with showing(view):
        return tagged(response, view(await commands.deliver_shipment(db, caller, shipment_id, seen)))


@public.post(
    "/carriers/webhook", status_code=204, dependencies=[Depends(signed_by_carrier)], summary="The carrier tells where a parcel is"
)
async def carrier_webhook(db: Db, request: CarrierNewsRequest) -> None:
    await commands.apply_carrier_news(db, request.news)


@internal.post("/shipments/create", summary="Book a parcel with the carrier")
async def create(db: Db, carrier: TheCarrier, command: CreateShipment) -> contract.Shipment:
    return await commands.create_shipment(db, carrier, command)


@internal.post("/shipments/cancel", summary="Undo a booking")
async def cancel(db: Db, carrier: TheCarrier, command: CancelShipment) -> contract.Shipment:
    return await commands.cancel_shipment(db, carrier, command)


@internal.post("/shipping/create-return-label", summary="Book the parcel in which a return comes back")
async def create_return_label(db: Db, carrier: TheCarrier, command: CreateReturnLabel) -> contract.ReturnLabel:
    return await commands.create_return_label(db, carrier, command)


@internal.post("/shipping/cancel-return-label", summary="Undo that booking")
async def cancel_return_label(db: Db, carrier: TheCarrier, command: CancelReturnLabel) -> contract.ReturnLabel:
    return await commands.cancel_return_label(db, carrier, command)


@internal.post("/shipping/tariff", summary="What parcels to a place cost")
async def look_up_tariff(question: LookUpTariff) -> Tariff:
    return tariff_of(question)


@internal.get("/shipments/{order_id}", summary="One of an order's parcels")
async def get_shipment_of_order(db: Db, order_id: UUID, parcel: ParcelNumber = 1) -> contract.Shipment:
    return await queries.get_shipment_of_order(db, order_id, parcel)
