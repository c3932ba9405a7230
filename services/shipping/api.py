"""Shipping over HTTP: the public endpoints, the carrier's webhook, and the internal ones of the saga and the order service."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Query, Request, Response

from chassis.access import Caller, Grant
from chassis.database import Database
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from chassis.store import StaleVersion
from contracts import shipments as contract
from contracts.base import ParcelNumber, WarehouseId
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
from services.shipping import documents, queries
from services.shipping.access import ACCESS
from services.shipping.commands import labels, news, parcels
from services.shipping.model import Shipment
from services.shipping.model.packing import MOST_PACKAGES
from services.shipping.model.rates import tariff_of
from services.shipping.schemas import (
    AddressCheckRequest,
    AddressCheckView,
    RatesRequest,
    RatesView,
    ShipmentView,
    ToDispatchView,
    TrackingNumber,
    TrackingView,
)
from services.shipping.sending import Sending

public = ACCESS.router(prefix="/api/v1", tags=["shipping"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


Carriers = Annotated[Sending, from_app(Sending)]
_A_PDF: dict[int | str, dict[str, Any]] = {200: {"content": {documents.PDF: {"schema": {"type": "string", "format": "binary"}}}}}
_A_LABEL: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (documents.PDF, "image/png")}}
}


@public.post("/shipping/rates", summary="What a parcel would cost")
async def quote(request: RatesRequest) -> RatesView:
    return queries.quote(request)


@public.post("/shipping/address-checks", summary="Check and normalise an address")
async def check_address(sending: Carriers, request: AddressCheckRequest) -> AddressCheckView:
    return await queries.check_address(sending, request.address)


@public.get("/shipping/dispatch-list", summary="What a warehouse has to hand over, by when it was promised")
async def list_to_dispatch(
    db: MayLag,
    caller: Caller,
    warehouse_id: Annotated[WarehouseId, Query(examples=["410"])],
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ToDispatchView]:
    return await queries.list_to_dispatch(db, caller, warehouse_id, cursor, limit)


@public.get(
    "/shipping/pick-list.pdf",
    summary="What has to be fetched for the first 500 parcels of that list",
    response_class=Response,
    responses=_A_PDF,
)
async def get_pick_list(db: Db, caller: Caller, warehouse_id: Annotated[WarehouseId, Query(examples=["410"])]) -> Response:
    return Response(await queries.pick_list(db, caller, warehouse_id), media_type=documents.PDF)


@public.get("/shipments", summary="List shipments, newest first")
async def list_shipments(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    status: ShipmentStatus | None = None,
    direction: Annotated[
        Direction, Query(description="`inbound`: those in which returns come back to a warehouse.")
    ] = Direction.OUTBOUND,
    strayed: Annotated[
        bool | None, Query(description="`true`: those that were called off, and that a carrier has all the same. For staff.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ShipmentView]:
    return await queries.list_shipments(
        db, caller, direction=direction, order_id=order_id, status=status, strayed=strayed, cursor=cursor, limit=limit
    )


@public.get("/shipments/{shipment_id}", summary="Get a shipment")
async def get_shipment(db: Db, caller: Caller, shipment_id: UUID, response: Response) -> ShipmentView:
    return tagged(response, await queries.get_shipment(db, caller, shipment_id))


@public.get("/tracking/{tracking_number}", summary="Where a parcel is")
async def track(db: MayLag, caller: Caller, tracking_number: TrackingNumber) -> TrackingView:
    return await queries.track(db, caller, tracking_number)


@public.get(
    "/shipments/{shipment_id}/label",
    summary="The label of a parcel, to print",
    response_class=Response,
    responses=_A_LABEL,
)
async def get_label(
    db: Db,
    sending: Carriers,
    caller: Caller,
    shipment_id: UUID,
    package: Annotated[int, Query(ge=1, le=MOST_PACKAGES, description="Which of its packages.")] = 1,
) -> Response:
    """Customers have that of a parcel in which a return comes back."""
    picture = await labels.label_of(db, sending, caller, shipment_id, package)
    return Response(picture.content, media_type=picture.content_type)


@public.get(
    "/shipments/{shipment_id}/packing-slip.pdf",
    summary="What is in a parcel, to put into it",
    response_class=Response,
    responses=_A_PDF,
)
async def get_packing_slip(db: Db, caller: Caller, shipment_id: UUID) -> Response:
    return Response(await queries.packing_slip(db, caller, shipment_id), media_type=documents.PDF)


@public.post("/shipments/{shipment_id}/dispatch", summary="Hand a parcel over to the carrier")
async def dispatch(db: Db, caller: Caller, shipment_id: UUID, seen: OptionalSeenVersion, response: Response) -> ShipmentView:
    return await _changed(db, caller, response, parcels.dispatch_shipment, shipment_id, seen)


@public.post("/shipments/{shipment_id}/deliver", summary="Record a delivery by hand")
async def deliver(db: Db, caller: Caller, shipment_id: UUID, seen: OptionalSeenVersion, response: Response) -> ShipmentView:
    return await _changed(db, caller, response, parcels.deliver_shipment, shipment_id, seen)


@public.post("/carriers/webhook", status_code=204, summary="The carrier tells where a parcel is")
async def carrier_webhook(db: Db, sending: Carriers, request: Request) -> None:
    """An Event of EasyPost's, with its `X-Hmac-Signature`."""
    told = sending.news(request.headers, await request.body())
    if told is not None:
        await news.apply_carrier_news(db, told)


@internal.post("/shipments/create", summary="Book a parcel with the carrier")
async def create(db: Db, sending: Carriers, command: CreateShipment) -> contract.Shipment:
    return await parcels.create_shipment(db, sending, command)


@internal.post("/shipments/cancel", summary="Undo a booking")
async def cancel(db: Db, command: CancelShipment) -> contract.Shipment:
    return await parcels.cancel_shipment(db, command)


@internal.post("/shipping/create-return-label", summary="Book the parcel in which a return comes back")
async def create_return_label(db: Db, sending: Carriers, command: CreateReturnLabel) -> contract.ReturnLabel:
    return await parcels.create_return_label(db, sending, command)


@internal.post("/shipping/cancel-return-label", summary="Undo that booking")
async def cancel_return_label(db: Db, command: CancelReturnLabel) -> contract.ReturnLabel:
    return await parcels.cancel_return_label(db, command)


@internal.post("/shipping/tariff", summary="What parcels to a place cost")
async def look_up_tariff(question: LookUpTariff) -> Tariff:
    return tariff_of(question)


@internal.get("/shipments/{order_id}", summary="One of an order's parcels")
async def get_shipment_of_order(db: Db, order_id: UUID, parcel: ParcelNumber = 1) -> contract.Shipment:
    return await queries.get_shipment_of_order(db, order_id, parcel)


async def _changed(
    db: Database,
    caller: Grant,
    response: Response,
    change: Callable[[Database, Grant, UUID, int | None], Awaitable[Shipment]],
    shipment_id: UUID,
    seen: int | None,
) -> ShipmentView:
    """What a change has made of a parcel. Refusals: those of the change."""
    try:
        shipment = await change(db, caller, shipment_id, seen)
    except StaleVersion as stale:
        current = await queries.with_packages(db, caller, cast(Shipment, stale.aggregate))
        with showing(lambda _: current):
            raise
    return tagged(response, await queries.with_packages(db, caller, shipment))
