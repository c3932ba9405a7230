"""What changes orders: what customers and operators ask for, what the saga tells, and the job that hands over what was accepted.

The record is changed by the functions at the end, one transaction each. No network call is made inside of one.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, String, Uuid, any_, bindparam, func
from sqlmodel import col, or_, select

from chassis.access import Grant
from chassis.clients import ServiceClient, Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.logs import logger
from chassis.statements import NOT_ALL, Write, locked, prepared, sql
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.catalog import LookUpProducts, ProductsFound
from contracts.errors import ErrorCode, Refusal
from contracts.events import CustomerForgotten
from contracts.ids import order_id_for, quote_id_for
from contracts.keys import WrappedKey
from contracts.orders import (
    FINAL_STATUSES,
    AdvanceOrder,
    CancelReply,
    CancelRequest,
    Decision,
    LineUnits,
    OrderAdvanced,
    OrderProgress,
    OrderState,
    OrderStatus,
    Outcome,
    ParcelDecision,
    ParcelSplit,
    PayAgain,
    PlaceOrder,
    PlaceOrderRequest,
    QuoteRequest,
    ShortageAnswer,
)
from contracts.parcels import ParcelChoice
from services.order import figures
from services.order.cache import Tariffs
from services.order.model import (
    CustomerKey,
    Discount,
    DiscountTerms,
    DiscountUses,
    Order,
    Redemption,
    created,
    existing,
    idempotency,
    no_such_discount,
    outbox,
    within_reach,
)
from services.order.model.discounts import NO_CODES, Standing, codes_of, discounts_of, give_back, redeem
from services.order.model.placing import KnownPlaces, Terms, destination_of, placement, priced
from services.order.model.pricing import Priced
from services.order.model.quotes import Quote, orderable
from services.order.ports import Taxes
from temporal.keys import OwnDataKeys
from temporal.orders import OrderSagas

HAND_OVER_BATCH = 50
FORGET_BATCH = 50
PURGE_BATCH = 1000
LEASE = timedelta(seconds=10)
"""How long one process has to hand over what it took; after that another may try. To hand over twice is harmless."""
POLL_SECONDS = 0.1
_ASKED, _NOT_DUE = "asked", "payment_not_due"
"""What is kept of a request to pay: that it came; that no payment was due."""
DISPATCHED = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
log = logger(__name__)
_TO_HAND_OVER = locked(
    Order,
    col(Order.hand_over_at) <= bindparam("now"),
    order_by=col(Order.hand_over_at),
    limit=HAND_OVER_BATCH,
    skip_locked=True,
)
_IS_TO_BE_FORGOTTEN = col(CustomerKey.forget_requested_at).is_not(None) & col(CustomerKey.forgotten_at).is_(None)
_CUSTOMERS_TO_FORGET = locked(CustomerKey, _IS_TO_BE_FORGOTTEN, limit=FORGET_BATCH, skip_locked=True)
_ORDERS_TO_FORGET = prepared(
    select(col(Order.order_id))
    .join(CustomerKey, col(CustomerKey.customer_id) == col(Order.customer_id))
    .where(_IS_TO_BE_FORGOTTEN, col(Order.forgotten_at).is_(None))
    .where(or_(*[col(Order.status) == status for status in sorted(FINAL_STATUSES)]))
    .limit(FORGET_BATCH)
)
_STILL_NAMING = prepared(
    select(col(Order.customer_id))
    .where(col(Order.customer_id) == any_(bindparam("customers", type_=ARRAY(Uuid))), col(Order.forgotten_at).is_(None))
    .distinct()
)
_THESE = locked(Order, col(Order.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_TAKES_ORDERS = """
    select 1 from (
      select count(forget_requested_at) as wishes
      from (select forget_requested_at from customer_keys where customer_id = $1 for share) as key) as asked
    where 1 / (wishes = 0)::int = 1"""
"""Fails for a customer who is to be forgotten. Whoever wants that waits for this, or this for them: each has an answer."""
_PURGE_QUOTES = sql(f"""
    delete from quotes where quote_id in
      (select quote_id from quotes where valid_until <= :now limit {PURGE_BATCH} for update skip locked) returning quote_id
