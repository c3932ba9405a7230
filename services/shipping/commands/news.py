"""What carriers tell of packages: by webhooks, or, where those were lost, because they are asked."""

from uuid import UUID, uuid5

from prometheus_client import Counter
from sqlalchemy import Integer, bindparam, or_
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from contracts.errors import Refusal
from services.shipping.commands.parcels import ASK_AFTER, PACKAGES_OF, publish
from services.shipping.model import Package, Shipment, TrackingEvent, inbox
from services.shipping.ports import News, RefundNews, TrackerNews
from services.shipping.sending import Sending

CARRIER_NEWS = UUID("3b0f2a4e-8a53-5f0e-9a56-5d1c1a7f6f2b")
"""Namespace of the inbox ids of carrier news."""
log = logger(__name__)
strayed_total = Counter("parcels_strayed_total", "Parcels that were called off, and that a carrier has all the same.")
_OF_PROVIDER = prepared(
    select(col(Package.shipment_id), col(Package.package_id))
    .where(or_(col(Package.provider_id) == bindparam("provider_id"), col(Package.tracking_number) == bindparam("number")))
    .order_by((col(Package.provider_id) == bindparam("provider_id")).desc(), col(Package.package_id).desc())
    .limit(1)
)
"""Carriers use their numbers again after some years: the latest package is meant, unless its own id is told."""
_SILENT = locked(
    Package,
    col(Package.ask_at) <= bindparam("now"),
    order_by=col(Package.ask_at),
    limit=bindparam("limit", type_=Integer),
    skip_locked=True,
)


@transaction
async def apply_carrier_news(work: UnitOfWork, news: News) -> None:
    """The carrier tells of a package. Told twice, or late, it moves nothing; of one that is not ours, it is ignored."""
    number = news.tracking_number if isinstance(news, TrackerNews) else None
    found = await work.rows(_OF_PROVIDER, provider_id=news.provider_id, number=number)
    if not found:
        log.warning("carrier_news_of_unknown_parcel", provider_id=news.provider_id)
        return
    if not await inbox.claim(work, [uuid5(CARRIER_NEWS, news.id)]):
        return
    shipment = await work.get(Shipment, found[0]["shipment_id"])
    assert shipment is not None  # a row is never deleted
    packages = await work.all(PACKAGES_OF, shipment=shipment.shipment_id)
    package = next(each for each in packages if each.package_id == found[0]["package_id"])
    if isinstance(news, RefundNews):
        package.refund_asked(news.state)
        return
    was_strayed = shipment.strayed
    is_later = package.told(news, ask_after=ASK_AFTER)
    events = shipment.reported(packages, news.occurred_at) if is_later else []
    await publish(work, shipment, events)
    if not events:
        work.add(TrackingEvent(shipment_id=shipment.shipment_id, status=news.word[:40], occurred_at=news.occurred_at))
        log.info("carrier_news_changes_nothing", reference=package.reference, word=news.word, shipment_status=shipment.status)
    if shipment.strayed and not was_strayed:
        work.when_committed(strayed_total.inc)
        log.error("parcel_strayed", reference=package.reference, word=news.word)


async def ask_about_silent(database: Database, sending: Sending, *, limit: int = 20) -> int:
    """Ask about packages of which nothing was heard for long: their news was lost. Returns how many that were."""
    silent = await _claim_silent(database, limit)
    for package in silent:
        try:
            carrier = sending.carrier(package.carrier or "")
            news = await carrier.track(package.provider_id or "")
            if news is not None and (package.reported_at is None or news.occurred_at > package.reported_at):
                await apply_carrier_news(database, news)
        except (Refusal, Unavailable) as error:
            log.info("carrier_asked_in_vain", reference=package.reference, answer=str(error))
    return len(silent)


@transaction
async def _claim_silent(work: UnitOfWork, limit: int) -> list[Package]:
    """Those whose time has come. The new time keeps others, and the next round, from asking at once."""
    silent = await work.all(_SILENT, now=utc_now(), limit=limit)
    for package in silent:
        package.asked_where(ask_after=ASK_AFTER)
    return silent
