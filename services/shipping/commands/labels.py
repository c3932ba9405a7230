"""Labels are fetched from their carrier once, and kept."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Integer, bindparam
from sqlmodel import col

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.shipments import Direction, ShipmentStatus
from services.shipping.commands.parcels import PACKAGES_OF
from services.shipping.model import LabelPicture, Package, Shipment, unknown_shipment
from services.shipping.model.package import next_time
from services.shipping.ports import Picture
from services.shipping.sending import Sending

log = logger(__name__)
_TO_FETCH = locked(
    Package,
    col(Package.label_at) <= bindparam("now"),
    order_by=col(Package.label_at),
    limit=bindparam("limit", type_=Integer),
    skip_locked=True,
)


async def fetch_labels(database: Database, sending: Sending, *, limit: int = 20) -> int:
    """Fetch labels that were bought and are not here yet, and keep them together. Returns how many that were."""
    to_fetch = await _claim(database, limit)
    fetched: list[tuple[Package, Picture]] = []
    try:
        for shipment, package in to_fetch:
            try:
                fetched.append((package, await _fetch(sending, shipment, package)))
            except (Refusal, Unavailable) as error:
                log.info("label_fetched_in_vain", reference=package.reference, answer=str(error))
    finally:  # whatever is wrong with one, the others are here
        if fetched:
            await _keep(database, fetched)
    return len(to_fetch)


async def label_of(database: Database, sending: Sending, caller: Grant, shipment_id: UUID, number: int) -> Picture:
    """The label of one of a parcel's packages; fetched now, if that has not been done yet. A customer has that of a return.

    Refusals: not_found, conflict, shipment_cancelled. Raises Unavailable."""
    shipment, package, kept = await _kept(database, caller, shipment_id, number)
    if kept is not None:
        return Picture(kept.content_type, kept.content)
    picture = await _fetch(sending, shipment, package)
    await _keep(database, [(package, picture)])
    return picture


async def _fetch(sending: Sending, shipment: Shipment, package: Package) -> Picture:
    assert package.label is not None  # it was bought
    carrier = sending.carrier(package.carrier or "")
    warehouse = sending.place_of(shipment.warehouse_id)
    return await carrier.picture(shipment.consignment(package, warehouse), package.label)


@transaction
async def _claim(work: UnitOfWork, limit: int) -> list[tuple[Shipment, Package]]:
    """Those whose time has come. The new time keeps others, and the next round, from fetching at once."""
    now = utc_now()
    packages = await work.all(_TO_FETCH, now=now, limit=limit)
    read = await work.read_all(Shipment, {package.shipment_id for package in packages})
    shipments = {shipment.shipment_id: shipment for shipment in read}
    for package in packages:
        package.label_at = next_time(shipments[package.shipment_id].created_at, now)
    return [(shipments[package.shipment_id], package) for package in packages]


@transaction
async def _kept(work: UnitOfWork, caller: Grant, shipment_id: UUID, number: int) -> tuple[Shipment, Package, LabelPicture | None]:
    """Refusals: not_found, conflict, shipment_cancelled."""
    shipment = await work.read(Shipment, shipment_id)
    if shipment is None or not shipment.is_within(caller):
        raise unknown_shipment()
    if not caller.is_staff and shipment.direction != Direction.INBOUND:
        raise Refusal(ErrorCode.CONFLICT, "This label is for the warehouse; there is one for you if you send something back.")
    if shipment.status == ShipmentStatus.CANCELLED:
        raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "The shipment was cancelled: its label must not be used.")
    packages = await work.all(PACKAGES_OF, shipment=shipment_id)
    package = next((each for each in packages if each.number == number), None)
    if package is None or package.label is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no label.")
    kept = await work.read(LabelPicture, package.package_id)
    if kept is None and package.label_at is None:
        raise Refusal(ErrorCode.NOT_FOUND, "The label was deleted: its customer was forgotten.")
    return shipment, package, kept


@transaction
async def _keep(work: UnitOfWork, fetched: Sequence[tuple[Package, Picture]]) -> None:
    """Unless the parcel was called off, or its customer forgotten, meanwhile."""
    packages = [await work.get_again(package) for package, _ in fetched]
    for package, (_, picture) in zip(packages, fetched, strict=True):
        if package.label_at is not None:
            package.label_at = None
            work.add_missing(LabelPicture.of(package.package_id, picture))
