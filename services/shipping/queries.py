"""Reads of shipping."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, tuple_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database, Reader
from chassis.logs import logger
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts import shipments as contract
from contracts.address import Address
from contracts.paging import Page
from contracts.shipments import Direction, ShipmentStatus
from services.shipping import documents
from services.shipping.model import Package, Shipment, TrackingEvent, addresses, rates, unknown_shipment
from services.shipping.ports import Verified
from services.shipping.schemas import (
    AddressCheckView,
    AddressDraft,
    CheckedBy,
    RatesRequest,
    RatesView,
    ShipmentView,
    ToDispatchView,
    TrackingEntry,
    TrackingView,
)
from services.shipping.sending import Sending

EVENTS_SHOWN = 100
MOST_PICKED = 500
log = logger(__name__)

_BY_THE_SECOND = func.date_trunc("second", col(TrackingEvent.occurred_at))
"""Carriers tell whole seconds: what happened within one is shown in the order in which it was heard."""


def quote(request: RatesRequest) -> RatesView:
    """What each way to send a parcel costs. Refusals: address_undeliverable, parcel_too_heavy."""
    to = request.ship_to
    zone = rates.zone_of(to.country, to.region, to.postal_code)
    if zone is None:
        raise rates.not_served()
    return RatesView(zone=zone, rates=rates.rates(zone, request.weight_grams))


async def check_address(sending: Sending, draft: AddressDraft) -> AddressCheckView:
    """The address as the post writes it, or what is wrong with it. A carrier is asked about one that is of good form; if it gives
    no answer, our own check stands, and the answer says so."""
    address, errors = await asyncio.to_thread(addresses.check, draft.model_dump())
    checked_by = CheckedBy.SHOP
    if address is not None:
        verified = await _verified(sending, address)
        if verified is not None:
            address, errors, checked_by = verified.address, list(verified.errors), CheckedBy.CARRIER
    zone = rates.zone_of(address.country, address.region, address.postal_code) if address else None
    return AddressCheckView(deliverable=address is not None, address=address, zone=zone, errors=errors, checked_by=checked_by)


async def _verified(sending: Sending, address: Address) -> Verified | None:
    """What the first carrier that looks at addresses says of it; None: nobody says anything."""
    for carrier in sending.carriers:
        try:
            if verified := await carrier.verify(address):
                return verified
        except Unavailable as error:
            log.info("address_not_verified", carrier=carrier.name, answer=str(error))
    return None


async def get_shipment(database: Database, caller: Grant, shipment_id: UUID) -> ShipmentView:
    """One parcel within the caller's reach. Refusal: not_found."""
    async with database.reading() as session:
        shipment = await session.get(Shipment, shipment_id)
        if shipment is None or not shipment.is_within(caller):
            raise unknown_shipment()
        packages = await _packages_of(session, [shipment])
    return ShipmentView.of(shipment, packages[shipment_id], for_staff=caller.is_staff)


async def with_packages(database: Database, caller: Grant, shipment: Shipment) -> ShipmentView:
    """A parcel as its caller sees it."""
    async with database.reading() as session:
        packages = await _packages_of(session, [shipment])
    return ShipmentView.of(shipment, packages[shipment.shipment_id], for_staff=caller.is_staff)


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
    strayed: bool | None,
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
    if strayed is not None and caller.is_staff:
        query = query.where(Shipment.strayed == strayed)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
        packages = await _packages_of(session, rows)
    return page_of(
        rows,
        limit,
        lambda row: ShipmentView.of(row, packages[row.shipment_id], for_staff=caller.is_staff),
        lambda row: (row.shipment_id,),
    )


@may_lag
async def list_to_dispatch(
    database: Reader, caller: Grant, warehouse_id: str, cursor: str | None, limit: int
) -> Page[ToDispatchView]:
    """Parcels that a warehouse within the caller's reach has to hand over, those that were promised first at the top."""
    after = decode_cursor(cursor, KeyPart.DAY, KeyPart.ID)
    async with database.reading() as session:
        rows = await _to_dispatch(session, caller, warehouse_id, after, limit + 1)
        packages = await _packages_of(session, rows)
    return page_of(
        rows, limit, lambda row: ToDispatchView.of(row, packages[row.shipment_id]), lambda row: (row.promised_on, row.shipment_id)
    )


