"""What the provider tells without being asked. Each piece of news has its effect once, in whatever order it comes, and how often.

What fits at once is applied by the webhook itself, in one transaction. What does not, because the answer to a call that caused it
is not recorded yet, waits; a job tries it again, asks the provider where the charge is, and puts it on the list of what is
unmatched after a time.
"""

from datetime import timedelta
from uuid import UUID, uuid5

from sqlalchemy import Integer, bindparam
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from contracts.errors import Refusal
from contracts.payments import MovementKind, PaymentStatus
from services.payment.commands.payments import movements_of, payment_of_charge, record, settle_what_banks_gave
from services.payment.model import Debt, Dispute, LedgerMismatch, NewsItem, NewsState, Payment, agree, inbox, outbox
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
_WHERE_IT_IS = prepared(
    select(
        col(Payment.status),
        col(Payment.captured_minor),
        (col(Payment.authorized_minor) - col(Payment.captured_minor) - col(Payment.voided_minor)).label("held_minor"),
    ).where(col(Payment.provider_id) == bindparam("charge"))
)
_HAS_MONEY = frozenset({ProviderStatus.AUTHORIZED, ProviderStatus.CAPTURED})
_HAS_NONE = frozenset({ProviderStatus.VOIDED, ProviderStatus.REFUNDED, ProviderStatus.DECLINED, DisputeState.WON})
log = logger(__name__)


async def apply_news(database: Database, news: ProviderNews) -> bool:
    """Do what a webhook tells, or keep it until it can be done. Returns whether it has to wait.

    Most of them tell what the answer to a call has told, or is about to tell: that is seen without writing anything."""
    if news.kind == NewsKind.CHARGE and await _is_known(database, news):
        return False
    return await _apply_or_keep(database, news)


async def _is_known(database: Database, news: ProviderNews) -> bool:
    """Whether news of a charge has no more to say: our books say the same, or the call is under way whose answer will."""
    rows = await database.rows(_WHERE_IT_IS, charge=news.charge_id)
    for status, captured_minor, held_minor in rows:
        ours = PaymentStatus(status)
        is_same = agree(ours, captured_minor, held_minor, ProviderStatus(news.state), news.amount.minor)
        return ours == PaymentStatus.INITIATED or is_same
    return False


@transaction
async def _apply_or_keep(work: UnitOfWork, news: ProviderNews) -> bool:
    if not await inbox.claim(work, [uuid5(_NEWS, news.id)]):
        return False
    if await _apply(work, news):
        return False
    work.add_missing(NewsItem.of(news))
    log.info("provider_news_waits", kind=news.kind, status=news.state, charge=news.charge_id)
    return True


async def look_again(database: Database, provider: PaymentProvider, charge_id: str) -> PaymentStatus | None:
    """Ask the provider where a charge is whose customer had to do something, and bring our books there. Returns the status of
    its payment then; None if there is none. Raises Unavailable."""
    for status, _, _ in await database.rows(_WHERE_IT_IS, charge=charge_id):
        if PaymentStatus(status) != PaymentStatus.ACTION_REQUIRED:
            return PaymentStatus(status)
        return await _bring(database, charge_id, await provider.look(charge_id))
    return None


@transaction
async def _bring(work: UnitOfWork, charge_id: str, seen: ProviderCharge) -> PaymentStatus | None:
    """Raises LedgerMismatch."""
    payment = await payment_of_charge(work, charge_id)
    if payment is None:
        return None
    await record(work, payment, payment.settle_seen(await movements_of(work, payment), seen))
    return payment.status


async def settle_news(
    database: Database, provider: PaymentProvider, *, give_up_after: timedelta = GIVE_UP_AFTER, limit: int = 20
) -> int:
    """Try again what waits, and ask the provider where its charge is; returns how many pieces of news that were."""
    items = await _claim(database, limit)
    for item in items:
        try:
            await _settle(database, provider, item, give_up_after)
        except (Refusal, Unavailable, LedgerMismatch) as error:
            log.warning("provider_news_not_settled", news_id=item.news_id, charge=item.charge_id, error=str(error))
    return len(items)


async def _settle(database: Database, provider: PaymentProvider, item: NewsItem, give_up_after: timedelta) -> None:
    if await _apply_kept(database, item):
        return
    if await database.rows(_WHERE_IT_IS, charge=item.charge_id):
        if await _record_seen(database, item, await provider.look(item.charge_id)):
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
async def _record_seen(work: UnitOfWork, kept: NewsItem, seen: ProviderCharge) -> bool:
    """Bring our books to where the provider says that the charge is. Returns whether news of the charge has no more to say then.
    Raises LedgerMismatch."""
    payment, item = await payment_of_charge(work, kept.charge_id), await work.get_again(kept)
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
    log.warning("provider_news_unmatched", news_id=item.news_id, kind=item.kind, status=item.told, charge=item.charge_id)
    is_known = await payment_of_charge(work, item.charge_id) is not None
    if item.kind == NewsKind.CHARGE and (is_known or item.told not in _HAS_MONEY | _HAS_NONE):
        return  # where a charge of ours is, the next answer or the next news tells
    debt, _ = await work.get_or_add(Debt.of_unmatched(item), "kind", "subject")
    if item.told in _HAS_NONE:
        debt.settled(f"{item.kind} {item.told}")


async def _apply(work: UnitOfWork, news: ProviderNews) -> bool:
    """Whether it has had its effect, or needs none."""
    payment = await payment_of_charge(work, news.charge_id)
    if payment is None:
        return False
    if news.kind == NewsKind.REFUND:
        return await _apply_refund(work, payment, news)
    if news.kind == NewsKind.DISPUTE:
        return await _apply_dispute(work, payment, news)
    return payment.status == PaymentStatus.INITIATED or payment.agrees(ProviderStatus(news.state), news.amount)


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
        await settle_what_banks_gave(work, payment)
    return True
