"""Reads of shipping."""

import asyncio
from uuid import UUID

from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts import shipments as contract
from contracts.paging import Page
from contracts.shipments import Direction, ShipmentStatus
from services.shipping.model import Shipment, TrackingEvent, addresses, rates, unknown_shipment
from services.shipping.schemas import (
    AddressCheckView,
    AddressDraft,
    RatesRequest,
    RatesView,
    ShipmentView,
    TrackingEntry,
    TrackingView,
)

EVENTS_SHOWN = 100


def quote(request: RatesRequest) -> RatesView:
    """What each way to send a parcel costs. Refusals: address_undeliverable, parcel_too_heavy."""
    to = request.ship_to
    zone = rates.zone_of(to.country, to.region, to.postal_code)
    if zone is None:
        raise rates.not_served()
    return RatesView(zone=zone, rates=rates.rates(zone, request.weight_grams))


async def check_address(draft: AddressDraft) -> AddressCheckView:
    """The address as the post writes it, or what is wrong with it."""
    address, errors = await asyncio.to_thread(addresses.check, draft.model_dump())
    zone = rates.zone_of(address.country, address.region, address.postal_code) if address else None
    return AddressCheckView(deliverable=address is not None, address=address, zone=zone, errors=errors)


async def get_shipment(database: Database, caller: Grant, shipment_id: UUID) -> ShipmentView:
    """One parcel within the caller's reach. Refusal: not_found."""
    async with database.reading() as session:
        shipment = await session.get(Shipment, shipment_id)
    if shipment is None or not shipment.is_within(caller):
        raise unknown_shipment()
    return ShipmentView.of(shipment, for_staff=caller.is_staff)


async def get_shipment_of_order(database: Database, order_id: UUID, parcel: int = 1) -> contract.Shipment:
    """One of an order's parcels. Refusal: not_found."""
    query = select(Shipment).where(
        Shipment.order_id == order_id, Shipment.direction == Direction.OUTBOUND, Shipment.parcel == parcel
    )
    async with database.reading() as session:
        shipment = (await session.exec(query)).one_or_none()
    if shipment is None:
        raise unknown_shipment()
    return shipment.reply()


@may_lag
async def list_shipments(
    database: Reader,
    caller: Grant,
    *,
    direction: Direction,
    order_id: UUID | None,
    status: ShipmentStatus | None,
    cursor: str | None,
    limit: int,
) -> Page[ShipmentView]:
    """Parcels within the caller's reach that travel one way, newest first."""
    query = select(Shipment).where(Shipment.direction == direction).order_by(col(Shipment.shipment_id).desc()).limit(limit + 1)
    before = decode_cursor(cursor, KeyPart.ID)
    if before:
        query = query.where(col(Shipment.shipment_id) < before[0])
    query = query.where(caller.rows(owner=col(Shipment.customer_id), warehouse=col(Shipment.warehouse_id)))
    if order_id:
        query = query.where(Shipment.order_id == order_id)
    if status:
        query = query.where(Shipment.status == status)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: ShipmentView.of(row, for_staff=caller.is_staff), lambda row: (row.shipment_id,))


@may_lag
async def track(database: Reader, caller: Grant, tracking_number: str) -> TrackingView:
    """Where a parcel within the caller's reach is. Refusal: not_found."""
    # Carriers use their numbers again after some years: the latest parcel is meant.
    query = (
        select(Shipment).where(Shipment.tracking_number == tracking_number).order_by(col(Shipment.shipment_id).desc()).limit(1)
    )
    async with database.reading() as session:
        shipment = (await session.exec(query)).one_or_none()
        if shipment is None or not shipment.is_within(caller):
            raise unknown_shipment()
        history = (
            select(TrackingEvent)
            .where(TrackingEvent.shipment_id == shipment.shipment_id)
            .order_by(col(TrackingEvent.occurred_at).desc(), col(TrackingEvent.tracking_event_id).desc())
            .limit(EVENTS_SHOWN)
        )
        events = (await session.exec(history)).all()
    return TrackingView(
        tracking_number=tracking_number,
        order_id=shipment.order_id,
        direction=shipment.direction,
        parcel=shipment.parcel,
        shipment_id=shipment.shipment_id,
        status=shipment.status,
        events=[TrackingEntry.of(event) for event in reversed(events)],
    )