""")  # noqa: S608 - of a constant
_OF_THESE = col(CustomerKey.customer_id) == any_(bindparam("ids", type_=ARRAY(Uuid)))
_KEYS, _THESE_KEYS = prepared(select(CustomerKey).where(_OF_THESE)), locked(CustomerKey, _OF_THESE)
_CODES = any_(bindparam("codes", type_=ARRAY(String)))
_USES = locked(DiscountUses, col(DiscountUses.code) == _CODES)
_REDEMPTIONS_OF = locked(Redemption, col(Redemption.order_id) == bindparam("order_id"))
_USED_BY_CUSTOMER = (
    select(func.count())
    .where(
        col(Redemption.customer_id) == bindparam("customer_id"),
        col(Redemption.code) == col(Discount.code),
        col(Redemption.given_back_at).is_(None),
    )
    .scalar_subquery()
    .label("used_by_customer")
)
_STANDINGS = prepared(
    select(Discount, col(DiscountUses.times_used), _USED_BY_CUSTOMER)
    .join(DiscountUses, col(DiscountUses.code) == col(Discount.code))
    .where(col(Discount.code) == _CODES)
)
_CUSTOMER_OF = prepared(select(col(Order.customer_id)).where(col(Order.order_id) == bindparam("order_id")))


@dataclass(frozen=True)
class Placed:
    """An order that was accepted now or before, and its outcome, which is None or not definite while it is still going on."""

    order: Order
    outcome: Outcome | None
    replayed: bool = False
    """The outcome was known before this request came."""


@dataclass(frozen=True)
class OrderService:
    """What customers and operators may ask for, across the catalogue, the order's saga and its record."""

    database: Database
    catalog: ServiceClient
    tariffs: Tariffs
    taxes: Taxes
    sagas: OrderSagas
    terms: Terms
    wait: timedelta
    """How long a client waits for the outcome of its order, or of its cancellation."""
    keys: OwnDataKeys | None = None
    """Of customers, whose histories are encrypted under them; None: histories are in clear."""
    places: KnownPlaces = field(default_factory=KnownPlaces)

    async def place(self, request: PlaceOrderRequest, caller: Grant, key: IdempotencyKey, *, respond_async: bool) -> Placed:
        """Accept an order, or find the one that this key placed before, and wait for its outcome.

        Once its row is written the order is accepted, whatever is down. Refusals: idempotency_key_reused, validation_failed,
        product_unknown, discount_refused, address_undeliverable, quote_expired, quote_mismatch, customer_forgotten.
        Raises Unavailable if the catalogue cannot be asked, or shipping of a place that is new to it.
        """
        order_id = order_id_for(caller.subject, key.key)
        order = await self._accept(request, order_id, caller, key)
        order.require_placed_by(key.fingerprint)
        if outcome := order.outcome_so_far:
            return Placed(order, outcome, replayed=True)
        outcome = await self._outcome(order, timedelta(0) if respond_async else self.wait)
        if outcome and outcome.is_definite:
            return Placed(order, outcome)
        order = await find_order(self.database, order_id) or order
        return Placed(order, order.outcome_so_far or outcome)

    async def pay(self, order_id: UUID, request: PayAgain, caller: Grant, key: IdempotencyKey, seen: int | None = None) -> Placed:
        """Try another card for an order whose payment is due, or find what came of it under this key, and wait for the outcome.

        The card is told to the order's saga alone. Refusals: not_found, stale_version, idempotency_key_reused, payment_not_due.
        Raises Unavailable; then the same request may be sent again.
        """
        is_new = await take_payment_key(self.database, order_id, caller, key, seen)
        log.info("card_offered", order_id=order_id, by=str(caller.subject), repeated=not is_new)
        try:
            outcome = await self.sagas.pay(order_id, request, _id_of("pay", key), self.wait)
        except Refusal as refusal:
            if is_new:
                await note_payment_not_due(self.database, key)
            order = await order_for(self.database, order_id, caller)
            if is_new or order.outcome_so_far is None:
                raise
            log.info("card_was_tried_before", order_id=order_id, code=refusal.code)
            return Placed(order, order.outcome_so_far, replayed=True)
        order = await order_for(self.database, order_id, caller)
        is_told = outcome is not None and (outcome.is_definite or outcome.code is not None)
        return Placed(order, outcome if is_told else order.kept_outcome, replayed=not is_new)

    async def answer_shortage(
        self, order_id: UUID, answer: ShortageAnswer, caller: Grant, seen: int | None = None
    ) -> OrderProgress:
        """Say what becomes of goods that are out of stock.

        Refusals: not_found, stale_version, no_decision_pending. Raises Unavailable.
        """
        order = await order_for(self.database, order_id, caller)
        order.require_version(seen)
        state = await self.sagas.answer_shortage(order_id, answer)
        if state is None:
            raise Refusal(ErrorCode.NO_DECISION_PENDING, "No goods of the order are out of stock.")
        by = "customer" if caller.subject == order.customer_id else str(caller.subject)
        log.info("shortage_answered", order_id=order_id, decision=answer.choice, by=by)
        return OrderProgress(order_id=order_id, status=state.status)

    async def quote(self, request: QuoteRequest, caller: Grant, key: IdempotencyKey) -> Quote:
        """What an order costs, for a while. Whoever repeats the request gets the same quote. Its discount codes are not used yet:
        whoever orders first has their last use.

        Refusals: idempotency_key_reused, validation_failed, product_unknown, discount_refused, address_undeliverable.
        Raises Unavailable.
        """
        quote_id, priced_by = quote_id_for(caller.subject, key.key), request.priced_by
        quote = await find_quote(self.database, quote_id)
        if quote is None:
            priced = await self._priced(request, caller.subject)
            valid = timedelta(seconds=self.terms.quote_seconds)
            quote = await keep_quote(self.database, quote_id, caller.subject, priced_by, priced, valid)
        quote.require_asked_by(priced_by)
        return quote

    async def cancel(self, order_id: UUID, reason: str, caller: Grant, seen: int | None = None) -> CancelReply | OrderProgress:
        """Cancel an order and settle what was taken; where it is, if that is still being done after a while.

        Refusals: not_found, stale_version, already_dispatched, conflict.
        """
        order = await order_for(self.database, order_id, caller)
        if not order.is_to_be_cancelled:  # otherwise what is asked for is being done or done: a repeated request is told so
            order.require_version(seen)
        if order.status in DISPATCHED or order.is_over:
            return settled_before(order)
        request = CancelRequest(reason=reason, requested_by=canceller(order.customer_id, caller))
        log.info("cancel_asked", order_id=order_id, status=order.status, by=request.requested_by)
        try:
            await self._start(order)
            reply = await self.sagas.cancel(order_id, request, _cancel_id(request), self.wait)
        except Unavailable as error:
            log.warning("cancel_waits_for_saga", order_id=order_id, error=str(error))
            return await wish_to_cancel(self.database, order_id, request)
        if isinstance(reply, CancelReply):
            return reply
        order = await order_for(self.database, order_id, caller)
        return settled_before(order) if reply is None else order.progress()

    async def decide(self, order_id: UUID, approve: bool, reason: str, caller: Grant, seen: int | None = None) -> OrderState:
        """Approve or reject an order that is held.

        Refusals: not_found, own_order, stale_version, not_in_review. Raises Unavailable.
        """
        await self._require_decidable(order_id, caller, seen)
        state = await self.sagas.decide(order_id, approve, Decision(by=str(caller.subject), reason=reason))
        if state is None:
            raise Refusal(ErrorCode.NOT_IN_REVIEW, "The order is not held for review.")
        log.info("review_decided", order_id=order_id, decision="approve" if approve else "reject", by=str(caller.subject))
        return state

    async def decide_parcel(
        self,
        order_id: UUID,
        choice: ParcelChoice,
        reason: str,
        caller: Grant,
        seen: int | None = None,
        *,
        parcel: int | None = None,
    ) -> OrderState:
        """Say what is done about a parcel in trouble; `parcel` may be left out, if it is the only one.

        Refusals: not_found, own_order, stale_version, no_decision_pending, choice_not_possible. Raises Unavailable.
        """
        await self._require_decidable(order_id, caller, seen)
        decision = ParcelDecision(by=str(caller.subject), reason=reason, choice=choice, parcel=parcel)
        state = await self.sagas.decide_parcel(order_id, decision)
        if state is None:
            raise Refusal(ErrorCode.NO_DECISION_PENDING, "No parcel of the order is in trouble.")
        log.info("parcel_decided", order_id=order_id, decision=choice, by=str(caller.subject))
        return state

    async def split_parcel(
        self,
        order_id: UUID,
        parcel: int,
        lines: Sequence[LineUnits],
        reason: str,
        caller: Grant,
        key: IdempotencyKey,
        seen: int | None = None,
    ) -> OrderState:
        """Send some of a parcel in another one. Staff of a warehouse may do that with parcels that it sends.

        Refusals: not_found, own_order, stale_version, conflict, reservation_shipped. Raises Unavailable; then the same request
        may be sent again.
        """
        order = existing(await find_order(self.database, order_id))
        sent_from = next((it.warehouse_id for it in order.order_parcels if it.parcel == parcel), None)
        if not caller.reaches(warehouse=sent_from):
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such parcel.")
        order.require_version(seen)
        split = ParcelSplit(by=str(caller.subject), reason=reason, parcel=parcel, lines=tuple(lines))
        state = await self.sagas.split_parcel(order_id, split, _id_of("split", key))
        if state is None:
            raise Refusal(ErrorCode.CONFLICT, "Only a parcel that has not left can be split.")
        log.info("parcel_split", order_id=order_id, parcel=parcel, by=str(caller.subject))
        return state

    async def hand_over(self) -> bool:
        """Tell sagas what was accepted while they could not be told: the order itself, or the wish to cancel it.

        Returns whether there may be more to do now. Raises Unavailable if one of them could not be told.
        """
        orders = await take_to_hand_over(self.database)
        told = await asyncio.gather(*map(self._hand_over, orders), return_exceptions=True)
        for failure in filter(None, told):
            raise failure
        return len(orders) == HAND_OVER_BATCH

    async def _start(self, order: Order) -> None:
        """Start its saga, unless it is known to run; one that runs already is not started again."""
        if placement := order.to_start:
            await self.sagas.start(placement, _place_id(order))

    async def _hand_over(self, order: Order) -> None:
        await self._start(order)
        wish = order.wish_to_cancel
        if wish:
            try:
                reply = await self.sagas.cancel(order.order_id, wish, _cancel_id(wish), self.wait)
            except Refusal as refusal:
                log.info("cancel_refused_late", order_id=order.order_id, code=refusal.code)
            else:
                if reply is None:
                    await self._require_over(order.order_id)
        await note_handed_over(self.database, order.order_id, wish)

    async def _require_over(self, order_id: UUID) -> None:
        """A wish whose saga was lost waits until that is repaired. Raises Unavailable."""
        order = await find_order(self.database, order_id)
        if order and not order.is_over:
            raise Unavailable(f"no saga runs for order {order_id}")

    async def _accept(self, request: PlaceOrderRequest, order_id: UUID, caller: Grant, key: IdempotencyKey) -> Order:
        """Accept a new order, or find the one that this key placed before.

        Most are new, so nobody looks first. What was accepted before stays so, whatever would be wrong with it now.
        """
        try:
            if self.keys:
                await self.keys.for_an_order(caller.subject)
            if request.quote_id:
                priced = orderable(await find_quote(self.database, request.quote_id), caller.subject, request)
            else:
                priced = await self._priced(request, caller.subject)
        except (Refusal, Unavailable):
            order = await find_order(self.database, order_id)
            if order is None:
                raise
            return order
        placed = placement(
            request,
            priced,
            order_id=order_id,
            customer_id=caller.subject,
            fingerprint=key.fingerprint,
            terms=self.terms,
        )
        return await accept_order(self.database, placed, request.discount_codes)

    async def _priced(self, request: QuoteRequest, customer_id: UUID) -> Priced:
        """What it costs this customer now. Refusals: validation_failed, product_unknown, discount_refused, address_undeliverable.
        Raises Unavailable."""
        destination = self.places.get(request.ship_to)
        if destination is None:
            destination = await asyncio.to_thread(destination_of, request.ship_to)
            self.places.add(request.ship_to, destination)
        wanted = LookUpProducts(product_ids=[line.product_id for line in request.lines])
        found = await self.catalog.post("/internal/v1/products/lookup", wanted, ProductsFound)
        return priced(
            request,
            found.products,
            tariff=await self.tariffs.of(destination.tariff),
            taxes=await self.taxes.rates(destination.country, destination.region),
            terms=self.terms,
            standings=await standings_of(self.database, request.discount_codes, customer_id),
        )

    async def _outcome(self, order: Order, wait: timedelta) -> Outcome | None:
        """How the order came out, or None if that is open after `wait`."""
        placement = order.to_start
        if placement is None:
            return await self._outcome_on_record(order, wait)
        try:
            if wait:
                return await self.sagas.place(placement, _place_id(order), wait)
            await self.sagas.start(placement, _place_id(order))
        except Unavailable as error:
            log.warning("order_waits_for_saga", order_id=order.order_id, error=str(error))
        return None

    async def _outcome_on_record(self, order: Order, wait: timedelta) -> Outcome | None:
        """The same from the record of an order whose saga is known to run: it tells the record, too."""
        clock = asyncio.get_running_loop().time
        until = clock() + wait.total_seconds()
        found: Order | None = order
        while found and not found.outcome_so_far and found.status != OrderStatus.IN_REVIEW and clock() < until:
            await asyncio.sleep(POLL_SECONDS)
            found = await find_order(self.database, order.order_id)
        return found.outcome_so_far if found else None

    async def _require_decidable(self, order_id: UUID, caller: Grant, seen: int | None) -> None:
        """Refusals: not_found, own_order, stale_version."""
        order = await order_for(self.database, order_id, caller)
        if caller.subject == order.customer_id:
            raise Refusal(ErrorCode.OWN_ORDER, "A colleague has to decide about an order of yours.")
        order.require_version(seen)


