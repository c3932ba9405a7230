"""The pages that links in mails lead to. To open one changes nothing, because mail scanners open links; its button does."""

import base64
import hashlib
from html import escape
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Query, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from chassis.dependencies import Db
from chassis.origin import ClientOrigin
from chassis.problems import status_of
from contracts.errors import ErrorCode, Refusal
from services.identity.access import ACCESS
from services.identity.api.dependencies import Hashing
from services.identity.commands import accounts
from services.identity.schemas import ResetRequest

_STYLE = """
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: #1d2430; background: #f3f5f8 }
main { max-width: 26rem; margin: 12vh auto 0; padding: 2rem; background: #fff; border-radius: 12px }
h1 { margin: 0 0 .75rem; font-size: 1.35rem }
p { margin: 0 0 1.25rem }
.problem { padding: .6rem .8rem; color: #8c1d18; background: #fdecea; border-radius: 8px }
label { display: block; margin-bottom: 1.25rem; font-weight: 600 }
input, button { box-sizing: border-box; width: 100%; padding: .65rem; font: inherit; border-radius: 8px }
input { margin-top: .35rem; border: 1px solid #8a94a6 }
button { margin-bottom: .6rem; font-weight: 600; color: #fff; background: #1f5fd0; border: 0; cursor: pointer }
button[value=stop] { color: #8c1d18; background: #fdecea }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address of the page has the token in it
    "X-Content-Type-Options": "nosniff",
}
_CONFIRM = '<button name="action" value="confirm">{}</button>'
_STOP = '<button name="action" value="stop">Stop it: this was not me</button>'
_CHOOSE = (
    '<label>New password (10 characters or more)<input type="password" name="new_password" minlength="10" maxlength="128" '
    'autocomplete="new-password" required autofocus></label>'
)
_FORMS = {
    "verify-email": ("Verify your e-mail", "Press the button to confirm that this address is yours.", _CONFIRM.format("Verify")),
    "password-reset": (
        "Choose a new password",
        "You will be logged out everywhere and can then log in with it.",
        _CHOOSE + _CONFIRM.format("Set the password"),
    ),
    "email-change": (
        "Change your e-mail",
        "Both your present and your new address have to agree. Only the present one can stop the change.",
        _CONFIRM.format("I agree to the change") + _STOP,
    ),
}

links = ACCESS.router(prefix="/api/v1/auth/links", include_in_schema=False)


@links.get("/{page}", summary="The page that a link in a mail leads to")
async def show(page: str, token: Annotated[str, Query(max_length=100)] = "") -> HTMLResponse:
    return _form(page, token)


@links.post("/{page}", summary="The button on it")
async def submit(page: str, request: Request, db: Db, passwords: Hashing, origin: ClientOrigin) -> HTMLResponse:
    fields = await _fields(request)
    token = fields.get("token", "")
    try:
        match page, fields.get("action"):
            case "verify-email", "confirm":
                await accounts.verify_email(db, token)
                return _page("Your e-mail is verified", "You can log in with it from now on.")
            case "password-reset", "confirm":
                wanted = ResetRequest.model_validate({"token": token, "new_password": fields.get("new_password", "")})
                await accounts.reset_password(db, passwords, token, wanted.new_password, origin)
                return _page("Your password is changed", "Log in with the new one.")
            case "email-change", "confirm":
                if await accounts.confirm_email_change(db, token, origin):
                    return _page("Your e-mail is changed", "Log in with the new address from now on.")
                return _page("Thank you", "The change is done as soon as the other address agrees too.")
            case "email-change", "stop":
                await accounts.stop_email_change(db, token)
                return _page("The change is stopped", "If you did not ask for it, change your password: somebody knows it.")
            case _:
                return _form(page, token)
    except Refusal as refusal:
        if refusal.code == ErrorCode.VALIDATION_FAILED:
            return _form(page, token, problem=" ".join(error["detail"] for error in refusal.extra["errors"]))
        return _page("This does not work", refusal.detail, status=status_of(refusal.code))
    except ValidationError:
        return _form(page, token, problem="A password has 10 to 128 characters.")


async def _fields(request: Request) -> dict[str, str]:
    """The fields of a submitted form, each once."""
    try:
        found = parse_qs((await request.body()).decode("ascii"), max_num_fields=10)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _form(page: str, token: str, problem: str = "") -> HTMLResponse:
    if page not in _FORMS:
        return _page("There is no such page", "Is the address complete?", status=HTTPStatus.NOT_FOUND)
    title, text, controls = _FORMS[page]
    hidden = f'<input type="hidden" name="token" value="{escape(token)}">'
    form = f'<form method="post" action="/api/v1/auth/links/{page}">{hidden}{controls}</form>'
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return _page(title, text, told + form, status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK)


def _page(title: str, text: str, rest: str = "", *, status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    )
    body = f"<main><h1>{title}</h1><p>{escape(text)}</p>{rest}</main>"
    content = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return HTMLResponse(content, status, _HEADERS)
