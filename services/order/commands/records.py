"""The order's record: that it was accepted, what its saga tells, and what its saga is still to be told. One transaction each."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import and_, bindparam
from sqlmodel import col

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.statements import NOT_ALL, Write, locked
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.orders import (
    AdvanceOrder,
    CancelRequest,
    OrderAdvanced,
    OrderProgress,
    OrderStatus,
    PlaceOrder,
)
from services.order import figures
from services.order.commands.amendment_records import answer_amendment
from services.order.commands.discounts import REDEMPTIONS_OF, STANDINGS, USES, standings_in
from services.order.model import (
    DiscountUses,
    Order,
    Redemption,
    created,
    existing,
    idempotency,
    outbox,
    within_reach,
)
from services.order.model.discounts import codes_of, discounts_of, give_back, redeem

HAND_OVER_BATCH = 50
HELD_UP_BATCH = 100
LEASE = timedelta(seconds=10)
"""How long one process has to hand over what it took; after that another may try. To hand over twice is harmless."""
_ASKED, _NOT_DUE = "asked", "payment_not_due"
"""What is kept of a request to pay: that it came; that no payment was due."""
_TO_HAND_OVER = locked(
    Order,
    col(Order.hand_over_at) <= bindparam("now"),
    order_by=col(Order.hand_over_at),
    limit=HAND_OVER_BATCH,
    skip_locked=True,
)
_HELD_UP = locked(
    Order,
    and_(
        col(Order.status) == OrderStatus.PENDING,
        col(Order.placed_at) <= bindparam("before"),
        col(Order.held_up_at).is_(None),
        col(Order.cancel_wish).is_(None),
    ),
    order_by=col(Order.placed_at),
    limit=HELD_UP_BATCH,
    skip_locked=True,
)
_TAKES_ORDERS = """
    select 1 from (
      select count(forget_requested_at) as wishes
      from (select forget_requested_at from customer_keys where customer_id = $1 for share) as key) as asked
    where 1 / (wishes = 0)::int = 1"""
"""Fails for a customer who is to be forgotten. Whoever wants that waits for this, or this for them: each has an answer."""


async def find_order(database: Database, order_id: UUID) -> Order | None:
    """The order's row, whoever asks."""
    async with database.reading() as session:
        return await session.get(Order, order_id)


async def order_for(database: Database, order_id: UUID, caller: Grant) -> Order:
    """The order's row, if it is within the caller's reach. Refusal: not_found."""
    return within_reach(await find_order(database, order_id), caller)


async def _yes(work: UnitOfWork) -> None:
    """Anybody may order."""


async def accept_order(
    database: Database,
    placement: PlaceOrder,
    codes: Sequence[str] = (),
    *,
    allowed: Callable[[UnitOfWork], Awaitable[None]] = _yes,
) -> Order:
    """Write a new order down. Of two requests at once under one key the later one gets the order of the earlier.

    `codes`: the discount codes of the request, in its sequence. `allowed`: raises a refusal, in the same transaction, if there
    may be no such order. Refusals: customer_forgotten, discount_refused, and those of `allowed`."""
    try:
        return await _add_order(database, placement, codes, allowed)
    except AlreadyThere:
        return existing(await find_order(database, placement.order_id))
    except NOT_ALL as error:
        if before := await find_order(database, placement.order_id):
            return before
        raise Refusal(ErrorCode.CUSTOMER_FORGOTTEN, "The account has ended; nothing is ordered with it any more.") from error
    except Refusal:
        # The use that was the last one may have been the order's own.
        if before := await find_order(database, placement.order_id):
            return before
        raise


