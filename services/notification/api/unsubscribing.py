"""The page that the unsubscribe link of a mail leads to. To open it changes nothing, because mail scanners open links; its button
does, and so does the one in a mail program (RFC 8058)."""

import base64
import hashlib
from html import escape
from http import HTTPStatus
from typing import Annotated

from fastapi import Query
from fastapi.responses import HTMLResponse

from chassis.dependencies import Db
from chassis.problems import status_of
from contracts.errors import Refusal
from services.notification.access import ACCESS
from services.notification.api.dependencies import SignedLinks
from services.notification.commands import people
from services.notification.kinds import GROUPS
from services.notification.links import LONGEST_TOKEN, PATH

links = ACCESS.router(include_in_schema=False)
_STYLE = """
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: #1d2430; background: #f3f5f8 }
main { max-width: 26rem; margin: 12vh auto 0; padding: 2rem; background: #fff; border-radius: 12px }
h1 { margin: 0 0 .75rem; font-size: 1.35rem }
p { margin: 0 0 1.25rem }
button { width: 100%; padding: .65rem; font: inherit; font-weight: 600; color: #fff; background: #1f5fd0; border: 0;
  border-radius: 8px; cursor: pointer }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address of the page has the token in it
    "X-Content-Type-Options": "nosniff",
}
Token = Annotated[str, Query(max_length=LONGEST_TOKEN)]
_BY = {"email": "by e-mail", "sms": "by SMS", "push": "as push messages", "inbox": "in the inbox"}


@links.get(PATH, summary="The page that an unsubscribe link leads to")
async def show_unsubscribing(signed: SignedLinks, token: Token = "") -> HTMLResponse:
    try:
        what = signed.read(token)
    except Refusal as refusal:
        return _page("This does not work", refusal.detail, status=status_of(refusal.code))
    about = f"“{GROUPS[what.group].about}” will not be sent to you {_BY[what.channel]} any more."
    form = f'<form method="post" action="{PATH}?token={escape(token)}"><button>Unsubscribe</button></form>'
    return _page("Do you want to unsubscribe?", about, form)


@links.post(PATH, summary="The button on it, and the one in a mail program")
async def unsubscribe(db: Db, signed: SignedLinks, token: Token = "") -> HTMLResponse:
    try:
        what = signed.read(token)
        await people.unsubscribe(db, what.person_id, what.group, what.channel)
    except Refusal as refusal:
        return _page("This does not work", refusal.detail, status=status_of(refusal.code))
    about = f"“{GROUPS[what.group].about}” is not sent to you {_BY[what.channel]} any more."
    return _page("You are unsubscribed", f"{about} In your account you can choose it again.")


def _page(title: str, text: str, rest: str = "", *, status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    )
    body = f"<main><h1>{title}</h1><p>{escape(text)}</p>{rest}</main>"
    content = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return HTMLResponse(content, status, _HEADERS)
