"""The pages that links in mails lead to. To open one changes nothing, because mail scanners open links; its button does."""

from html import escape
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Query, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from chassis.dependencies import Db
from chassis.origin import ClientOrigin
from chassis.pages import plain_page
from chassis.problems import status_of
from contracts.errors import ErrorCode, Refusal
from services.identity.access import ACCESS
from services.identity.api.dependencies import Hashing
from services.identity.commands import accounts
from services.identity.schemas import ResetRequest

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
                return plain_page("Your e-mail is verified", "You can log in with it from now on.")
            case "password-reset", "confirm":
                wanted = ResetRequest.model_validate({"token": token, "new_password": fields.get("new_password", "")})
                await accounts.reset_password(db, passwords, token, wanted.new_password, origin)
                return plain_page("Your password is changed", "Log in with the new one.")
            case "email-change", "confirm":
                if await accounts.confirm_email_change(db, token, origin):
                    return plain_page("Your e-mail is changed", "Log in with the new address from now on.")
                return plain_page("Thank you", "The change is done as soon as the other address agrees too.")
            case "email-change", "stop":
                await accounts.stop_email_change(db, token)
                return plain_page("The change is stopped", "If you did not ask for it, change your password: somebody knows it.")
            case _:
                return _form(page, token)
    except Refusal as refusal:
        if refusal.code == ErrorCode.VALIDATION_FAILED:
            return _form(page, token, problem=" ".join(error["detail"] for error in refusal.extra["errors"]))
        return plain_page("This does not work", refusal.detail, status=status_of(refusal.code))
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
        return plain_page("There is no such page", "Is the address complete?", status=HTTPStatus.NOT_FOUND)
    title, text, controls = _FORMS[page]
    hidden = f'<input type="hidden" name="token" value="{escape(token)}">'
    form = f'<form method="post" action="/api/v1/auth/links/{page}">{hidden}{controls}</form>'
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return plain_page(title, text, told + form, status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK)
