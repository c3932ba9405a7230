"""Notification over HTTP: the public endpoints, and where the saga queues mails."""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import Response

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.etags import SeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from contracts.notifications import NotificationKind, NotificationQueued, SendNotification
from contracts.paging import Page
from services.notification import commands, queries
from services.notification.access import ACCESS
from services.notification.model import NotificationStatus
from services.notification.schemas import NotificationView, TemplateRequest, TemplateView

public = ACCESS.router(prefix="/api/v1", tags=["notification"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


Wake = Annotated[asyncio.Event, from_app(asyncio.Event)]
"""Set it, and the mails that are due are sent at once."""


@public.get("/notifications", summary="List mails, newest first")
async def list_notifications(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    status: NotificationStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[NotificationView]:
    return await queries.list_notifications(db, caller, order_id=order_id, status=status, cursor=cursor, limit=limit)


@public.get("/notifications/{notification_id}", summary="What became of one mail")
async def get_notification(db: Db, caller: Caller, notification_id: UUID) -> NotificationView:
    return await queries.get_notification(db, caller, notification_id)


@public.get("/notification-templates", summary="List the texts of mails")
async def list_templates(db: MayLag, cursor: Cursor = None, limit: Limit = 50) -> Page[TemplateView]:
    return await queries.list_templates(db, cursor, limit)


@public.get("/notification-templates/{kind}", summary="The text of one kind of mail")
async def get_template(db: Db, kind: NotificationKind, response: Response) -> TemplateView:
    return tagged(response, await queries.get_template(db, kind))


@public.put("/notification-templates/{kind}", summary="Replace the text of one kind of mail")
async def put_template(
    db: Db, kind: NotificationKind, request: TemplateRequest, seen: SeenVersion, response: Response
) -> TemplateView:
    with showing(TemplateView.of):
        template = await commands.edit_template(db, kind, subject=request.subject, body=request.body, seen=seen)
    return tagged(response, TemplateView.of(template))


@internal.post("/notifications", summary="Queue a mail")
async def send_notification(db: Db, wake: Wake, command: SendNotification) -> NotificationQueued:
    queued = await commands.send_notification(db, command)
    wake.set()
    return queued