async def pick_list(database: Database, caller: Grant, warehouse_id: str) -> bytes:
    """The pick list of a warehouse within the caller's reach, as PDF: of the first 500 parcels that it has to hand over."""
    async with database.reading() as session:
        rows = await _to_dispatch(session, caller, warehouse_id, None, MOST_PICKED + 1)
        shown = rows[:MOST_PICKED]
        packages = await _packages_of(session, shown)
    lines = [line for row in shown for package in packages[row.shipment_id] for line in package.contents]
    today, is_all = utc_now().date(), len(rows) == len(shown)
    return await asyncio.to_thread(lambda: documents.pick_list(warehouse_id, today, len(shown), lines, is_all=is_all))


async def packing_slip(database: Database, caller: Grant, shipment_id: UUID) -> bytes:
    """The packing slip of a parcel within the caller's reach, as PDF. Refusal: not_found."""
    async with database.reading() as session:
        shipment = await session.get(Shipment, shipment_id)
        if shipment is None or not shipment.is_within(caller) or not shipment.customer_id:
            raise unknown_shipment()
        packages = (await _packages_of(session, [shipment]))[shipment_id]
    slip = documents.Slip(
        order_id=shipment.order_id,
        parcel=shipment.parcel,
        parcels=shipment.parcels,
        packages=max(len(packages), 1),
        tracking_numbers=[package.tracking_number for package in packages if package.tracking_number],
        to=shipment.customers_address,
        lines=[line for package in packages for line in package.contents],
    )
    return await asyncio.to_thread(documents.packing_slip, slip)


async def _to_dispatch(
    session: AsyncSession, caller: Grant, warehouse_id: str, after: tuple[Any, ...] | None, limit: int
) -> Sequence[Shipment]:
    query = (
        select(Shipment)
        .where(
            Shipment.warehouse_id == warehouse_id,
            Shipment.status == ShipmentStatus.BOOKED,
            Shipment.direction == Direction.OUTBOUND,
            caller.rows(warehouse=col(Shipment.warehouse_id)),
        )
        .order_by(col(Shipment.promised_on), col(Shipment.shipment_id))
        .limit(limit)
    )
    if after:
        query = query.where(tuple_(col(Shipment.promised_on), col(Shipment.shipment_id)) > after)
    return (await session.exec(query)).all()


async def _packages_of(session: AsyncSession, shipments: Sequence[Shipment]) -> dict[UUID, list[Package]]:
    """By shipment, in their order."""
    found: dict[UUID, list[Package]] = {shipment.shipment_id: [] for shipment in shipments}
    query = select(Package).where(col(Package.shipment_id).in_(found)).order_by(col(Package.number))
    for package in (await session.exec(query)).all() if found else ():
        found[package.shipment_id].append(package)
    return found


@may_lag
async def track(database: Reader, caller: Grant, tracking_number: str) -> TrackingView:
    """Where a parcel within the caller's reach is. Refusal: not_found."""
    of_package = select(Package.shipment_id).where(Package.tracking_number == tracking_number)
    # Carriers use their numbers again after some years: the latest parcel is meant.
    query = (
        select(Shipment)
        .where(or_(col(Shipment.tracking_number) == tracking_number, col(Shipment.shipment_id).in_(of_package)))
        .order_by(col(Shipment.shipment_id).desc())
        .limit(1)
    )
    async with database.reading() as session:
        shipment = (await session.exec(query)).one_or_none()
        if shipment is None or not shipment.is_within(caller):
            raise unknown_shipment()
        history = (
            select(TrackingEvent)
            .where(TrackingEvent.shipment_id == shipment.shipment_id)
            .order_by(_BY_THE_SECOND.desc(), col(TrackingEvent.tracking_event_id).desc())
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