def canceller(customer_id: UUID, caller: Grant) -> str:
    """In whose name the caller cancels an order of this customer. Staff who cancel their own do it as its customer."""
    return "customer" if caller.subject == customer_id else f"operator {caller.subject}"


def settled_before(order: Order) -> CancelReply:
    """What a cancellation gets when nothing can be cancelled any more. Refusals: already_dispatched, conflict."""
    if order.status == OrderStatus.CANCELLED:
        detail = order.detail or "The order was cancelled."
        return CancelReply(order_id=order.order_id, status=order.status, refunded=order.refunded, detail=detail)
    if order.status in DISPATCHED:
        raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; the order can no longer be cancelled.")
    if order.status == OrderStatus.REFUNDED:
        raise Refusal(ErrorCode.CONFLICT, "The parcel did not arrive, and the money has gone back already.")
    raise Refusal(ErrorCode.CONFLICT, "Nothing works on this order any more; support has to settle it.")


def _place_id(order: Order) -> str:
    return f"place-{order.fingerprint}"


def _id_of(what: str, key: IdempotencyKey) -> str:
    """Of the update that a request asks for: a repeated request joins it."""
    return f"{what}-{hashlib.sha256(f'{key.scope} {key.key}'.encode()).hexdigest()}"


def _cancel_id(request: CancelRequest) -> str:
    """The same person with the same reason asks the same thing: a retry joins the cancellation that is under way."""
    return f"cancel-{hashlib.sha256(f'{request.requested_by} {request.reason}'.encode()).hexdigest()}"


