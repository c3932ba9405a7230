"""Parcels are booked, called off, handed over and delivered.

To book one takes two calls of a carrier with a transaction after each: an offer, whose id is written down before its label is
bought, and the purchase. Whoever comes back to a parcel that is not booked asks what was bought before buying anything.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import bindparam
from sqlmodel import col, select

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked, prepared
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts import shipments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, OrderForgotten
from contracts.shipments import (
    CancelReturnLabel,
    CancelShipment,
    CreateReturnLabel,
    CreateShipment,
    ShipmentLine,
    ShipmentStatus,
)
from services.shipping.model import LabelPicture, Package, Shipment, TrackingEvent, outbox, unknown_shipment
from services.shipping.model.choosing import Offered, choose
from services.shipping.ports import Label, Rate
from services.shipping.sending import Sending

ASK_AFTER = timedelta(hours=6)
"""A package of which the carrier has told nothing for so long is asked about."""
MOST_RATES_TRIED = 3
"""So many rates of a package that cannot be bought after all; then it waits for the next try of its step."""
log = logger(__name__)
_KNOWN = prepared(select(col(Shipment.shipment_id)).where(col(Shipment.reference) == bindparam("reference")))
_OF_REFERENCE = locked(Shipment, col(Shipment.reference) == bindparam("reference"))
_OF_ORDER = locked(Shipment, col(Shipment.order_id) == bindparam("order"))
PACKAGES_OF = locked(Package, col(Package.shipment_id) == bindparam("shipment"))
_PICTURE_OF = locked(LabelPicture, col(LabelPicture.package_id) == bindparam("package"))


@dataclass(frozen=True)
class Parcel:
    """A parcel with its packages."""

    shipment: Shipment
    packages: Sequence[Package]

    @property
    def is_offered(self) -> bool:
        return all(package.provider_id for package in self.packages)


async def create_shipment(database: Database, sending: Sending, command: CreateShipment) -> contract.Shipment:
    """Book a parcel of an order. Refusals: address_undeliverable, parcel_too_heavy, warehouse_unknown, shipment_cancelled.
    Raises Unavailable."""
    return (await _create(database, sending, lambda: _new(sending, Shipment.to_book(command), command.lines))).reply()


async def create_return_label(database: Database, sending: Sending, command: CreateReturnLabel) -> contract.ReturnLabel:
    """Book the parcel in which a return comes back. Refusals: address_undeliverable, parcel_too_heavy, warehouse_unknown,
    shipment_cancelled. Raises Unavailable."""
    return (await _create(database, sending, lambda: _new(sending, Shipment.label_to_book(command), ()))).label_reply()


async def cancel_shipment(database: Database, command: CancelShipment) -> contract.Shipment:
    """Undo of create, also of one that has not arrived yet. Refusal: already_dispatched."""
    return (await _cancel(database, lambda: Shipment.tombstone(command))).reply()


async def cancel_return_label(database: Database, command: CancelReturnLabel) -> contract.ReturnLabel:
    """Undo of create, also of one that has not arrived yet. Refusal: already_dispatched."""
    return (await _cancel(database, lambda: Shipment.label_tombstone(command))).label_reply()


@transaction
async def dispatch_shipment(work: UnitOfWork, caller: Grant, shipment_id: UUID, seen: int | None = None) -> Shipment:
    """The parcel is handed over, says a person who knows its version `seen`.

    Refusals: shipment_cancelled, illegal_transition, stale_version, not_found."""
    shipment = await _within_reach(work, shipment_id, caller)
    shipment.require_version(seen)
    await publish(work, shipment, shipment.dispatch())
    return shipment


@transaction
async def deliver_shipment(work: UnitOfWork, caller: Grant, shipment_id: UUID, seen: int | None = None) -> Shipment:
    """The parcel arrived, says a person who knows its version `seen`. Refusals: illegal_transition, stale_version, not_found."""
    shipment = await _within_reach(work, shipment_id, caller)
    shipment.require_version(seen)
    await publish(work, shipment, shipment.delivered(utc_now()))
    return shipment


async def forget_order(work: UnitOfWork, event: OrderForgotten) -> None:
    """Within the consumer's transaction: blank where the parcels of an order went, and its returns were fetched."""
    for shipment in await work.all(_OF_ORDER, order=event.order_id):
        shipment.forget_person()
        for package in await work.all(PACKAGES_OF, shipment=shipment.shipment_id):
            package.forget_person()
            await work.delete(*await work.all(_PICTURE_OF, package=package.package_id))


