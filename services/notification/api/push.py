"""Push messages to browsers: subscriptions, and a page on which a person makes one."""

import base64
import hashlib
from json import dumps
from pathlib import Path
from uuid import UUID

from fastapi import Response
from fastapi.responses import HTMLResponse

from chassis.access import Caller
from chassis.dependencies import Db
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.ids import sample_id
from contracts.paging import Page
from services.notification import commands
from services.notification.access import ACCESS
from services.notification.api.dependencies import Others, Outside
from services.notification.channels import Channel, Deferred, Message, Refused
from services.notification.commands import browsers, people
from services.notification.protocols.webpush import Subscribing, Subscription
from services.notification.schemas import BrowserView, PushKey, PushSubscription, SubscriptionAdded

push = ACCESS.router(prefix="/api/v1/notifications", tags=["notification"])
PAGE = "/api/v1/notifications/push"
_STATIC = Path(__file__).parent / "static"
_STYLE = (_STATIC / "push.css").read_text()
_HTML = (_STATIC / "push.html").read_text().replace("{{ style }}", _STYLE)
_SCRIPT, _WORKER = (_STATIC / "push.js").read_text(), (_STATIC / "sw.js").read_text()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'sha256-{_STYLE_HASH}'; connect-src 'self'; worker-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_SAFE = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


# ── Subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@push.get("/push/key", summary="The key that a browser subscribes with")
async def get_push_key(others: Others) -> PushKey:
    return PushKey(public_key=_subscribing(others).keys.current.public)


@push.post("/push-subscriptions", summary="Send push messages to this browser too", status_code=201)
async def add_push_subscription(db: Db, caller: Caller, request: PushSubscription, others: Others) -> SubscriptionAdded:
    ours = _subscribing(others)
    # Remembered with it: after a change of keys it can be reached with this one alone.
    written = request.as_browser_wrote_it | {"vapid_key": request.vapid_key or ours.keys.current.public}
    try:
        ours.check(Subscription.model_validate(written))
    except ValueError as error:
        raise _invalid("endpoint", f"Nothing can be sent there: {error}.") from error
    return SubscriptionAdded(subscription_id=UUID(await browsers.subscribe(db, caller.subject, request.endpoint, written)))


@push.get("/push-subscriptions", summary="My browsers that push messages go to")
async def list_push_subscriptions(db: Db, caller: Caller) -> Page[BrowserView]:
    """At most ten, so they are all on one page."""
    person = (await commands.people_of(db, [caller.subject])).get(caller.subject)
    return Page(items=[BrowserView.of(each) for each in person.browsers] if person else [])


@push.delete("/push-subscriptions/{subscription_id}", summary="Send no push messages to this browser any more", status_code=204)
async def remove_push_subscription(db: Db, caller: Caller, subscription_id: UUID) -> None:
    await people.remove_browser(db, caller.subject, str(subscription_id))


@push.post("/push-subscriptions/{subscription_id}/test", summary="Send a test message to this browser", status_code=204)
async def test_push_subscription(db: Db, caller: Caller, subscription_id: UUID, others: Others) -> None:
    person = (await commands.people_of(db, [caller.subject])).get(caller.subject)
    subscription = person.browser(str(subscription_id)) if person else None
    if subscription is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such subscription.")
    _subscribing(others)
    await people.take_test(db, caller.subject)
    title, text = "It works", "This is how messages of the shop look on this device."
    sender = others.senders[Channel.PUSH]()
    try:
        await sender.send(Message(sample_id(), Channel.PUSH, dumps(subscription), title, text, url=PAGE))
    except Refused as error:
        if error.gone:
            await browsers.forget_browser(db, caller.subject, str(subscription_id))
            raise Refusal(ErrorCode.NOT_FOUND, "The browser has given up this subscription; subscribe again.") from error
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, f"The push service did not take it: {error}.") from error
    except Deferred as error:
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, "The push service takes nothing at the moment.") from error
    finally:
        await sender.close()


def _subscribing(others: Outside) -> Subscribing:
    if others.subscribing is None:
        raise Refusal(ErrorCode.CHANNEL_UNAVAILABLE, "This shop sends no push messages.")
    return others.subscribing


def _invalid(field: str, detail: str) -> Refusal:
    error = FieldError(field=field, code="value_error", detail=detail)
    return Refusal(
        ErrorCode.VALIDATION_FAILED, "Some fields are not as they must be.", extra={"errors": [error.model_dump(mode="json")]}
    )


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@push.get("/push", summary="The page on which a person allows push messages", include_in_schema=False)
async def show_push_page() -> HTMLResponse:
    return HTMLResponse(_HTML, headers=_SAFE | {"Content-Security-Policy": _POLICY})


@push.get("/push/page.js", summary="What that page does", include_in_schema=False)
async def push_page_script() -> Response:
    return Response(_SCRIPT, media_type="text/javascript", headers=_SAFE)


@push.get("/push/sw.js", summary="The service worker that shows push messages", include_in_schema=False)
async def push_service_worker() -> Response:
    # The page itself is above the worker's folder: it may be in its scope all the same.
    headers = _SAFE | {"Service-Worker-Allowed": PAGE, "Content-Security-Policy": "default-src 'none'"}
    return Response(_WORKER, media_type="text/javascript", headers=headers)