# ── The record, one transaction each ─────────────────────────────────────────────────────────────────────────────────────────


async def find_order(database: Database, order_id: UUID) -> Order | None:
    """The order's row, whoever asks."""
    async with database.reading() as session:
        return await session.get(Order, order_id)


async def order_for(database: Database, order_id: UUID, caller: Grant) -> Order:
    """The order's row, if it is within the caller's reach. Refusal: not_found."""
    return within_reach(await find_order(database, order_id), caller)


async def accept_order(database: Database, placement: PlaceOrder, codes: Sequence[str] = ()) -> Order:
    """Write a new order down. Of two requests at once under one key the later one gets the order of the earlier.

    `codes`: the discount codes of the request, in its sequence. Refusals: customer_forgotten, discount_refused."""
    try:
        return await _add_order(database, placement, codes)
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
async def _add_order(work: UnitOfWork, placement: PlaceOrder, codes: Sequence[str]) -> Order:
    """Raises AlreadyThere; NOT_ALL, if the customer is to be forgotten. Refusal: discount_refused."""
    order = Order.placed(placement)
    redemptions: Sequence[Redemption] = ()
    if applied := [discount.code for discount in discounts_of(placement)]:
        uses = await work.all(_USES, codes=applied)
        standings = _standings(await work.rows(_STANDINGS, codes=applied, customer_id=placement.customer_id))
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
        uses = await work.all(_USES, codes=codes)
        redemptions = await work.all(_REDEMPTIONS_OF, order_id=order.order_id)
    before = figures.Standing.of(order)
    outbox.add(work, *order.advance(command))
    if order.status == OrderStatus.CANCELLED:
        give_back(redemptions, uses)
    work.when_committed(partial(figures.count_progress, before, order))
    return order.advanced()