@transaction
async def _add_order(
    work: UnitOfWork, placement: PlaceOrder, codes: Sequence[str], allowed: Callable[[UnitOfWork], Awaitable[None]]
) -> Order:
    """Raises AlreadyThere; NOT_ALL, if the customer is to be forgotten. Refusals: discount_refused, those of `allowed`."""
    await allowed(work)
    order = Order.placed(placement)
    redemptions: Sequence[Redemption] = ()
    if applied := [discount.code for discount in discounts_of(placement)]:
        uses = await work.all(USES, codes=applied)
        standings = standings_in(await work.rows(STANDINGS, codes=applied, customer_id=placement.customer_id))
        redemptions = redeem(placement, codes, standings, uses)
    work.at_last(Write(_TAKES_ORDERS, [placement.customer_id], 1))
    work.add(order, *redemptions)
    outbox.add(work, created(placement))
    work.when_committed(figures.placed_total.inc)
    return order


@transaction
async def advance_order(work: UnitOfWork, command: AdvanceOrder) -> OrderAdvanced:
    """Note how far the order got. Refusals: order_unknown, illegal_transition."""
    order = await work.get(Order, command.order_id)
    if order is None:
        raise Refusal(ErrorCode.ORDER_UNKNOWN, "There is no such order.")
    uses: Sequence[DiscountUses] = ()
    redemptions: Sequence[Redemption] = ()
    if OrderStatus.CANCELLED in command.path and (codes := codes_of(order)):
        # Before the order is changed: whoever places it again has locked the uses, and would wait for the change.
        uses = await work.all(USES, codes=codes)
        redemptions = await work.all(REDEMPTIONS_OF, order_id=order.order_id)
    before = figures.Standing.of(order)
    told = order.advance(command)
    if command.amendment is not None:
        told += await answer_amendment(work, order, command.amendment)
    outbox.add(work, *told)
    if order.status == OrderStatus.CANCELLED:
        give_back(redemptions, uses)
    work.when_committed(partial(figures.count_progress, before, order))
    return order.advanced()


@transaction
async def tell_of_held_up(work: UnitOfWork, after: timedelta) -> bool:
    """Tell the customers of orders that are so old and not confirmed yet that it takes longer: each once, whatever it waits for.
    Returns whether there may be more."""
    orders = await work.all(_HELD_UP, before=utc_now() - after)
    outbox.add(work, *[order.tell_held_up() for order in orders])
    return len(orders) == HELD_UP_BATCH


@transaction
async def wish_to_cancel(work: UnitOfWork, order_id: UUID, request: CancelRequest) -> OrderProgress | None:
    """Keep a wish to cancel until its saga can be told; None if another one waits for that. Refusal: not_found."""
    order = existing(await work.get(Order, order_id))
    return order.progress() if order.keep_wish_to_cancel(request) else None


@transaction
async def take_payment_key(work: UnitOfWork, order_id: UUID, caller: Grant, key: IdempotencyKey, seen: int | None = None) -> bool:
    """Keep that a card is offered under this key; whether that is new. The card is not kept.

    Refusals: not_found, stale_version, idempotency_key_reused; payment_not_due, if that was the answer before."""
    order = within_reach(await work.read(Order, order_id), caller)
    asked = await idempotency.earlier_reply(work, key)
    if asked == _NOT_DUE:
        raise Refusal(ErrorCode.PAYMENT_NOT_DUE, "The order does not wait for another card.")
    if asked is None:
        order.require_version(seen)
        await idempotency.remember(work, key, _ASKED)
    return asked is None


@transaction
async def note_payment_not_due(work: UnitOfWork, key: IdempotencyKey) -> None:
    """Keep that no payment was due when a card was offered under this key: whoever repeats that is told the same."""
    await idempotency.remember(work, key, _NOT_DUE)


@transaction
async def take_to_hand_over(work: UnitOfWork) -> list[Order]:
    """Orders whose sagas do not know all yet; no other process gets the same ones for the time of LEASE."""
    orders = await work.all(_TO_HAND_OVER, now=utc_now())
    for order in orders:
        order.hand_over_at = utc_now() + LEASE
    return orders


@transaction
async def note_handed_over(work: UnitOfWork, order_id: UUID, wish: CancelRequest | None) -> None:
    """The order's saga runs, and knows this wish, if there was one. Refusal: not_found."""
    existing(await work.get(Order, order_id)).handed_over(wish)
