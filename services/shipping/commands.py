"""What changes parcels. Each is idempotent. Where the carrier is asked, that is between two transactions, never within one."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid5

from sqlalchemy import Integer, bindparam
from sqlmodel import col

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts import shipments as contract
from contracts.errors import Refusal
from contracts.events import Event, OrderForgotten
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateReturnLabel, CreateShipment, ShipmentStatus
from services.shipping.model import Asked, Shipment, TrackingEvent, inbox, outbox, unknown_shipment
from services.shipping.ports import Carrier, CarrierNews

SETTLE_AFTER = timedelta(seconds=30)
"""What was asked of the carrier this long ago, and has no answer, is asked again: whoever asked has probably died."""
CARRIER_NEWS = UUID("3b0f2a4e-8a53-5f0e-9a56-5d1c1a7f6f2b")
"""Namespace of the inbox ids of carrier news."""
_IN_OUR_WORDS = {"PICKED_UP": ShipmentStatus.DISPATCHED}
"""What the carrier says otherwise. All other words are the same, or its own."""
log = logger(__name__)
_OF_REFERENCE = locked(Shipment, col(Shipment.reference) == bindparam("reference"))
_OF_ORDER = locked(Shipment, col(Shipment.order_id) == bindparam("order"))
_OVERDUE = locked(
    Shipment,
    col(Shipment.asked_at) <= bindparam("before"),
    order_by=col(Shipment.asked_at),
    limit=bindparam("limit", type_=Integer),
    skip_locked=True,
)


async def create_shipment(database: Database, carrier: Carrier, command: CreateShipment) -> contract.Shipment:
    """Book a parcel of an order. Refusals: address_undeliverable, parcel_too_heavy, shipment_cancelled. Raises Unavailable."""
    return (await _create(database, carrier, lambda: Shipment.to_book(command))).reply()


async def create_return_label(database: Database, carrier: Carrier, command: CreateReturnLabel) -> contract.ReturnLabel:
    """Book the parcel in which a return comes back. Refusals: address_undeliverable, parcel_too_heavy, warehouse_unknown,
    shipment_cancelled. Raises Unavailable."""
    return (await _create(database, carrier, lambda: Shipment.label_to_book(command))).label_reply()


async def cancel_shipment(database: Database, carrier: Carrier, command: CancelShipment) -> contract.Shipment:
    """Undo of create, also of one that has not arrived yet. Refusal: already_dispatched. Raises Unavailable."""
    return (await _call_off(database, carrier, lambda: Shipment.tombstone(command))).reply()


async def cancel_return_label(database: Database, carrier: Carrier, command: CancelReturnLabel) -> contract.ReturnLabel:
    """Undo of create, also of one that has not arrived yet. Refusal: already_dispatched. Raises Unavailable."""
    return (await _call_off(database, carrier, lambda: Shipment.label_tombstone(command))).label_reply()


async def dispatch_shipment(
    database: Database, carrier: Carrier, caller: Grant, shipment_id: UUID, seen: int | None = None
) -> Shipment:
    """Hand the parcel over, if its version is still the one `seen`.

    Refusals: shipment_cancelled, illegal_transition, stale_version, not_found. Raises Unavailable.
    """
    shipment = await _ask_to_dispatch(database, caller, shipment_id, seen)
    if shipment.asked == Asked.DISPATCH:
        shipment = await _dispatch(database, carrier, shipment)
    return shipment


@transaction
async def deliver_shipment(work: UnitOfWork, caller: Grant, shipment_id: UUID, seen: int | None = None) -> Shipment:
    """The parcel arrived, says a person who knows its version `seen`. Refusals: illegal_transition, stale_version, not_found."""
    shipment = await _within_reach(work, shipment_id, caller)
    shipment.require_version(seen)
    _publish(work, shipment, shipment.delivered(utc_now()))
    return shipment


@transaction
async def apply_carrier_news(work: UnitOfWork, news: CarrierNews) -> None:
    """The carrier tells where a parcel is. Told twice, or late, it moves nothing; of a parcel that is not ours, it is ignored."""
    shipment = await work.one(_OF_REFERENCE, reference=news.reference)
    if shipment is None:
        log.warning("carrier_news_of_unknown_parcel", reference=news.reference)
        return
    if not await inbox.claim(work, [uuid5(CARRIER_NEWS, news.id)]):
        return
    status = _IN_OUR_WORDS.get(news.status.upper(), news.status.upper())
    events = shipment.reported(status, news.occurred_at, news.tracking_number)
    _publish(work, shipment, events)
    if not events:
        work.add(TrackingEvent(shipment_id=shipment.shipment_id, status=status, occurred_at=news.occurred_at))
        log.info("carrier_news_changes_nothing", reference=news.reference, status=status, shipment_status=shipment.status)


async def settle_asked(database: Database, carrier: Carrier, *, after: timedelta = SETTLE_AFTER, limit: int = 20) -> int:
    """Ask the carrier again where its answer was never written down; returns how many parcels that were."""
    overdue = await _claim_overdue(database, after, limit)
    for shipment in overdue:
        try:
            await (_cancel if shipment.asked == Asked.CANCEL else _dispatch)(database, carrier, shipment)
        except (Refusal, Unavailable) as error:
            log.info("asked_again", reference=shipment.reference, asked=shipment.asked, answer=str(error))
    return len(overdue)


async def forget_order(work: UnitOfWork, event: OrderForgotten) -> None:
    """Within the consumer's transaction: blank where the parcels of an order went, and its returns were fetched."""
    for shipment in await work.all(_OF_ORDER, order=event.order_id):
        shipment.forget_person()