@transaction
async def wish_to_cancel(work: UnitOfWork, order_id: UUID, request: CancelRequest) -> OrderProgress:
    """Keep a wish to cancel until its saga can be told. Refusal: not_found."""
    order = existing(await work.get(Order, order_id))
    order.keep_wish_to_cancel(request)
    return order.progress()


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


# ── Quotes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def find_quote(database: Database, quote_id: UUID) -> Quote | None:
    """A quote that is kept, valid or not."""
    async with database.reading() as session:
        return await session.get(Quote, quote_id)


@transaction
async def keep_quote(
    work: UnitOfWork, quote_id: UUID, customer_id: UUID, priced_by: str, priced: Priced, valid: timedelta
) -> Quote:
    """Keep a quote. Of two requests at once under one key the later one gets the quote of the earlier."""
    quote, _ = await work.get_or_add(Quote.new(quote_id, customer_id, priced_by, priced, valid))
    return quote


@transaction
async def purge_quotes(work: UnitOfWork) -> bool:
    """Delete quotes that are no longer valid. Returns whether there may be more to do now."""
    return len(await work.rows(_PURGE_QUOTES, now=utc_now())) == PURGE_BATCH


# ── Discount codes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction
async def put_discount(work: UnitOfWork, code: str, terms: DiscountTerms, seen: int | None = None) -> Discount:
    """Add a code, or change its terms. `seen`: the version that the caller has seen.

    Refusals: not_found (never there although it was seen), stale_version."""
    discount, is_new = await work.get_or_add(Discount.new(code, terms))
    if is_new:
        if seen is not None:
            raise no_such_discount()
        work.add(DiscountUses(code=code))
        return discount
    discount.require_version(seen)
    discount.change(terms)
    return discount