def ask_after(sending: Sending, package: Package) -> timedelta | None:
    """How long its carrier may be silent before it is asked where the package is; None: it never knows."""
    return ASK_AFTER if sending.carrier(package.carrier or "").capabilities.tracks else None


async def publish(work: UnitOfWork, shipment: Shipment, events: Sequence[Event]) -> None:
    """Tell of what happened to a parcel: in its history, and to other services.

    Parcels of one order have a row each, and their events are in one order: who tells of one waits for who tells of another. An
    order that had one parcel may get others later; while its first is being booked there are none."""
    is_alone = shipment.parcel == shipment.parcels == 1 and shipment.status is ShipmentStatus.BOOKED
    if events and not is_alone:
        await work.lock(f"events of order {shipment.order_id}")
    work.add(*[TrackingEvent.of(shipment.shipment_id, event) for event in events])
    outbox.add(work, *events)


def _new(sending: Sending, shipment: Shipment, lines: Sequence[ShipmentLine]) -> Parcel:
    return Parcel(shipment, shipment.packed(lines, sending.boxes))


async def _create(database: Database, sending: Sending, wanted: Callable[[], Parcel]) -> Shipment:
    """Book a parcel, once. `wanted` makes its rows. Refusals: what it was refused for, shipment_cancelled. Raises Unavailable."""
    new = wanted()
    is_new = not await database.rows(_KNOWN, reference=new.shipment.reference)
    parcel = new if is_new else await _existing(database, new.shipment.reference)
    if parcel.shipment.status == ShipmentStatus.PENDING and not parcel.is_offered:
        parcel, is_new = await _get_offers(database, sending, parcel, is_new=is_new)
    elif is_new:
        parcel, is_new = await _add(database, parcel)  # it was refused before anybody was asked
    parcel.shipment.require_not_undone()
    if parcel.shipment.status != ShipmentStatus.PENDING:
        return parcel.shipment
    return await _buy(database, sending, parcel, is_new=is_new)


async def _get_offers(database: Database, sending: Sending, parcel: Parcel, *, is_new: bool) -> tuple[Parcel, bool]:
    """The parcel with offers for its packages, written down; and whether nobody else can have bought any of them."""
    shipment = parcel.shipment
    try:
        warehouse = sending.place_of(shipment.warehouse_id)
        offers = await sending.offered_all(
            [shipment.consignment(package, warehouse) for package in parcel.packages], shipment.promised_days, shipment.created_at
        )
    except Unavailable:
        if is_new:
            await _add(database, parcel)  # so that it is known since when it waits
        raise
    except Refusal as refusal:
        if not is_new:
            return await _refused(database, parcel, refusal), False
        shipment.refused(refusal)
        return await _add(database, parcel)
    if not is_new:
        return await _write_offers(database, parcel, offers), False
    for package, offered in zip(parcel.packages, offers, strict=True):
        package.offered(offered)
    return await _add(database, parcel)


async def _add(database: Database, parcel: Parcel) -> tuple[Parcel, bool]:
    """The parcel as it is in the database now, and whether it was added."""
    try:
        return await _insert(database, parcel), True
    except AlreadyThere:
        return await _existing(database, parcel.shipment.reference), False


@dataclass(frozen=True)
class Purchase:
    """What came of an attempt to buy a package's label."""

    label: Label | None
    refused: Sequence[Rate] = ()
    """Rates that could not be bought."""


async def _buy(database: Database, sending: Sending, parcel: Parcel, *, is_new: bool) -> Shipment:
    """Buy the labels of all packages. `is_new`: nothing can have been bought yet. Refusals and Unavailable as `_create`."""
    buying = [_buy_one(sending, parcel.shipment, package, is_new=is_new) for package in parcel.packages]
    answers = await asyncio.gather(*buying, return_exceptions=True)
    bought = [None if isinstance(answer, BaseException) else answer for answer in answers]
    parcel = await _write_purchases(database, sending, parcel, bought)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    parcel.shipment.require_not_undone()
    if parcel.shipment.status == ShipmentStatus.PENDING:
        raise Unavailable("rates that were offered cannot be bought; others are tried next")
    return parcel.shipment


