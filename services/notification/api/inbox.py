"""The in-app inbox, also live."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.paging import Cursor, Limit
from chassis.tokens import TokenVerifier, bearer
from services.notification.access import ACCESS
from services.notification.api.dependencies import LiveInbox
from services.notification.commands import people
from services.notification.queries import inbox as queries
from services.notification.schemas import InboxPage, ReadAll

inbox = ACCESS.router(prefix="/api/v1/notifications/inbox", tags=["notification"])
Verifier = Annotated[TokenVerifier, from_app(TokenVerifier)]
Token = Annotated[HTTPAuthorizationCredentials, Depends(bearer)]
_DESCRIPTION = """Server-sent events: `notification` with an item of the inbox, its `id` being the notification's. Who comes
back sends the last one as `Last-Event-ID` and gets what came since. The stream ends after some minutes, or with the login; then
come back. An item may come twice: its id tells."""


@inbox.get("", summary="What I am told in the shop's own pages, newest first")
async def list_inbox(db: Db, caller: Caller, unread: bool = False, cursor: Cursor = None, limit: Limit = 50) -> InboxPage:
    return await queries.list_inbox(db, caller, unread=unread, cursor=cursor, limit=limit)


@inbox.get(
    "/stream",
    summary="The same, live",
    description=_DESCRIPTION,
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_inbox(
    caller: Caller,
    live: LiveInbox,
    verifier: Verifier,
    token: Token,
    last_event_id: Annotated[UUID | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    async def is_valid() -> None:
        await verifier.verify(token.credentials)

    events = await live.follow(caller, last_event_id, is_valid)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@inbox.post("/{notification_id}/read", summary="Mark as read", status_code=204)
async def mark_read(db: Db, caller: Caller, notification_id: UUID) -> None:
    await queries.in_inbox(db, caller, notification_id)
    await people.mark_read(db, caller.subject, notification_id)


@inbox.post("/read-all", summary="Mark everything as read, or up to some notification", status_code=204)
async def read_all(db: Db, caller: Caller, request: ReadAll) -> None:
    up_to = await queries.newest(db, caller)
    if request.up_to is not None:
        up_to = (await queries.in_inbox(db, caller, request.up_to)).notification_id
    if up_to is not None:
        await people.read_all(db, caller.subject, up_to)
