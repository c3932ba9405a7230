"""Orders over HTTP: the public endpoints, and the internal one of the saga."""

from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Body, Header, Request, Response
from pydantic import Field

from chassis.access import Caller, Grant
from chassis.database import Database
from chassis.dependencies import Db, from_app, provided
from chassis.etags import OptionalSeenVersion, etag, showing, tagged
from chassis.freshness import MayLag
from chassis.idempotency import OptionalKey, RequiredKey
from chassis.logs import logger
from chassis.paging import Cursor, Limit
from chassis.problems import problem_response
from contracts.base import ParcelNumber
from contracts.keys import KeysFound, LookUpKeys
from contracts.orders import (
    AdvanceOrder,
    CancelReply,
    DiscountCode,
    OrderAdvanced,
    OrderProgress,
    OrderState,
    OrderStatus,
    PayAgain,
    PlaceOrderRequest,
    QuoteRequest,
    ShortageAnswer,
)
from contracts.paging import Page
from services.order import commands, queries
from services.order.access import ACCESS
from services.order.commands import OrderService, Placed, ReturnService
from services.order.explaining import EXPLAIN_EXAMPLES, Explanation, StaffExplanation
from services.order.schemas import (
    CANCEL_EXAMPLES,
    DECISION_EXAMPLES,
    DISCOUNT_EXAMPLES,
    PARCEL_DECISION_EXAMPLES,
    PAY_EXAMPLES,
    PLACE_EXAMPLES,
    QUOTE_EXAMPLES,
    SHORTAGE_EXAMPLES,
    SPLIT_EXAMPLES,
    CancelBody,
    CurrentOrderView,
    DiscountBody,
    DiscountView,
    ErasureProgress,
    OrderSummary,
    OrderTimeline,
    OrderView,
    ParcelDecisionBody,
    ParcelSplitBody,
    PaymentDue,
    QuoteView,
    ReasonBody,
    RedemptionView,
    StaffOrderTimeline,
    StaffOrderView,
    StaleDiscount,
    StaleOrder,
    UsedDiscountView,
)
from temporal.keys import KeySource

log = logger(__name__)
public = ACCESS.router(prefix="/api/v1/orders", tags=["orders"])
discounts = ACCESS.router(prefix="/api/v1/discounts", tags=["discounts"])
customers = ACCESS.router(prefix="/api/v1/customers", tags=["orders"])
internal = ACCESS.router(prefix="/internal/v1/orders", tags=["internal"])
internal_keys = ACCESS.router(prefix="/internal/v1/customer-keys", tags=["internal"])


Reply = TypeVar("Reply")
Orders = Annotated[OrderService, from_app(OrderService)]
Returns = Annotated[ReturnService, from_app(ReturnService)]
Keys = Annotated[KeySource, from_app(KeySource)]
WhatToCancel = Annotated[CancelBody, Body(openapi_examples=CANCEL_EXAMPLES)]
ReasonOfDecision = Annotated[ReasonBody, Body(openapi_examples=DECISION_EXAMPLES)]
DecisionOfParcel = Annotated[ParcelDecisionBody, Body(openapi_examples=PARCEL_DECISION_EXAMPLES)]
PLACED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Confirmed. Whoever repeats the request is told the same, word for word; so is who was refused. "
        "Its `ETag` is told by a GET.",
        "headers": {
            "Idempotent-Replayed": {"description": "`true`: the outcome was known before.", "schema": {"type": "string"}}
        },
    },
    202: {
        "model": CurrentOrderView,
        "description": "Accepted, outcome still open: it takes longer, is held for review, its customer has to do something to "
        "pay (`payment_action`), or the client did not want to wait. `Location` is where to ask again.",
    },
    402: {
        "model": PaymentDue,
        "description": "The card was declined, and another one may be tried until `pay_until`: `POST` it to `payments` under "
        "`Location`. The goods are kept until then.",
    },
}
CHANGED: dict[int | str, dict[str, Any]] = {
    412: {
        "model": StaleOrder,
        "description": "The order is no longer what `If-Match` says; `current` is what it is now. Nothing was done.",
    }
}
TERMS_CHANGED: dict[int | str, dict[str, Any]] = {
    412: {
        "model": StaleDiscount,
        "description": "The code is no longer what `If-Match` says; `current` is what it is now. Nothing was done.",
    }
}
EXPLAINED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"examples": EXPLAIN_EXAMPLES}}}}
ONLY_IF_UNCHANGED = (
    "With `If-Match`, only if the order still is what you have seen. That is checked first, on its record; whether the change is "
    "possible is then decided by the order's saga, which may know more than the record by then: its word is the last. "
)
CANCELLED_BEFORE = (
    "An order that is cancelled, or is being cancelled, is no reason for 412: who repeats the request is told how far that got."
)
SOME_UNITS = (
    " With `lines`, only so many units of these: what waits for goods first, then what is not booked, then what is; a parcel "
    "that has left keeps all that is in it, and the answer says so. The shares of the units go back, to the cent. Of an order "
    "that is not confirmed yet, once it is. 409 `already_dispatched`: they have left; `conflict`: there are not so many, and "
    "`cancellable` says how many units of each line can be cancelled. Who wants the same units with the same reason once more "
    "sends another `Idempotency-Key`."
)
STILL_BEING_SETTLED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": OrderProgress,
        "description": "Accepted, and still being settled. `Location` is where to see how it ends.",
    }
}


