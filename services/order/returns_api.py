"""Returns over HTTP: the public endpoints, and the internal ones of their sagas."""

from collections.abc import Awaitable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Query, Response

from chassis.access import Caller, Grant
from chassis.database import Database
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, etag, showing, tagged
from chassis.freshness import MayLag
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, Limit
from contracts.base import ReturnNumber, WarehouseId
from contracts.paging import Page
from contracts.returns import (
    AdvanceReturn,
    PlaceReplacement,
    ReplacementPlaced,
    ReturnAdvanced,
    ReturnRequest,
    ReturnState,
    ReturnStatus,
)
from services.order import returns_queries
from services.order.access import ACCESS
from services.order.commands import ReturnService, advance_return
from services.order.returns_schemas import (
    REASON_EXAMPLES,
    RECEIPT_EXAMPLES,
    RETURN_EXAMPLES,
    PreviewView,
    ReceiptBody,
    ReturnableView,
    ReturnReasonBody,
    ReturnSummary,
    ReturnTimeline,
    ReturnView,
    StaffReturnTimeline,
    StaffReturnView,
    StaleReturn,
)

of_orders = ACCESS.router(prefix="/api/v1/orders", tags=["returns"])
public = ACCESS.router(prefix="/api/v1/returns", tags=["returns"])
internal = ACCESS.router(prefix="/internal/v1/orders/returns", tags=["internal"])

Returns = Annotated[ReturnService, from_app(ReturnService)]
ReasonOf = Annotated[ReturnReasonBody, Body(openapi_examples=REASON_EXAMPLES)]
Wanted = Annotated[ReturnRequest, Body(openapi_examples=RETURN_EXAMPLES)]
CHANGED: dict[int | str, dict[str, Any]] = {
    412: {
        "model": StaleReturn,
        "description": "The return is no longer what `If-Match` says; `current` is what it is now. Nothing was done.",
    }
}
ONLY_IF_UNCHANGED = (
    "With `If-Match`, only if the return still is what you have seen. That is checked first, on its record; whether the change "
    "is possible is then decided by the return's saga, which may know more than the record by then: its word is the last."
)
REQUESTED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Accepted. Whoever repeats the request gets the same return, as it is by then.",
        "headers": {"Idempotent-Replayed": {"description": "`true`: it was asked for before.", "schema": {"type": "string"}}},
    }
}


@of_orders.get("/{order_id}/returnable", summary="What of an order may be returned or claimed now, and until when")
async def list_returnable(returns: Returns, caller: Caller, order_id: UUID) -> ReturnableView:
    return ReturnableView(order_id=order_id, lines=tuple(await returns.returnable(order_id, caller)))


@of_orders.post(
    "/{order_id}/returns",
    status_code=201,
    responses=REQUESTED,
    summary="Return some of an order, exchange it, or claim what was wrong with it",
)
async def request_return(
    returns: Returns, caller: Caller, order_id: UUID, key: RequiredKey, body: Wanted, response: Response
) -> StaffReturnView | ReturnView:
    found, replayed = await returns.request(order_id, body, caller, key)
    response.headers["Location"] = f"/api/v1/orders/{order_id}/returns/{found.number}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return tagged(response, returns_queries.as_seen_by(caller, found))


@of_orders.post("/{order_id}/returns/preview", summary="What a return would come to")
async def preview_return(returns: Returns, caller: Caller, order_id: UUID, body: Wanted) -> PreviewView:
    """Nothing is written. The sums are those of now, if all of it came in good condition."""
    return PreviewView.of(await returns.preview(order_id, body, caller))


@of_orders.get("/{order_id}/returns", summary="The returns of an order, the first one first")
async def list_returns_of_order(db: Db, caller: Caller, order_id: UUID) -> Page[ReturnSummary]:
    return await returns_queries.list_of_order(db, order_id, caller)


