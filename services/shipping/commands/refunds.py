"""The money of labels that are not needed any more."""

from prometheus_client import Counter
from sqlalchemy import Integer, bindparam
from sqlmodel import col

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.errors import Refusal
from services.shipping.model import LabelRefund, Package
from services.shipping.model.package import next_time
from services.shipping.ports import Label, RefundState
from services.shipping.sending import Sending

log = logger(__name__)
rejected_total = Counter("label_refunds_rejected_total", "Labels that were not used, and whose money the carrier keeps.")
_OPEN = locked(
    Package,
    col(Package.refund_at) <= bindparam("now"),
    order_by=col(Package.refund_at),
    limit=bindparam("limit", type_=Integer),
    skip_locked=True,
)


async def settle_refunds(database: Database, sending: Sending, *, limit: int = 20) -> int:
    """Ask for the money of labels that are not needed, and what became of it. Returns how many were asked about."""
    claimed = await _claim(database, limit)
    for package in claimed:
        try:
            label, state = await _ask(sending, package)
            await _write(database, package, label, state)
        except (Refusal, Unavailable) as error:
            log.info("refund_asked_in_vain", reference=package.reference, answer=str(error))
    return len(claimed)


async def _ask(sending: Sending, package: Package) -> tuple[Label | None, RefundState | None]:
    """The label, if it was bought, and what becomes of its money. Raises Unavailable."""
    carrier, provider_id = sending.carrier(package.carrier or ""), package.provider_id or ""
    if not carrier.capabilities.refunds:
        return None, RefundState.NOT_APPLICABLE
    label = await carrier.find(provider_id)
    if label is None:
        return None, None
    return label, label.refund or await carrier.refund(provider_id)


@transaction
async def _claim(work: UnitOfWork, limit: int) -> list[Package]:
    """Those whose time has come. The new time keeps others, and the next round, from asking at once."""
    now = utc_now()
    packages = await work.all(_OPEN, now=now, limit=limit)
    for package in packages:
        package.refund_at = next_time(package.refund_since or now, now)
    return packages


@transaction
async def _write(work: UnitOfWork, claimed: Package, label: Label | None, state: RefundState | None) -> None:
    package = await work.get_again(claimed)
    package.purchased(label, ask_after=None)
    package.refund_asked(state)
    if package.refund == LabelRefund.REJECTED:
        work.when_committed(rejected_total.inc)
        log.error("label_refund_rejected", reference=package.reference)