@public.post("", status_code=201, response_model=OrderView, responses=PLACED, summary="Place an order")
async def place_order(
    request: Request,
    caller: Caller,
    key: RequiredKey,
    body: Annotated[PlaceOrderRequest, Body(openapi_examples=PLACE_EXAMPLES)],
    prefer: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None,
        Header(max_length=10, description="`respond-async`: do not wait for the outcome."),
    ] = None,
) -> Response:
    respond_async = wants_async(prefer or ())
    # The most frequent change of a shop: taken from the app itself, which is quicker than by a dependency.
    orders = provided(request.app, OrderService)
    placed = await orders.place(body, caller, key, respond_async=respond_async)
    return _outcome_of(request, placed, {"Preference-Applied": "respond-async"} if respond_async else {})


@public.post("/quote", status_code=201, summary="What an order would cost")
async def quote_order(
    orders: Orders, caller: Caller, key: RequiredKey, body: Annotated[QuoteRequest, Body(openapi_examples=QUOTE_EXAMPLES)]
) -> QuoteView:
    """Nothing is reserved. Until `valid_until` its sums hold for an order of the same lines, address, warehouse, shipping and
    discount codes that names its id."""
    return QuoteView.of(await orders.quote(body, caller, key))


@public.get("", summary="List orders, newest first")
async def list_orders(
    db: MayLag,
    caller: Caller,
    status: OrderStatus | None = None,
    customer_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OrderSummary]:
    return await queries.list_orders(db, caller, customer_id=customer_id, status=status, cursor=cursor, limit=limit)


@public.get("/{order_id}", summary="Read an order")
async def get_order(
    db: Db, orders: Orders, caller: Caller, order_id: UUID, response: Response
) -> StaffOrderView | CurrentOrderView:
    return tagged(response, await queries.get_order(db, orders.sagas, order_id, caller))


@public.get("/{order_id}/timeline", summary="What happened to an order")
async def get_timeline(db: Db, orders: Orders, caller: Caller, order_id: UUID) -> StaffOrderTimeline | OrderTimeline:
    return await queries.get_timeline(db, orders.sagas, order_id, caller)


@public.get("/{order_id}/explain", summary="Where an order is and why, and who may act", responses=EXPLAINED)
async def explain_order(
    db: Db, orders: Orders, returns: Returns, caller: Caller, order_id: UUID
) -> StaffExplanation | Explanation:
    return await queries.explain(db, orders.sagas, returns.sagas, order_id, caller)


@public.post(
    "/{order_id}/cancel",
    responses=STILL_BEING_SETTLED | CHANGED,
    summary="Cancel an order, or some units of it, before they are dispatched",
    description=ONLY_IF_UNCHANGED + CANCELLED_BEFORE + SOME_UNITS,
)
async def cancel_order(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: WhatToCancel,
    response: Response,
    seen: OptionalSeenVersion,
    key: OptionalKey,
) -> CancelReply | OrderProgress:
    cancelling = orders.cancel(order_id, body.reason, caller, seen, lines=body.lines or (), key=key)
    reply = await _changed(db, caller, order_id, response, cancelling)
    if isinstance(reply, OrderProgress):
        response.status_code = 202
        response.headers["Location"] = _location(order_id)
    return reply