@public.get("", summary="List returns, newest first")
async def list_returns(
    db: MayLag,
    caller: Caller,
    status: ReturnStatus | None = None,
    customer_id: UUID | None = None,
    warehouse_id: Annotated[WarehouseId | None, Query(description="Where the goods are expected, or came to.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ReturnSummary]:
    return await returns_queries.list_returns(
        db, caller, status=status, customer_id=customer_id, warehouse_id=warehouse_id, cursor=cursor, limit=limit
    )


@of_orders.get("/{order_id}/returns/{number}", summary="Read a return")
async def get_return(
    db: Db, returns: Returns, caller: Caller, order_id: UUID, number: ReturnNumber, response: Response
) -> StaffReturnView | ReturnView:
    return tagged(response, await returns_queries.get_return(db, returns.sagas, order_id, number, caller))


@of_orders.get("/{order_id}/returns/{number}/timeline", summary="What happened to a return")
async def get_return_timeline(
    db: Db, returns: Returns, caller: Caller, order_id: UUID, number: ReturnNumber
) -> StaffReturnTimeline | ReturnTimeline:
    return await returns_queries.get_timeline(db, returns.sagas, order_id, number, caller)


@of_orders.post(
    "/{order_id}/returns/{number}/approve", responses=CHANGED, summary="Approve a return", description=ONLY_IF_UNCHANGED
)
async def approve_return(
    db: Db,
    returns: Returns,
    caller: Caller,
    order_id: UUID,
    number: ReturnNumber,
    body: ReasonOf,
    response: Response,
    seen: OptionalSeenVersion,
) -> ReturnState:
    decision = returns.decide(order_id, number, True, body.reason, caller, seen)
    return await _changed(db, caller, order_id, number, response, decision)


@of_orders.post(
    "/{order_id}/returns/{number}/reject", responses=CHANGED, summary="Reject a return", description=ONLY_IF_UNCHANGED
)
async def reject_return(
    db: Db,
    returns: Returns,
    caller: Caller,
    order_id: UUID,
    number: ReturnNumber,
    body: ReasonOf,
    response: Response,
    seen: OptionalSeenVersion,
) -> ReturnState:
    decision = returns.decide(order_id, number, False, body.reason, caller, seen)
    return await _changed(db, caller, order_id, number, response, decision)


@of_orders.post(
    "/{order_id}/returns/{number}/cancel",
    responses=CHANGED,
    summary="Call a return off, before anything came",
    description=ONLY_IF_UNCHANGED,
)
async def cancel_return(
    db: Db,
    returns: Returns,
    caller: Caller,
    order_id: UUID,
    number: ReturnNumber,
    body: ReasonOf,
    response: Response,
    seen: OptionalSeenVersion,
) -> ReturnState:
    change = returns.cancel(order_id, number, body.reason, caller, seen)
    return await _changed(db, caller, order_id, number, response, change)


@of_orders.post(
    "/{order_id}/returns/{number}/receive",
    responses=CHANGED,
    summary="Say what of a return has come, and how",
    description="Once for a return: what is not named has not come, and may be returned anew. " + ONLY_IF_UNCHANGED,
)
async def receive_return(
    db: Db,
    returns: Returns,
    caller: Caller,
    order_id: UUID,
    number: ReturnNumber,
    key: RequiredKey,
    body: Annotated[ReceiptBody, Body(openapi_examples=RECEIPT_EXAMPLES)],
    response: Response,
    seen: OptionalSeenVersion,
) -> ReturnState:
    receipt = returns.receive(
        order_id, number, tuple(body.lines), body.warehouse_id, body.reason, caller=caller, key=key, seen=seen
    )
    return await _changed(db, caller, order_id, number, response, receipt)


@internal.post("/advance", summary="The saga of a return tells how far it got")
async def tell_return(db: Db, command: AdvanceReturn) -> ReturnAdvanced:
    return await advance_return(db, command)


@internal.post("/replace", summary="Place the order that a return brings")
async def place_replacement(returns: Returns, command: PlaceReplacement) -> ReplacementPlaced:
    return await returns.replace(command)


async def _changed(
    db: Database, caller: Grant, order_id: UUID, number: int, response: Response, change: Awaitable[ReturnState]
) -> ReturnState:
    """What came of a change. The reply has the ETag of the return after it; who saw an old version is told what it is now."""
    with showing(partial(returns_queries.as_seen_by, caller)):
        reply = await change
    response.headers["ETag"] = etag(await returns_queries.version_of(db, order_id, number))
    return reply
