"""What the public endpoints do across the catalogue, the order's saga and the order's record.

Nothing here changes the record: the saga does, through `commands.py`.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from chassis.clients import ServiceClient, Unavailable
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.tokens import Principal
from contracts.catalog import LookUpProducts, ProductsFound
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.ids import order_id_for
from contracts.orders import (
    NEXT_STATUS,
    CancelReply,
    CancelRequest,
    Decision,
    OrderProgress,
    OrderStatus,
    Outcome,
    PlaceOrderRequest,
)
from services.order import queries
from services.order.model import Order
from services.order.placing import Review, priced, require_form
from services.order.schemas import OrderTimeline, OrderView
from temporal.orders import OrderSagas

ASK_SECONDS = 2.0
"""How long a saga may take to tell its timeline before the record tells it."""
OPEN_SECONDS = 1.0
"""How long a client that did not want to wait waits for its order to be written down, so that it finds it afterwards."""
CONFIRMED = frozenset({OrderStatus.CONFIRMED, OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
DISPATCHED = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
ENDED = frozenset({OrderStatus.CANCELLING, OrderStatus.CANCELLED})


@dataclass(frozen=True)
class Placed:
    """An order that was not refused. `confirmed` false: it is still going on."""

    order: OrderView
    confirmed: bool


@dataclass(frozen=True)
class OrderService:
    """Places orders and passes on what customers and operators want of them."""

    database: Database
    catalog: ServiceClient
    sagas: OrderSagas
    review: Review
    wait: timedelta
    """How long a client waits for the outcome of its order."""

    async def place(self, request: PlaceOrderRequest, caller: Principal, key: IdempotencyKey, *, respond_async: bool) -> Placed:
        """Start the order's saga, or find the one that this key started before, and wait for its outcome.

        Refusals: validation_failed, product_unknown, idempotency_key_reused, and whichever ends the saga. Fault: Unavailable.
        """
        require_form(request.ship_to)
        order_id = order_id_for(caller.subject, key.key)
        try:
            found = await self._look_up(request)
            order = priced(
                request,
                found.products,
                order_id=order_id,
                customer_id=caller.subject,
                fingerprint=key.fingerprint,
                review=self.review,
            )
            outcome = await self.sagas.place(order, f"place-{key.fingerprint}", timedelta(0) if respond_async else self.wait)
        except (Refusal, Unavailable):
            # A repeated request gets its order, also when a product has since gone, or something is down.
            record = await queries.find_order(self.database, order_id)
            if record is None or record.fingerprint != key.fingerprint:
                raise
            return answer(OrderView.of(record, caller), None)
        record = await self._record(order_id, wait=respond_async)
        if respond_async and (record is None or record.fingerprint == key.fingerprint):
            return Placed(OrderView.of(record, caller) if record else OrderView.of_placed(order), confirmed=False)
        if outcome and outcome.code == ErrorCode.ORDER_EXISTS:
            # The order's first saga is so long ago that Temporal has forgotten it.
            if record is None or record.fingerprint != key.fingerprint:
                raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another body.")
            outcome = None
        return answer(OrderView.of(record, caller) if record else OrderView.of_placed(order), outcome)

    async def cancel(self, order_id: UUID, reason: str, caller: Principal) -> CancelReply:
        """Cancel an order and settle what was taken. Refusals: not_found, forbidden, already_dispatched. Fault: Unavailable."""
        record = await queries.get_order(self.database, order_id, caller)
        requested_by = canceller(record.customer_id, caller)
        # The same caller with the same reason asks the same thing: a retry joins the cancellation that is under way.
        update_id = f"cancel-{hashlib.sha256(f'{caller.subject} {reason}'.encode()).hexdigest()}"
        request = CancelRequest(reason=reason, requested_by=requested_by)
        reply = await self.sagas.cancel(order_id, request, update_id)
        if reply is not None:
            return reply
        return cancelled_before(await queries.get_order(self.database, order_id, caller))

    async def decide(self, order_id: UUID, approve: bool, reason: str, caller: Principal) -> OrderProgress:
        """Approve or reject an order that is held. Refusals: not_found, own_order, not_in_review. Fault: Unavailable."""
        record = await queries.get_order(self.database, order_id, caller)
        if caller.subject == record.customer_id:
            raise Refusal(ErrorCode.OWN_ORDER, "A colleague has to decide about an order of yours.")
        decision = Decision(by=str(caller.subject), reason=reason)
        if record.status != OrderStatus.IN_REVIEW or not await self.sagas.decide(order_id, approve, decision):
            raise Refusal(ErrorCode.NOT_IN_REVIEW, "The order is not held for review.")
        return record.progress()

    async def timeline(self, order_id: UUID, caller: Principal) -> OrderTimeline:
        """What happened to an order. Refusal: not_found."""
        record = await queries.get_order(self.database, order_id, caller)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                entries = await self.sagas.timeline(order_id)
        except (Unavailable, TimeoutError):
            entries = None
        if entries is None:
            return OrderTimeline(order_id=order_id, source="history", entries=tuple(record.timeline()))
        return OrderTimeline(order_id=order_id, source="workflow", entries=tuple(entries))

    async def _look_up(self, request: PlaceOrderRequest) -> ProductsFound:
        wanted = LookUpProducts(product_ids=[line.product_id for line in request.lines])
        return await self.catalog.post("/internal/v1/products/lookup", wanted, ProductsFound)

    async def _record(self, order_id: UUID, *, wait: bool) -> Order | None:
        """The order's record. Who was not made to wait for the outcome waits a moment for the record."""
        deadline = asyncio.get_running_loop().time() + (OPEN_SECONDS if wait else 0)
        while True:
            record = await queries.find_order(self.database, order_id)
            if record is not None or asyncio.get_running_loop().time() >= deadline:
                return record
            await asyncio.sleep(0.02)


