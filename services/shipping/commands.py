"""What changes parcels. Each is idempotent. Where the carrier is asked, that is between two transactions, never within one."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Concatenate, ParamSpec
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from contracts import shipments as contract
from contracts.errors import Refusal
from contracts.events import Event
from contracts.shipments import CancelShipment, CreateShipment, ShipmentStatus
from services.shipping.model import Asked, Shipment, TrackingEvent, inbox, metadata, outbox, unknown_shipment
from services.shipping.ports import Carrier, CarrierNews

SETTLE_AFTER = timedelta(seconds=30)
"""What was asked of the carrier this long ago, and has no answer, is asked again: whoever asked has probably died."""
CARRIER_NEWS = UUID("3b0f2a4e-8a53-5f0e-9a56-5d1c1a7f6f2b")
"""Namespace of the inbox ids of carrier news."""
log = logger(__name__)
_TABLE = metadata.tables["shipments"]
_ADD = insert(_TABLE).on_conflict_do_nothing().returning(_TABLE.c.shipment_id)
P = ParamSpec("P")


async def create_shipment(database: Database, carrier: Carrier, command: CreateShipment) -> contract.Shipment:
    """Book a parcel of an order. Refusals: address_undeliverable, parcel_too_heavy, shipment_cancelled. Raises Unavailable."""
    async with database.transaction() as session:
        shipment = await _existing_or(session, Shipment.to_book(command))
    shipment.require_not_undone()
    if shipment.status != ShipmentStatus.PENDING:
        return shipment.reply()
    try:
        booking = await carrier.book(shipment.as_booked)
    except Refusal as refusal:
        await _change(database, shipment.reference, Shipment.refused, refusal)
        raise
    shipment = await _change(database, shipment.reference, Shipment.booked, booking)
    shipment.require_not_undone()
    return shipment.reply()


async def cancel_shipment(database: Database, carrier: Carrier, command: CancelShipment) -> contract.Shipment:
    """Undo of create, also of one that has not arrived yet. Refusal: already_dispatched. Raises Unavailable."""
    async with database.transaction() as session:
        shipment = await _existing_or(session, Shipment.tombstone(command))
        if not shipment.ask_to_cancel():
            return shipment.reply()
    return (await _cancel(database, carrier, shipment.reference)).reply()


async def dispatch_shipment(database: Database, carrier: Carrier, caller: Grant, shipment_id: UUID) -> Shipment:
    """Hand the parcel over. Refusals: shipment_cancelled, illegal_transition, not_found. Raises Unavailable."""
    async with database.transaction() as session:
        shipment = await _within_reach(session, shipment_id, caller)
        if not shipment.ask_to_dispatch():
            return shipment
    return await _dispatch(database, carrier, shipment.reference)


async def deliver_shipment(database: Database, caller: Grant, shipment_id: UUID) -> Shipment:
    """The parcel arrived, says a person. Refusals: illegal_transition, not_found."""
    async with database.transaction() as session:
        shipment = await _within_reach(session, shipment_id, caller)
        await _publish(session, shipment, shipment.delivered(utc_now()))
        return shipment


async def apply_carrier_news(database: Database, news: CarrierNews) -> None:
    """The carrier tells where a parcel is. Told twice, or late, it moves nothing; of a parcel that is not ours, it is ignored."""
    async with database.transaction() as session:
        shipment = await _find(session, col(Shipment.reference) == news.reference)
        if shipment is None:
            log.warning("carrier_news_of_unknown_parcel", reference=news.reference)
            return
        if not await inbox.claim(session, [uuid5(CARRIER_NEWS, news.id)]):
            return
        status = news.status.upper()
        events = shipment.reported(status, news.occurred_at, news.tracking_number)
        await _publish(session, shipment, events)
        if not events:
            session.add(TrackingEvent(shipment_id=shipment.shipment_id, status=status, occurred_at=news.occurred_at))
            log.info("carrier_news_changes_nothing", reference=news.reference, status=status, shipment_status=shipment.status)


async def settle_asked(database: Database, carrier: Carrier, *, after: timedelta = SETTLE_AFTER, limit: int = 20) -> int:
    """Ask the carrier again where its answer was never written down; returns how many parcels that were."""
    async with database.transaction() as session:
        # The new time keeps others, and the next round, from asking for the same one at once.
        overdue = (
            select(Shipment.shipment_id)
            .where(col(Shipment.asked_at) <= func.now() - after)
            .order_by(col(Shipment.asked_at))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = (
            update(Shipment)
            .where(col(Shipment.shipment_id).in_(overdue.scalar_subquery()))
            .values(asked_at=func.now())
            .returning(col(Shipment.reference), col(Shipment.asked))
        )
        claimed = (await session.execute(claim, execution_options={"synchronize_session": False})).all()
    for reference, asked in claimed:
        try:
            await (_cancel if asked == Asked.CANCEL else _dispatch)(database, carrier, reference)
        except (Refusal, Unavailable) as error:
            log.info("asked_again", reference=reference, asked=asked, answer=str(error))
    return len(claimed)


async def _cancel(database: Database, carrier: Carrier, reference: str) -> Shipment:
    try:
        await carrier.cancel(reference)
    except Refusal as refusal:
        # It left before we asked. That is news to us, if whoever handed it over died before writing it down.
        shipment = await _change(database, reference, Shipment.dispatched, utc_now())
        raise shipment.already_dispatched() from refusal
    return await _change(database, reference, Shipment.cancelled)


async def _dispatch(database: Database, carrier: Carrier, reference: str) -> Shipment:
    try:
        await carrier.pick_up(reference)
    except Refusal:
        await _change(database, reference, Shipment.cancelled)
        raise
    return await _change(database, reference, Shipment.dispatched, utc_now())


async def _change(
    database: Database,
    reference: str,
    change: Callable[Concatenate[Shipment, P], Sequence[Event]],
    *arguments: P.args,
    **options: P.kwargs,
) -> Shipment:
    """Write down what the carrier answered."""
    async with database.transaction() as session:
        shipment = await _by_reference(session, reference)
        await _publish(session, shipment, change(shipment, *arguments, **options))
        return shipment


async def _publish(session: AsyncSession, shipment: Shipment, events: Sequence[Event]) -> None:
    session.add_all(TrackingEvent.of(shipment.shipment_id, event) for event in events)
    await outbox.add(session, *events)


async def _existing_or(session: AsyncSession, new: Shipment) -> Shipment:
    """The shipment of this reference, locked; `new` if there was none. A concurrent maker of one is waited for."""
    if (await session.execute(_ADD, new.model_dump())).scalar() is not None:
        return new
    return await _by_reference(session, new.reference)


async def _by_reference(session: AsyncSession, reference: str) -> Shipment:
    """The shipment of a reference that was written down before, locked: a row is never deleted."""
    shipment = await _find(session, col(Shipment.reference) == reference)
    assert shipment is not None
    return shipment


async def _within_reach(session: AsyncSession, shipment_id: UUID, caller: Grant) -> Shipment:
    """The shipment, locked. Refusal: not_found, also out of the caller's reach."""
    shipment = await _find(session, col(Shipment.shipment_id) == shipment_id)
    if shipment is None or not shipment.is_within(caller):
        raise unknown_shipment()
    return shipment


async def _find(session: AsyncSession, which: ColumnElement[bool]) -> Shipment | None:
    """The shipment, for as long as the transaction lasts nobody else's."""
    return (await session.exec(select(Shipment).where(which).with_for_update())).one_or_none()
