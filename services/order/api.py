"""Orders over HTTP: the public endpoints, and the internal one of the saga."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Header, Request, Response
from pydantic import Field

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.freshness import MayLag
from chassis.idempotency import RequiredKey
from chassis.logs import logger
from chassis.paging import Cursor, Limit
from chassis.problems import problem_response
from contracts.orders import AdvanceOrder, CancelReply, OrderAdvanced, OrderProgress, OrderState, OrderStatus, PlaceOrderRequest
from contracts.paging import Page
from services.order import commands, queries
from services.order.access import ACCESS
from services.order.commands import OrderService
from services.order.schemas import (
    CANCEL_EXAMPLES,
    DECISION_EXAMPLES,
    PARCEL_DECISION_EXAMPLES,
    PLACE_EXAMPLES,
    OrderSummary,
    OrderTimeline,
    OrderView,
    ParcelDecisionBody,
    ReasonBody,
    StaffOrderTimeline,
    StaffOrderView,
)

log = logger(__name__)
public = ACCESS.router(prefix="/api/v1/orders", tags=["orders"])
internal = ACCESS.router(prefix="/internal/v1/orders", tags=["internal"])


Orders = Annotated[OrderService, from_app(OrderService)]
ReasonOfCancel = Annotated[ReasonBody, Body(openapi_examples=CANCEL_EXAMPLES)]
ReasonOfDecision = Annotated[ReasonBody, Body(openapi_examples=DECISION_EXAMPLES)]
DecisionOfParcel = Annotated[ParcelDecisionBody, Body(openapi_examples=PARCEL_DECISION_EXAMPLES)]
PLACED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Confirmed. Whoever repeats the request is told the same, word for word; so is who was refused.",
        "headers": {
            "Idempotent-Replayed": {"description": "`true`: the outcome was known before.", "schema": {"type": "string"}}
        },
    },
    202: {
        "model": OrderView,
        "description": "Accepted, outcome still open: it takes longer, is held for review, or the client did not want to wait. "
        "`Location` is where to ask again.",
    },
}
STILL_BEING_SETTLED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": OrderProgress,
        "description": "Accepted, and still being settled. `Location` is where to see how it ends.",
    }
}


@public.post("", status_code=201, response_model=OrderView, responses=PLACED, summary="Place an order")
async def place_order(
    request: Request,
    response: Response,
    orders: Orders,
    caller: Caller,
    key: RequiredKey,
    body: Annotated[PlaceOrderRequest, Body(openapi_examples=PLACE_EXAMPLES)],
    prefer: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None,
        Header(max_length=10, description="`respond-async`: do not wait for the outcome."),
    ] = None,
) -> OrderView | Response:
    respond_async = wants_async(prefer or ())
    placed = await orders.place(body, caller, key, respond_async=respond_async)
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    if placed.outcome and (refusal := placed.outcome.refusal):
        log.info("refused", code=refusal.code, path=request.url.path, method=request.method)
        return problem_response(refusal.code, refusal.detail, instance=request.url.path, extra=refusal.extra, headers=headers)
    response.headers.update(headers | {"Location": _location(placed.order.order_id)})
    if placed.outcome and placed.outcome.is_definite:
        return OrderView.confirmed(placed.order, placed.outcome)
    response.status_code = 202
    if respond_async:
        response.headers["Preference-Applied"] = "respond-async"
    return OrderView.of(placed.order)


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
async def get_order(db: Db, orders: Orders, caller: Caller, order_id: UUID) -> StaffOrderView | OrderView:
    return await queries.get_order(db, orders.sagas, order_id, caller)


@public.get("/{order_id}/timeline", summary="What happened to an order")
async def get_timeline(db: Db, orders: Orders, caller: Caller, order_id: UUID) -> StaffOrderTimeline | OrderTimeline:
    return await queries.get_timeline(db, orders.sagas, order_id, caller)


@public.post("/{order_id}/cancel", responses=STILL_BEING_SETTLED, summary="Cancel an order before it is dispatched")
async def cancel_order(
    orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfCancel, response: Response
) -> CancelReply | OrderProgress:
    reply = await orders.cancel(order_id, body.reason, caller)
    if isinstance(reply, OrderProgress):
        response.status_code = 202
        response.headers["Location"] = _location(order_id)
    return reply


@public.post("/{order_id}/approve", summary="Approve an order that is held for review")
async def approve_order(orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfDecision) -> OrderState:
    return await orders.decide(order_id, True, body.reason, caller)


@public.post("/{order_id}/reject", summary="Reject an order that is held for review")
async def reject_order(orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfDecision) -> OrderState:
    return await orders.decide(order_id, False, body.reason, caller)


@public.post("/{order_id}/parcel-decision", summary="Decide about a parcel that does not arrive")
async def decide_parcel(orders: Orders, caller: Caller, order_id: UUID, body: DecisionOfParcel) -> OrderState:
    return await orders.decide_parcel(order_id, body.choice, body.reason, caller)


@internal.post("/advance", summary="The saga tells how far an order got")
async def advance_order(db: Db, command: AdvanceOrder) -> OrderAdvanced:
    return await commands.advance_order(db, command)


def wants_async(prefer: list[str] | tuple[str, ...]) -> bool:
    """Whether a Prefer header (RFC 7240) asks not to be kept waiting."""
    preferences = ",".join(prefer).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)


def _location(order_id: UUID) -> str:
    return f"/api/v1/orders/{order_id}"
