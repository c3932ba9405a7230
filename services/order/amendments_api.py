"""Amendments over HTTP."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Response

from chassis.access import Caller, Grant
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, etag, showing
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, KeyPart, Limit, decode_cursor, page_of
from contracts.orders import AmendmentRequest, AmendmentTerms
from contracts.paging import Page
from services.order import queries
from services.order.access import ACCESS
from services.order.amendments_schemas import (
    AMEND_EXAMPLES,
    PREVIEW_EXAMPLES,
    AmendmentPreview,
    AmendmentView,
    StaffAmendmentView,
)
from services.order.commands import AmendmentService
from services.order.commands.amendment_records import amendments_of
from services.order.commands.records import order_for
from services.order.model import Order, OrderAmendment
from services.order.model.amending import AmendmentStatus
from services.order.schemas import StaleOrder

router = ACCESS.router(prefix="/api/v1/orders", tags=["amendments"])
Amendments = Annotated[AmendmentService, from_app(AmendmentService)]
AMENDED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Carried out. Whoever repeats the request is told the same; so is who was refused.",
        "headers": {
            "Idempotent-Replayed": {"description": "`true`: it was answered before.", "schema": {"type": "string"}},
        },
    },
    202: {
        "model": AmendmentView,
        "description": "Accepted, and still being carried out, or undone. `Location` is where to see what comes of it.",
    },
    412: {
        "model": StaleOrder,
        "description": "The order is no longer what `If-Match` says; `current` is what it is now. Nothing was done.",
    },
}


@router.post("/{order_id}/amendments/preview", summary="What an amendment of an order would come to")
async def preview_amendment(
    amendments: Amendments,
    caller: Caller,
    order_id: UUID,
    body: Annotated[AmendmentTerms, Body(openapi_examples=PREVIEW_EXAMPLES)],
) -> AmendmentPreview:
    """Nothing is written. The order is priced as a whole: lines that it has keep their price, new ones have the catalogue's;
    shipping and tax are today's of where it goes."""
    return AmendmentPreview.of(await amendments.preview(order_id, body, caller))


@router.post(
    "/{order_id}/amendments",
    status_code=201,
    responses=AMENDED,
    summary="Amend an order before anything of it has left: all of it, or nothing",
)
async def amend_order(
    db: Db,
    amendments: Amendments,
    caller: Caller,
    order_id: UUID,
    key: RequiredKey,
    body: Annotated[AmendmentRequest, Body(openapi_examples=AMEND_EXAMPLES)],
    response: Response,
    seen: OptionalSeenVersion,
) -> StaffAmendmentView | AmendmentView:
    """Units, lines, address and speed. What is needed in addition is reserved and held first, then the labels that change are
    called off: the carrier decides whether the warehouse was faster. Whatever is refused, the order is as before. With
    `If-Match`, only if the order still is what you have seen; that is not asked of a request that is repeated."""
    with showing(partial(queries.as_seen_by, caller)):
        amendment, replayed = await amendments.amend(order_id, body, caller, key, seen)
    response.headers["Location"] = f"/api/v1/orders/{order_id}/amendments"
    response.headers["ETag"] = etag(await queries.version_of(db, order_id))
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    if amendment.status == AmendmentStatus.ASKED:
        response.status_code = 202
    return _as_seen_by(caller, await order_for(db, order_id, caller), amendment)


@router.get("/{order_id}/amendments", summary="The amendments of an order, the newest first")
async def list_amendments(
    db: Db, caller: Caller, order_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[StaffAmendmentView | AmendmentView]:
    order = await order_for(db, order_id, caller)
    before = decode_cursor(cursor, KeyPart.NUMBER)
    found = [each for each in reversed(await amendments_of(db, order_id)) if before is None or each.number < before[0]]
    return page_of(found[: limit + 1], limit, partial(_as_seen_by, caller, order), lambda row: (row.number,))


def _as_seen_by(caller: Grant, order: Order, amendment: OrderAmendment) -> StaffAmendmentView | AmendmentView:
    is_staff = caller.is_staff and caller.subject != order.customer_id
    return StaffAmendmentView.of(amendment) if is_staff else AmendmentView.of(amendment)