@transaction
async def disable_discount(work: UnitOfWork, code: str, seen: int | None = None) -> Discount:
    """No order is accepted with a code any more. Refusals: not_found, stale_version."""
    discount = await work.get(Discount, code)
    if discount is None:
        raise no_such_discount()
    discount.require_version(seen)
    discount.disable()
    return discount


async def standings_of(database: Database, codes: Sequence[str], customer_id: UUID) -> Mapping[str, Standing]:
    """Those of these codes that there are, and how often they are used now, also by this customer."""
    return _standings(await database.rows(_STANDINGS, codes=list(codes), customer_id=customer_id)) if codes else NO_CODES


def _standings(rows: Sequence[Mapping[str, Any]]) -> dict[str, Standing]:
    """Of the rows of `_STANDINGS`, by code."""
    return {row["code"]: Standing(Discount.model_validate(dict(row)), row["times_used"], row["used_by_customer"]) for row in rows}


# ── Who is to be forgotten ───────────────────────────────────────────────────────────────────────────────────────────────────


async def wish_to_forget(work: UnitOfWork, event: CustomerForgotten) -> None:
    """Within the consumer's transaction: note that a customer is to be forgotten, for the job; no order is taken any more."""
    key, _ = await work.get_or_add(CustomerKey.none_for(event.customer_id))
    key.ask_to_forget()