def canceller(customer_id: UUID, caller: Principal) -> str:
    """In whose name the caller cancels an order of this customer. Staff who cancel their own do it as its customer.

    Refusal: forbidden.
    """
    if caller.subject == customer_id:
        return "customer"
    if not caller.roles & {Role.SUPPORT, Role.ADMIN}:
        raise Refusal(ErrorCode.FORBIDDEN, "Only its customer, support or an administrator may cancel an order.")
    return f"operator {caller.subject}"


def answer(order: OrderView, outcome: Outcome | None) -> Placed:
    """What a client that placed an order is told: the order as it is now. Raises the refusal that ended it, if one did.

    The outcome of a first request is newer than the record; that of a repeated one may be older.
    """
    if outcome and (outcome.status == order.status or _comes_after(outcome.status, order.status)):
        order = order.model_copy(
            update={
                "status": outcome.status,
                "code": outcome.code or order.code,
                "detail": outcome.detail or order.detail,
                "tracking_number": outcome.tracking_number or order.tracking_number,
            }
        )
    if order.confirmed_at is not None or order.status in CONFIRMED:
        return Placed(order, confirmed=True)
    if order.status in ENDED:
        code = order.code or ErrorCode.CANCELLED_BY_REQUEST
        extra = outcome.extra if outcome and outcome.code == code else {}
        raise Refusal(code, order.detail or "The order was cancelled.", extra={**extra, "order_id": str(order.order_id)})
    return Placed(order, confirmed=False)


def cancelled_before(order: Order) -> CancelReply:
    """What a cancellation gets when no saga runs any more. Refusals: already_dispatched, conflict."""
    if order.status == OrderStatus.CANCELLED:
        detail = order.detail or "The order was cancelled."
        return CancelReply(order_id=order.order_id, status=order.status, refunded=order.refunded, detail=detail)
    if order.status in DISPATCHED:
        raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel has left; the order can no longer be cancelled.")
    raise Refusal(ErrorCode.CONFLICT, "Nothing works on this order any more; support has to settle it.")


def _comes_after(status: OrderStatus, earlier: OrderStatus) -> bool:
    following = NEXT_STATUS[earlier]
    return status in following or any(_comes_after(status, step) for step in following)
