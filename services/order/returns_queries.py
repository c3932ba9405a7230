"""Reads of returns: from their record, and from their sagas what only those know."""

from typing import Any, Literal
from uuid import UUID

from sqlalchemy import tuple_
from sqlalchemy.orm import defer
from sqlmodel import col, select

from chassis.access import Grant
from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts.paging import Page
from contracts.returns import FINAL_RETURN_STATUSES, ReturnState, ReturnStatus
from services.order.commands.returns import find_return, with_returns
from services.order.model import Return, return_within_reach
from services.order.queries import in_time
from services.order.returns_schemas import (
    ReturnSummary,
    ReturnTimeline,
    ReturnTimelineItem,
    ReturnView,
    StaffReturnTimeline,
    StaffReturnTimelineItem,
    StaffReturnView,
)
from temporal.returns import ReturnSagas

_NOT_LISTED: tuple[Any, ...] = (Return.history, Return.run, Return.came, Return.settlement, Return.estimate, Return.exchange_for)
"""A list does not load what no item of it shows."""


async def get_return(
    database: Database, sagas: ReturnSagas, order_id: UUID, number: int, caller: Grant
) -> StaffReturnView | ReturnView:
    """The return as the caller may see it. Refusal: not_found."""
    found = return_within_reach(await find_return(database, order_id, number), caller)
    asks_saga = _is_staff_of(found, caller) and not found.is_over
    return as_seen_by(caller, found, await in_time(sagas.state(order_id, number)) if asks_saga else None)


def as_seen_by(caller: Grant, found: Return, state: ReturnState | None = None) -> StaffReturnView | ReturnView:
    """The return as the caller may see it; to staff with what its saga tells, if that was asked."""
    return StaffReturnView.of_saga(found, state) if _is_staff_of(found, caller) else ReturnView.of(found)


async def list_of_order(database: Database, order_id: UUID, caller: Grant) -> Page[ReturnSummary]:
    """All returns of an order, by number: there are at most 20. Refusal: not_found."""
    _, returns = await with_returns(database, order_id, caller)
    return Page(items=[*map(ReturnSummary.of, returns)], next_cursor=None)


@may_lag
async def list_returns(
    database: Reader,
    caller: Grant,
    *,
    status: ReturnStatus | None,
    customer_id: UUID | None,
    warehouse_id: str | None,
    cursor: str | None,
    limit: int,
) -> Page[ReturnSummary]:
    """Returns within the caller's reach, newest first. Refusal: invalid_cursor."""
    place = tuple_(col(Return.requested_at), col(Return.order_id), col(Return.number))
    newest = (col(Return.requested_at).desc(), col(Return.order_id).desc(), col(Return.number).desc())
    query = select(Return).order_by(*newest).limit(limit + 1)
    query = query.options(*[defer(column, raiseload=True) for column in _NOT_LISTED])
    query = query.where(caller.rows(owner=col(Return.customer_id), warehouse=col(Return.warehouse_id)))
    after = decode_cursor(cursor, KeyPart.TIME, KeyPart.ID, KeyPart.NUMBER)
    if after:
        query = query.where(place < after)
    if status:
        query = query.where(Return.status == status)
    if customer_id:
        query = query.where(Return.customer_id == customer_id)
    if warehouse_id:
        query = query.where(Return.warehouse_id == warehouse_id)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, ReturnSummary.of, lambda row: (row.requested_at.isoformat(), row.order_id, row.number))


async def newest_returns(database: Database, status: ReturnStatus | None, limit: int = 200) -> list[Return]:
    """Returns in this status, the newest first; None: all that are open."""
    query = select(Return).order_by(col(Return.requested_at).desc()).limit(limit)
    statuses = [status] if status else [each for each in ReturnStatus if each not in FINAL_RETURN_STATUSES]
    async with database.reading() as session:
        return list((await session.exec(query.where(col(Return.status).in_(statuses)))).all())


async def get_timeline(
    database: Database, sagas: ReturnSagas, order_id: UUID, number: int, caller: Grant
) -> StaffReturnTimeline | ReturnTimeline:
    """What happened to a return, as the caller may know it. Refusal: not_found."""
    found = return_within_reach(await find_return(database, order_id, number), caller)
    of_saga = await in_time(sagas.timeline(order_id, number))
    source: Literal["workflow", "history"] = "history" if of_saga is None else "workflow"
    entries = found.timeline() if of_saga is None else of_saga
    if _is_staff_of(found, caller):
        items = tuple(map(StaffReturnTimelineItem.of, entries))
        return StaffReturnTimeline(order_id=order_id, number=number, source=source, entries=items)
    return ReturnTimeline(order_id=order_id, number=number, source=source, entries=tuple(map(ReturnTimelineItem.of, entries)))


async def version_of(database: Database, order_id: UUID, number: int) -> int:
    """The version of a return that exists."""
    async with database.reading() as session:
        query = select(Return.version).where(Return.order_id == order_id, Return.number == number)
        return (await session.exec(query)).one()


def _is_staff_of(found: Return, caller: Grant) -> bool:
    """Whether the caller sees the return as staff: nobody does one of their own."""
    return caller.is_staff and caller.subject != found.customer_id
