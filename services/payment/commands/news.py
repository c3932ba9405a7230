"""What the provider tells without being asked. Each piece of news has its effect once, in whatever order it comes, and how often.

What fits at once is applied by the webhook itself, in one transaction. What does not, because the answer to a call that caused it
is not recorded yet, waits; a job tries it again, asks the provider where the charge is, and puts it on the list of what is
unmatched after a time.
"""

from datetime import timedelta
from uuid import UUID, uuid5

from sqlalchemy import Integer, bindparam
from sqlmodel import col

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.errors import Refusal
from contracts.ids import payment_reference
from contracts.payments import MovementKind
from services.payment.commands.payments import movements_of, payment_of, record
from services.payment.model import Debt, Dispute, LedgerMismatch, NewsItem, NewsState, Payment, inbox, outbox
from services.payment.ports import (
    DisputeState,
    NewsKind,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderNews,
    ProviderStatus,
)

GIVE_UP_AFTER = timedelta(minutes=5)
"""News that fits nothing for so long is unmatched: a payment is written down before the provider hears of it."""
_NEWS = UUID("c1a3b8d2-5d0a-5f64-9a2e-7a4f0c9e8b31")
"""Namespace of the inbox ids of the provider's news."""
_DUE = locked(
    NewsItem,
    (col(NewsItem.state) == NewsState.WAITING) & (col(NewsItem.look_at) <= bindparam("now")),
    order_by=col(NewsItem.look_at),
    limit=bindparam("limit", type_=Integer),
    skip_locked=True,
)
_HAS_MONEY = frozenset({ProviderStatus.AUTHORIZED, ProviderStatus.CAPTURED})
_HAS_NONE = frozenset({ProviderStatus.VOIDED, ProviderStatus.REFUNDED, ProviderStatus.DECLINED, DisputeState.WON})
log = logger(__name__)


@transaction
async def apply_news(work: UnitOfWork, news: ProviderNews) -> None:
    """Do what a webhook tells, or keep it until it can be done."""
    if not await inbox.claim(work, [uuid5(_NEWS, news.id)]):
        return
    if not await _apply(work, news):
        work.add_missing(NewsItem.of(news))
        log.info("provider_news_waits", kind=news.kind, status=news.state, reference=news.reference)


async def settle_news(
    database: Database, provider: PaymentProvider, *, give_up_after: timedelta = GIVE_UP_AFTER, limit: int = 20
) -> int:
    """Try again what waits, and ask the provider where its charge is; returns how many pieces of news that were."""
    items = await _claim(database, limit)
    for item in items:
        try:
            await _settle(database, provider, item, give_up_after)
        except (Refusal, Unavailable, LedgerMismatch) as error:
            log.warning("provider_news_not_settled", news_id=item.news_id, reference=item.reference, error=str(error))
    return len(items)


async def _settle(database: Database, provider: PaymentProvider, item: NewsItem, give_up_after: timedelta) -> None:
    if await _apply_kept(database, item):
        return
    if attempt := _attempt_of(item.reference):
        seen = await provider.look(payment_reference(*attempt))
        if seen is not None and await _record_seen(database, item, attempt, seen):
            return
        if await _apply_kept(database, item):
            return
    if item.is_old(give_up_after):
        await _give_up(database, item)


@transaction
async def _claim(work: UnitOfWork, limit: int) -> list[NewsItem]:
    items = await work.all(_DUE, now=utc_now(), limit=limit)
    for item in items:
        item.taken_up()
    return items


@transaction
async def _apply_kept(work: UnitOfWork, kept: NewsItem) -> bool:
    item = await work.get_again(kept)
    if item.state == NewsState.WAITING and await _apply(work, item.as_told):
        item.state = NewsState.APPLIED
    return item.state != NewsState.WAITING


@transaction
async def _record_seen(work: UnitOfWork, kept: NewsItem, attempt: tuple[UUID, int], seen: ProviderCharge) -> bool:
    """Bring our books to where the provider says that the charge is. Returns whether news of the charge has no more to say then.
    Raises LedgerMismatch."""
    payment, item = await payment_of(work, *attempt), await work.get_again(kept)
    if payment is None:
        return False
    await record(work, payment, payment.settle_seen(await movements_of(work, payment), seen))
    if item.kind == NewsKind.CHARGE and payment.agrees(seen.status, seen.captured or item.as_told.amount):
        item.state = NewsState.APPLIED
        return True
    return False


@transaction
async def _give_up(work: UnitOfWork, kept: NewsItem) -> None:
    """Nobody here knows what it is of: a person has to look, if there is money in it."""
    item = await work.get_again(kept)
    item.state = NewsState.UNMATCHED
    log.warning("provider_news_unmatched", news_id=item.news_id, kind=item.kind, status=item.told, reference=item.reference)
    attempt = _attempt_of(item.reference)
    is_known = attempt is not None and await payment_of(work, *attempt) is not None
    if item.kind == NewsKind.CHARGE and (is_known or item.told not in _HAS_MONEY | _HAS_NONE):
        return  # where a charge of ours is, the next answer or the next news tells
    debt, _ = await work.get_or_add(Debt.of_unmatched(item), "kind", "subject")
    if item.told in _HAS_NONE:
        debt.settled(f"{item.kind} {item.told}")


async def _apply(work: UnitOfWork, news: ProviderNews) -> bool:
    """Whether it has had its effect, or needs none."""
    attempt = _attempt_of(news.reference)
    payment = await payment_of(work, *attempt) if attempt else None
    if payment is None:
        return False
    if news.kind == NewsKind.REFUND:
        return await _apply_refund(work, payment, news)
    if news.kind == NewsKind.DISPUTE:
        return await _apply_dispute(work, payment, news)
    return payment.agrees(ProviderStatus(news.state), news.amount)


async def _apply_refund(work: UnitOfWork, payment: Payment, news: ProviderNews) -> bool:
    said = ProviderMovement(news.movement_id, ProviderMovementState(news.state), news.amount, news.reason)
    refunds = [row for row in await movements_of(work, payment) if row.kind == MovementKind.REFUND]
    known = [row for row in refunds if row.provider_id == news.movement_id]
    # As long as no answer has told the provider's name for it, it is found by ours.
    movement = next(iter(known or [row for row in refunds if row.key == news.key and row.is_unanswered]), None)
    if movement is not None:
        if movement.amount != news.amount:
            return False
        await record(work, payment, payment.settle_refund(movement, said))
        return True
    if news.key is not None:  # one of ours, whose answer is not recorded yet
        return False
    change = payment.made_at_provider(said)
    if change is None:
        return False
    await record(work, payment, change)
    return True


async def _apply_dispute(work: UnitOfWork, payment: Payment, news: ProviderNews) -> bool:
    if news.movement_id is None or news.amount.currency != payment.currency:
        return False
    dispute, is_new = await work.get_or_add(Dispute.told(payment, news), "provider_id")
    if is_new:
        outbox.add(work, dispute.opened())
    closed = dispute.decided(news)
    outbox.add(work, *closed)
    if closed and dispute.state == DisputeState.LOST:
        await work.get_or_add(Debt.of_dispute(payment, dispute), "kind", "subject")
    return True


def _attempt_of(reference: str | None) -> tuple[UUID, int] | None:
    """The order and the attempt that a reference at the provider names; None if it is none of ours."""
    order, _, number = (reference or "").rpartition("-")
    if not (number.isascii() and number.isdigit() and len(number) <= 2):
        return None
    try:
        found = UUID(order), int(number)
    except ValueError:
        return None
    return found if payment_reference(*found) == reference else None