@public.post(
    "/{order_id}/approve", responses=CHANGED, summary="Approve an order that is held for review", description=ONLY_IF_UNCHANGED
)
async def approve_order(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: ReasonOfDecision,
    response: Response,
    seen: OptionalSeenVersion,
) -> OrderState:
    return await _changed(db, caller, order_id, response, orders.decide(order_id, True, body.reason, caller, seen))


@public.post(
    "/{order_id}/reject", responses=CHANGED, summary="Reject an order that is held for review", description=ONLY_IF_UNCHANGED
)
async def reject_order(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: ReasonOfDecision,
    response: Response,
    seen: OptionalSeenVersion,
) -> OrderState:
    return await _changed(db, caller, order_id, response, orders.decide(order_id, False, body.reason, caller, seen))


@public.post(
    "/{order_id}/parcel-decision",
    responses=CHANGED,
    summary="Decide about a parcel that does not arrive",
    description=ONLY_IF_UNCHANGED,
)
async def decide_parcel(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: DecisionOfParcel,
    response: Response,
    seen: OptionalSeenVersion,
) -> OrderState:
    decision = orders.decide_parcel(order_id, body.choice, body.reason, caller, seen, parcel=body.parcel)
    return await _changed(db, caller, order_id, response, decision)


@public.post(
    "/{order_id}/payments",
    status_code=201,
    response_model=OrderView,
    responses=PLACED | CHANGED,
    summary="Pay with another card, after one was declined",
    description="While an order is PAYMENT_DUE, or shows `pay_until`. The answer is as if the order were placed with that card. "
    "With `If-Match`, only if the order still is what you have seen; that is not asked of a request that is repeated.",
)
async def pay_order(
    request: Request,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: Annotated[PayAgain, Body(openapi_examples=PAY_EXAMPLES)],
    key: RequiredKey,
    seen: OptionalSeenVersion,
) -> Response:
    with showing(partial(queries.as_seen_by, caller)):
        placed = await orders.pay(order_id, body, caller, key, seen)
    return _outcome_of(request, placed)


@public.post(
    "/{order_id}/shortage",
    responses=CHANGED,
    summary="Say what becomes of goods that are out of stock: wait for them, leave them out, or cancel the order",
    description=ONLY_IF_UNCHANGED,
)
async def answer_shortage(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    body: Annotated[ShortageAnswer, Body(openapi_examples=SHORTAGE_EXAMPLES)],
    response: Response,
    seen: OptionalSeenVersion,
) -> OrderProgress:
    return await _changed(db, caller, order_id, response, orders.answer_shortage(order_id, body, caller, seen))


@public.post(
    "/{order_id}/parcels/{parcel}/split",
    responses=CHANGED,
    summary="Send some of a parcel in another one, before it is handed over",
    description="Fewer units than planned can be sent: what is named goes in a parcel of its own, which is booked at once. "
    + ONLY_IF_UNCHANGED,
)
async def split_parcel(
    db: Db,
    orders: Orders,
    caller: Caller,
    order_id: UUID,
    parcel: ParcelNumber,
    key: RequiredKey,
    body: Annotated[ParcelSplitBody, Body(openapi_examples=SPLIT_EXAMPLES)],
    response: Response,
    seen: OptionalSeenVersion,
) -> OrderState:
    split = orders.split_parcel(order_id, parcel, body.lines, body.reason, caller, key, seen)
    return await _changed(db, caller, order_id, response, split)


@discounts.get("", summary="List discount codes")
async def list_discounts(db: MayLag, cursor: Cursor = None, limit: Limit = 50) -> Page[UsedDiscountView]:
    return await queries.list_discounts(db, cursor, limit)


@discounts.get("/{code}", summary="Read a discount code")
async def get_discount(db: Db, code: DiscountCode, response: Response) -> UsedDiscountView:
    return tagged(response, await queries.get_discount(db, code))