async def _create(database: Database, carrier: Carrier, wanted: Callable[[], Shipment]) -> Shipment:
    """Book a parcel, once. `wanted` makes the row. Refusals: what it was refused for, shipment_cancelled. Raises Unavailable."""
    try:
        shipment = await _to_book(database, wanted)
    except AlreadyThere:
        shipment = await _existing(database, wanted().reference)
    shipment.require_not_undone()
    if shipment.status != ShipmentStatus.PENDING:
        return shipment
    try:
        booking = await carrier.book(shipment.as_booked)
    except Refusal as refusal:
        answer = refusal
        await _change(database, shipment, lambda shipment: shipment.refused(answer))
        raise
    shipment = await _change(database, shipment, lambda shipment: shipment.booked(booking))
    shipment.require_not_undone()
    return shipment


async def _call_off(database: Database, carrier: Carrier, tombstone: Callable[[], Shipment]) -> Shipment:
    """Cancel a parcel, or leave a tombstone of it. Refusal: already_dispatched. Raises Unavailable."""
    shipment = await _ask_to_cancel(database, tombstone)
    if shipment.asked == Asked.CANCEL:
        shipment = await _cancel(database, carrier, shipment)
    return shipment


@transaction
async def _to_book(work: UnitOfWork, wanted: Callable[[], Shipment]) -> Shipment:
    """Raises AlreadyThere."""
    shipment = wanted()
    work.add(shipment)
    return shipment


@transaction
async def _existing(work: UnitOfWork, reference: str) -> Shipment:
    return await _of_reference(work, reference)


@transaction
async def _ask_to_cancel(work: UnitOfWork, tombstone: Callable[[], Shipment]) -> Shipment:
    """Refusal: already_dispatched."""
    shipment, _ = await work.get_or_add(tombstone(), "reference")
    shipment.ask_to_cancel()
    return shipment


@transaction
async def _ask_to_dispatch(work: UnitOfWork, caller: Grant, shipment_id: UUID, seen: int | None) -> Shipment:
    """Refusals: shipment_cancelled, illegal_transition, stale_version, not_found."""
    shipment = await _within_reach(work, shipment_id, caller)
    shipment.require_version(seen)
    shipment.ask_to_dispatch()
    return shipment


@transaction
async def _claim_overdue(work: UnitOfWork, after: timedelta, limit: int) -> list[Shipment]:
    """Parcels whose carrier is to be asked again. The new time keeps others, and the next round, from asking at once."""
    overdue = await work.all(_OVERDUE, before=utc_now() - after, limit=limit)
    for shipment in overdue:
        shipment.ask_again()
    return overdue


async def _cancel(database: Database, carrier: Carrier, shipment: Shipment) -> Shipment:
    try:
        await carrier.cancel(shipment.reference)
    except Refusal as refusal:
        # It left before we asked. That is news to us, if whoever handed it over died before writing it down.
        shipment = await _change(database, shipment, lambda shipment: shipment.dispatched(utc_now()))
        raise shipment.already_dispatched() from refusal
    return await _change(database, shipment, Shipment.cancelled)


async def _dispatch(database: Database, carrier: Carrier, shipment: Shipment) -> Shipment:
    try:
        await carrier.pick_up(shipment.reference)
    except Refusal:
        await _change(database, shipment, Shipment.cancelled)
        raise
    return await _change(database, shipment, lambda shipment: shipment.dispatched(utc_now()))


@transaction
async def _change(work: UnitOfWork, asked: Shipment, change: Callable[[Shipment], Sequence[Event]]) -> Shipment:
    """Write down what the carrier answered about it."""
    shipment = await work.get_again(asked)
    _publish(work, shipment, change(shipment))
    return shipment


def _publish(work: UnitOfWork, shipment: Shipment, events: Sequence[Event]) -> None:
    work.add(*[TrackingEvent.of(shipment.shipment_id, event) for event in events])
    outbox.add(work, *events)


async def _of_reference(work: UnitOfWork, reference: str) -> Shipment:
    """The shipment of a reference that was written down before, locked."""
    shipment = await work.one(_OF_REFERENCE, reference=reference)
    assert shipment is not None  # a row is never deleted
    return shipment


async def _within_reach(work: UnitOfWork, shipment_id: UUID, caller: Grant) -> Shipment:
    """The shipment, locked. Refusal: not_found, also out of the caller's reach."""
    shipment = await work.get(Shipment, shipment_id)
    if shipment is None or not shipment.is_within(caller):
        raise unknown_shipment()
    return shipment
