"""What customers and operators may ask for, across the catalogue, shipping, the order's saga and its record; and the job that
hands over what was accepted. No network call is made inside of a transaction."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from chassis.access import Grant
from chassis.clients import ServiceClient, Unavailable
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.logs import logger
from contracts.address import Address
from contracts.catalog import LookUpProducts, ProductsFound
from contracts.errors import ErrorCode, Refusal
from contracts.ids import order_id_for, quote_id_for
from contracts.orders import (
    CancelReply,
    CancelRequest,
    Decision,
    LineUnits,
    OrderProgress,
    OrderState,
    OrderStatus,
    Outcome,
    ParcelDecision,
    ParcelSplit,
    PayAgain,
    PlaceOrderRequest,
    QuoteRequest,
    ShortageAnswer,
)
from contracts.parcels import ParcelChoice
from services.order.cache import Tariffs
from services.order.commands.discounts import standings_of
from services.order.commands.quotes import find_quote, keep_quote
from services.order.commands.records import (
    HAND_OVER_BATCH,
    accept_order,
    find_order,
    note_handed_over,
    note_payment_not_due,
    order_for,
    take_payment_key,
    take_to_hand_over,
    wish_to_cancel,
)
from services.order.model import (
    Order,
    existing,
)
from services.order.model.placing import Destination, KnownPlaces, Terms, destination_of, placement, priced
from services.order.model.pricing import Priced
from services.order.model.quotes import Quote, orderable
from services.order.ports import Taxes
from temporal.keys import OwnDataKeys
from temporal.orders import OrderSagas

log = logger(__name__)

POLL_SECONDS = 0.1
STILL_OPEN = frozenset({OrderStatus.IN_REVIEW, OrderStatus.ACTION_REQUIRED})
"""Nobody knows how long they last: a client is told at once that it is there."""
DISPATCHED = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})


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

        The card is told to the order's saga alone. Refusals: not_found, stale_version, idempotency_key_reused, payment_not_due,
        validation_failed. Raises Unavailable; then the same request may be sent again.
        """
        request = request.model_copy(update={"return_url": self.terms.returns_to(request.return_url)})
        is_new = await take_payment_key(self.database, order_id, caller, key, seen)
        log.info("card_offered", order_id=order_id, by=str(caller.subject), repeated=not is_new)
        try:
            outcome = await self.sagas.pay(order_id, request, update_id("pay", key), self.wait)
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
            priced = await self.priced(request, caller.subject)
            valid = timedelta(seconds=self.terms.quote_seconds)
            quote = await keep_quote(self.database, quote_id, caller.subject, priced_by, priced, valid)
        quote.require_asked_by(priced_by)
        return quote

    async def cancel(
        self,
        order_id: UUID,
        reason: str,
        caller: Grant,
        seen: int | None = None,
        *,
        lines: Sequence[LineUnits] = (),
        key: IdempotencyKey | None = None,
    ) -> CancelReply | OrderProgress:
        """Cancel an order, or only so many units of these lines, and settle what was taken; where it is, if that is still being
        done after a while. `key`: tells a new wish for the same units, with the same words, from one that is repeated.

        Refusals: not_found, stale_version, already_dispatched, conflict; of units also validation_failed. Raises Unavailable, if
        neither the saga can be told now nor the wish be kept; then the same request may be sent again.
        """
        order = await order_for(self.database, order_id, caller)
        if not order.is_to_be_cancelled:  # otherwise what is asked for is being done or done: a repeated request is told so
            order.require_version(seen)
        order.require_units(lines)
        if not lines and (order.status in DISPATCHED or order.is_over):
            return settled_before(order)
        request = CancelRequest(reason=reason, requested_by=canceller(order.customer_id, caller), lines=tuple(lines))
        if lines:
            request = request.model_copy(update={"key": _units_id(request, key)})
        log.info("cancel_asked", order_id=order_id, status=order.status, by=request.requested_by)
        try:
            await self.start(order)
            reply = await self.sagas.cancel(order_id, request, _cancel_id(request), self.wait)
        except Unavailable as error:
            log.warning("cancel_waits_for_saga", order_id=order_id, error=str(error))
            kept = None if order.is_over else await wish_to_cancel(self.database, order_id, request)
            if kept is None:
                raise
            return kept
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
        state = await self.sagas.split_parcel(order_id, split, update_id("split", key))
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

    async def start(self, order: Order) -> None:
        """Start its saga, unless it is known to run; one that runs already is not started again."""
        if placement := order.to_start:
            await self.sagas.start(placement, _place_id(order))

    async def _hand_over(self, order: Order) -> None:
        await self.start(order)
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
            self.terms.returns_to(request.return_url)
            if self.keys:
                await self.keys.for_an_order(caller.subject)
            if request.quote_id:
                priced = orderable(await find_quote(self.database, request.quote_id), caller.subject, request)
            else:
                priced = await self.priced(request, caller.subject)
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

    async def priced(self, request: QuoteRequest, customer_id: UUID) -> Priced:
        """What it costs this customer now. Refusals: validation_failed, product_unknown, discount_refused, address_undeliverable.
        Raises Unavailable."""
        destination = await self.destination(request.ship_to)
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

    async def destination(self, address: Address) -> Destination:
        """Where it is. Refusal: validation_failed, if it is not of its country's form."""
        known = self.places.get(address)
        if known is None:
            known = await asyncio.to_thread(destination_of, address)
            self.places.add(address, known)
        return known

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
        while found and not found.outcome_so_far and found.status not in STILL_OPEN and clock() < until:
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


def update_id(what: str, key: IdempotencyKey) -> str:
    """Of the update that a request asks for: a repeated request joins it."""
    return f"{what}-{hashlib.sha256(f'{key.scope} {key.key}'.encode()).hexdigest()}"


def _cancel_id(request: CancelRequest) -> str:
    """The same person with the same reason asks the same thing: a retry joins the cancellation that is under way. Of units, its
    key tells."""
    return request.key or f"cancel-{hashlib.sha256(f'{request.requested_by} {request.reason}'.encode()).hexdigest()}"


def _units_id(request: CancelRequest, key: IdempotencyKey | None) -> str:
    """What names a wish for some units: the same person who wants the same units with the same reason asks the same thing, unless
    its requests have keys that differ."""
    units = " ".join(f"{line.line_id}:{line.quantity}" for line in sorted(request.lines, key=lambda line: line.line_id))
    words = f"{request.requested_by} {request.reason} {units} {key.key if key else ''}"
    return f"cancel-{hashlib.sha256(words.encode()).hexdigest()}"