async def forget_customers(database: Database, sagas: OrderSagas) -> bool:
    """Forget who wants to be: blank what their orders name as each ends, and destroy their key after the last one.

    An order's history is needed until its saga has closed, which is a moment after its last word to the record. Returns whether
    there may be more to do now. Raises Unavailable if Temporal cannot be asked.
    """
    ended = await orders_to_forget(database)
    at_work = await asyncio.gather(*map(sagas.is_running, ended))
    await forget_orders(database, [order_id for order_id, runs in zip(ended, at_work, strict=True) if not runs])
    await forget_keys(database)
    return len(ended) == FORGET_BATCH and not all(at_work)


async def orders_to_forget(database: Database) -> list[UUID]:
    """Some orders that have ended and whose customers are to be forgotten."""
    return [row["order_id"] for row in await database.rows(_ORDERS_TO_FORGET)]


@transaction
async def forget_orders(work: UnitOfWork, order_ids: Sequence[UUID]) -> None:
    """Blank what these orders name, and tell who else keeps something of them."""
    forgotten = [order.forget_person() for order in await work.all(_THESE, ids=order_ids)]
    outbox.add(work, *filter(None, forgotten))


@transaction
async def forget_keys(work: UnitOfWork) -> None:
    """Destroy the keys of customers who are to be forgotten and none of whose orders is open or names them any more.

    They are locked first, and their orders looked at after that: whoever places one at this moment has come before or is
    refused."""
    keys = await work.all(_CUSTOMERS_TO_FORGET)
    naming = await work.rows(_STILL_NAMING, customers=[key.customer_id for key in keys])
    for key in keys:
        if key.customer_id not in {row["customer_id"] for row in naming}:
            key.forget()


# ── The keys of customers ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class StoredKeys:
    """The keys of customers as this service keeps them: a `temporal.keys.KeyStore`."""

    database: Database

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        return [
            CustomerKey.model_validate(dict(row)).as_wrapped() for row in await self.database.rows(_KEYS, ids=list(customer_ids))
        ]

    async def add(self, key: WrappedKey) -> WrappedKey:
        try:
            return await add_key(self.database, key)
        except AlreadyThere:
            [other] = await self.find([key.customer_id])
            return other

    async def customer_of(self, order_id: UUID) -> UUID | None:
        return next((row["customer_id"] for row in await self.database.rows(_CUSTOMER_OF, order_id=order_id)), None)


@transaction
async def add_key(work: UnitOfWork, key: WrappedKey) -> WrappedKey:
    """Keep a new key. Raises AlreadyThere."""
    work.add(CustomerKey.new(key))
    return key


@transaction
async def wrap_keys_again(work: UnitOfWork, keys: Sequence[tuple[WrappedKey, WrappedKey]]) -> None:
    """Keep keys, each as it was and as another master key has wrapped it, unless it was changed or destroyed meanwhile."""
    wrapped = {before.customer_id: (before, after) for before, after in keys}
    for key in await work.all(_THESE_KEYS, ids=list(wrapped)):
        before, after = wrapped[key.customer_id]
        if key.wrapped == before.wrapped:
            key.wrap_again(after)
