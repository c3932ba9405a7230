"""Orders over HTTP. Public endpoints are for customers and staff; internal ones for the saga."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Request, Response
from pydantic import Field

from chassis.dependencies import Db
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller, require
from contracts.identity import Role
from contracts.orders import AdvanceOrder, CancelReply, OpenOrder, OrderProgress, OrderStatus, PlaceOrderRequest
from contracts.paging import Page
from services.order import commands, queries
from services.order.schemas import (
    CANCEL_EXAMPLES,
    DECISION_EXAMPLES,
    PLACE_EXAMPLES,
    OrderSummary,
    OrderTimeline,
    OrderView,
    ReasonBody,
)
from services.order.service import OrderService

PERSON = require(Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE, Role.ADMIN)
OPERATOR = require(Role.SUPPORT, Role.ADMIN)

public = APIRouter(prefix="/api/v1/orders", tags=["orders"])
internal = APIRouter(prefix="/internal/v1/orders", tags=["internal"], dependencies=[require(Role.SERVICE)])


async def orders_of(request: Request) -> OrderService:
    """The order service, as app.py put it into `app.state.orders`."""
    orders: OrderService = request.app.state.orders
    return orders


Orders = Annotated[OrderService, Depends(orders_of)]
ReasonOfCancel = Annotated[ReasonBody, Body(openapi_examples=CANCEL_EXAMPLES)]
ReasonOfDecision = Annotated[ReasonBody, Body(openapi_examples=DECISION_EXAMPLES)]
STILL_GOING_ON: dict[int | str, dict[str, Any]] = {
    202: {
        "model": OrderView,
        "description": "Accepted, outcome still open: it takes longer, is held for review, or the client did not want to wait. "
        "`Location` is where to ask again.",
    }
}


@public.post("", status_code=201, dependencies=[PERSON], responses=STILL_GOING_ON, summary="Place an order")
async def place_order(
    orders: Orders,
    caller: Caller,
    key: RequiredKey,
    response: Response,
    body: Annotated[PlaceOrderRequest, Body(openapi_examples=PLACE_EXAMPLES)],
    prefer: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None,
        Header(max_length=10, description="`respond-async`: do not wait for the outcome."),
    ] = None,
) -> OrderView:
    respond_async = wants_async(prefer or ())
    placed = await orders.place(body, caller, key, respond_async=respond_async)
    response.headers["Location"] = f"/api/v1/orders/{placed.order.order_id}"
    if not placed.confirmed:
        response.status_code = 202
        if respond_async:
            response.headers["Preference-Applied"] = "respond-async"
    return placed.order


@public.get("", summary="List orders, newest first")
async def list_orders(
    db: Db,
    caller: Caller,
    status: OrderStatus | None = None,
    customer_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OrderSummary]:
    return await queries.list_orders(db, caller=caller, customer_id=customer_id, status=status, cursor=cursor, limit=limit)


@public.get("/{order_id}", summary="Read an order")
async def get_order(db: Db, caller: Caller, order_id: UUID) -> OrderView:
    return OrderView.of(await queries.get_order(db, order_id, caller), caller)


@public.get("/{order_id}/timeline", summary="What happened to an order")
async def get_timeline(orders: Orders, caller: Caller, order_id: UUID) -> OrderTimeline:
    return await orders.timeline(order_id, caller)


@public.post("/{order_id}/cancel", summary="Cancel an order before it is dispatched")
async def cancel_order(orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfCancel) -> CancelReply:
    return await orders.cancel(order_id, body.reason, caller)


@public.post("/{order_id}/approve", status_code=202, dependencies=[OPERATOR], summary="Approve an order that is held for review")
async def approve_order(orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfDecision) -> OrderProgress:
    return await orders.decide(order_id, True, body.reason, caller)


@public.post("/{order_id}/reject", status_code=202, dependencies=[OPERATOR], summary="Reject an order that is held for review")
async def reject_order(orders: Orders, caller: Caller, order_id: UUID, body: ReasonOfDecision) -> OrderProgress:
    return await orders.decide(order_id, False, body.reason, caller)


@internal.post("/open", summary="The saga opens an order")
async def open_order(db: Db, command: OpenOrder) -> OrderProgress:
    return await commands.open_order(db, command)


@internal.post("/advance", summary="The saga tells how far an order got")
async def advance_order(db: Db, command: AdvanceOrder) -> OrderProgress:
    return await commands.advance_order(db, command)


def wants_async(prefer: list[str] | tuple[str, ...]) -> bool:
    """Whether a Prefer header (RFC 7240) asks not to be kept waiting."""
    preferences = ",".join(prefer).split(",")
    return any(preference.partition(";")[0].strip().lower() == "respond-async" for preference in preferences)