async def _buy_one(sending: Sending, shipment: Shipment, package: Package, *, is_new: bool) -> Purchase:
    """Raises Unavailable."""
    if package.is_bought:
        return Purchase(None)
    assert package.carrier is not None  # it is offered
    assert package.provider_id is not None
    carrier = sending.carrier(package.carrier)
    if not is_new and (label := await carrier.find(package.provider_id)):
        return Purchase(label)
    refused: list[Rate] = []
    rate = package.next_rate
    while rate is not None and len(refused) < MOST_RATES_TRIED:
        try:
            return Purchase(await carrier.buy(package.provider_id, rate), refused)
        except Refusal as refusal:
            # That it was bought before is one of the reasons.
            if label := await carrier.find(package.provider_id):
                return Purchase(label, refused)
            log.warning("rate_not_bought", reference=package.reference, service=rate.service, answer=refusal.detail)
            refused.append(rate)
        left = [other for other in package.buyable if other not in refused]
        choice = choose(left, shipment.service, shipment.promised_days, sending.preference)
        rate = choice.rate if choice else None
    return Purchase(None, refused)


@transaction
async def _insert(work: UnitOfWork, parcel: Parcel) -> Parcel:
    """Raises AlreadyThere."""
    work.add(parcel.shipment, *parcel.packages)
    return parcel


@transaction
async def _existing(work: UnitOfWork, reference: str) -> Parcel:
    """A parcel that was written down before."""
    shipment = await work.one(_OF_REFERENCE, reference=reference)
    assert shipment is not None  # a row is never deleted
    return Parcel(shipment, await work.all(PACKAGES_OF, shipment=shipment.shipment_id))


@transaction
async def _write_offers(work: UnitOfWork, parcel: Parcel, offers: Sequence[Offered]) -> Parcel:
    """Unless it was called off meanwhile: of that nothing may be bought."""
    shipment = await work.get_again(parcel.shipment)
    packages = [await work.get_again(package) for package in parcel.packages]
    if shipment.status == ShipmentStatus.PENDING:
        for package, offered in zip(packages, offers, strict=True):
            package.offered(offered)
    return Parcel(shipment, packages)


@transaction
async def _refused(work: UnitOfWork, parcel: Parcel, refusal: Refusal) -> Parcel:
    shipment = await work.get_again(parcel.shipment)
    packages = [await work.get_again(package) for package in parcel.packages]
    _refuse(shipment, packages, refusal)
    return Parcel(shipment, packages)


@transaction
async def _write_purchases(work: UnitOfWork, sending: Sending, parcel: Parcel, purchases: Sequence[Purchase | None]) -> Parcel:
    """What was bought, also if the parcel was called off meanwhile: then its money is owed to us."""
    shipment = await work.get_again(parcel.shipment)
    packages = [await work.get_again(package) for package in parcel.packages]
    for package, purchase in zip(packages, purchases, strict=True):
        if purchase is not None:
            package.purchased(purchase.label, purchase.refused, ask_after=ask_after(sending, package))
    if any(not package.is_bought and not package.buyable for package in packages):
        _refuse(shipment, packages, Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "No carrier takes it there after all."))
    elif all(package.is_bought for package in packages):
        await publish(work, shipment, shipment.booked(packages))
    return Parcel(shipment, packages)


@transaction
async def _cancel(work: UnitOfWork, tombstone: Callable[[], Shipment]) -> Shipment:
    """Refusal: already_dispatched."""
    shipment, is_new = await work.get_or_add(tombstone(), "reference")
    if not is_new:
        await publish(work, shipment, shipment.cancel())
        for package in await work.all(PACKAGES_OF, shipment=shipment.shipment_id):
            package.not_needed()
    return shipment


def _refuse(shipment: Shipment, packages: Sequence[Package], refusal: Refusal) -> None:
    shipment.refused(refusal)
    if shipment.status == ShipmentStatus.REFUSED:
        for package in packages:
            package.not_needed()


async def _within_reach(work: UnitOfWork, shipment_id: UUID, caller: Grant) -> Shipment:
    """The shipment, locked. Refusal: not_found, also out of the caller's reach."""
    shipment = await work.get(Shipment, shipment_id)
    if shipment is None or not shipment.is_within(caller):
        raise unknown_shipment()
    return shipment
