"""Notification over HTTP. Customers see their own mails; staff all, and the templates; internal endpoints are for the saga."""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from chassis.dependencies import Db
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller, require
from contracts.identity import Role
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from contracts.paging import Page
from services.notification import commands, queries
from services.notification.model import NotificationStatus
from services.notification.schemas import NotificationView, TemplateRequest, TemplateView

STAFF = require(Role.SUPPORT, Role.ADMIN)
ADMIN = require(Role.ADMIN)
IfMatch = Annotated[
    str, Header(alias="If-Match", pattern=r'^"\d{1,9}"$', description="The ETag that you have seen.", examples=['"3"'])
]

public = APIRouter(prefix="/api/v1", tags=["notification"])
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[require(Role.SERVICE)])


async def _wake(request: Request) -> asyncio.Event:
    wake: asyncio.Event = request.app.state.wake
    return wake


Wake = Annotated[asyncio.Event, Depends(_wake)]


@public.get("/notifications", summary="List mails, newest first: my own; for staff all")
async def list_notifications(
    db: Db,
    caller: Caller,
    order_id: UUID | None = None,
    status: NotificationStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[NotificationView]:
    owner = None if caller.is_staff else caller.subject
    return await queries.list_notifications(db, customer_id=owner, order_id=order_id, status=status, cursor=cursor, limit=limit)


@public.get("/notifications/{notification_id}", summary="What became of one mail")
async def get_notification(db: Db, caller: Caller, notification_id: UUID) -> NotificationView:
    view = await queries.get_notification(db, notification_id)
    if not caller.is_staff and caller.subject != view.customer_id:
        raise queries.unknown_notification()
    return view


@public.get("/notification-templates", dependencies=[STAFF], summary="List the texts of mails")
async def list_templates(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[TemplateView]:
    return await queries.list_templates(db, cursor, limit)


@public.get("/notification-templates/{kind}", dependencies=[STAFF], summary="The text of one kind of mail")
async def get_template(db: Db, kind: NotificationKind, response: Response) -> TemplateView:
    return _tagged(response, await queries.get_template(db, kind))


@public.put("/notification-templates/{kind}", dependencies=[ADMIN], summary="Replace the text of one kind of mail")
async def put_template(
    db: Db, kind: NotificationKind, request: TemplateRequest, if_match: IfMatch, response: Response
) -> TemplateView:
    version = int(if_match.strip('"'))
    return _tagged(response, await commands.edit_template(db, kind, request, version=version))


@internal.post("/notifications", summary="Queue a mail")
async def send_notification(db: Db, wake: Wake, command: SendNotification) -> NotificationQueued:
    queued = await commands.send_notification(db, command)
    wake.set()
    return queued


def _tagged(response: Response, template: TemplateView) -> TemplateView:
    response.headers["ETag"] = f'"{template.version}"'
    return template