@discounts.get("/{code}/redemptions", summary="The orders that use a discount code, the newest first")
async def list_redemptions(db: MayLag, code: DiscountCode, cursor: Cursor = None, limit: Limit = 50) -> Page[RedemptionView]:
    return await queries.list_redemptions(db, code, cursor, limit)


@discounts.put(
    "/{code}",
    responses=TERMS_CHANGED,
    summary="Add a discount code, or change its terms",
    description="They hold for orders that are placed from now on. What was used stays used.",
)
async def put_discount(
    db: Db,
    caller: Caller,
    code: DiscountCode,
    body: Annotated[DiscountBody, Body(openapi_examples=DISCOUNT_EXAMPLES)],
    response: Response,
    seen: OptionalSeenVersion,
) -> DiscountView:
    with showing(DiscountView.of):
        discount = await commands.put_discount(db, code, body.terms, seen)
    log.info("discount_put", discount=code, by=str(caller.subject))
    return tagged(response, DiscountView.of(discount))


@discounts.post("/{code}/disable", responses=TERMS_CHANGED, summary="Accept no more orders with a discount code")
async def disable_discount(
    db: Db, caller: Caller, code: DiscountCode, response: Response, seen: OptionalSeenVersion
) -> DiscountView:
    with showing(DiscountView.of):
        discount = await commands.disable_discount(db, code, seen)
    log.info("discount_disabled", discount=code, by=str(caller.subject))
    return tagged(response, DiscountView.of(discount))


@customers.get("/{customer_id}/erasure", summary="How far the orders of a customer are who is to be forgotten")
async def get_erasure(db: Db, customer_id: UUID) -> ErasureProgress:
    return await queries.erasure_of(db, customer_id)


@internal.post("/advance", summary="The saga tells how far an order got")
async def advance_order(db: Db, command: AdvanceOrder) -> OrderAdvanced:
    advanced = await commands.advance_order(db, command)
    log.info("order_status_reached", order_id=command.order_id, status=advanced.status, code=command.code)
    return advanced


@internal_keys.post("/lookup", summary="The keys of customers, wrapped by a master key")
async def look_up_keys(keys: Keys, body: LookUpKeys) -> KeysFound:
    return KeysFound(keys=[*await keys.find(body.customer_ids)])


async def _changed(db: Database, caller: Grant, order_id: UUID, response: Response, change: Awaitable[Reply]) -> Reply:
    """What came of a change. The reply has the ETag of the order after it; who has seen an old version is told what it is now."""
    with showing(partial(queries.as_seen_by, caller)):
        reply = await change
    response.headers["ETag"] = etag(await queries.version_of(db, order_id))
    return reply


def _outcome_of(request: Request, placed: Placed, preference: dict[str, str] | None = None) -> Response:
    """How far the order has come: confirmed, refused, to be paid with another card, or still open."""
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    outcome = placed.outcome
    if outcome and (refusal := outcome.refusal):
        order_id = placed.order.order_id
        log.info("refused", order_id=order_id, code=refusal.code, path=request.url.path, method=request.method)
        status = None
        if not outcome.is_definite:
            status, headers["Location"] = HTTPStatus.PAYMENT_REQUIRED, _location(order_id)
        return problem_response(
            refusal.code, refusal.detail, status=status, instance=request.url.path, extra=refusal.extra, headers=headers
        )
    headers["Location"] = _location(placed.order.order_id)
    if outcome and outcome.is_definite:
        return _json(201, OrderView.confirmed(placed.order, outcome), headers)
    view = CurrentOrderView.of(placed.order)
    return _json(202, view, headers | (preference or {}) | {"ETag": etag(view.version)})


def wants_async(prefer: list[str] | tuple[str, ...]) -> bool:
    """Whether a Prefer header (RFC 7240) asks not to be kept waiting."""
    preferences = ",".join(prefer).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)


def _json(status: int, view: OrderView, headers: dict[str, str]) -> Response:
    return Response(view.model_dump_json(), status, headers, media_type="application/json")


def _location(order_id: UUID) -> str:
    return f"/api/v1/orders/{order_id}"
