"""What no request may hold, refused before an endpoint sees it: control characters in the address, what is no JSON, too much."""

from urllib.parse import unquote_plus

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import problem_response
from contracts.base import has_controls
from contracts.errors import ErrorCode, Refusal


class PlainInput:
    """ASGI middleware. Refusals: malformed_request, payload_too_large.

    Python's own JSON parser takes NaN, Infinity and halves of surrogate pairs, which neither a response nor PostgreSQL can hold.
    FastAPI's own limit of bodies answers in plain text.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app, self._max_body = app, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if has_controls(scope["path"]) or has_controls(unquote_plus(scope["query_string"].decode("latin-1"))):
            refusal = problem_response(ErrorCode.MALFORMED_REQUEST, "The address has a control character in it.")
            await refusal(scope, receive, send)
        elif length.isdecimal() and (len(length) > 9 or int(length) > self._max_body):
            await problem_response(ErrorCode.PAYLOAD_TOO_LARGE, _TOO_LARGE)(scope, receive, send)
        else:
            is_json = "json" in headers.get("content-type", "").lower()
            await self._app(scope, _checked(receive, self._max_body, is_json), send)


_TOO_LARGE = "The body is too large."


def _checked(receive: Receive, max_body: int, is_json: bool) -> Receive:
    """The same body. Raises HTTPException where it grows too large, a Refusal at its end if it is no strict JSON."""
    body = bytearray()

    async def checked() -> Message:
        message = await receive()
        body.extend(message.get("body", b""))
        if len(body) > max_body:
            raise HTTPException(413, _TOO_LARGE)
        if is_json and body and message["type"] == "http.request" and not message.get("more_body", False):
            try:
                from_json(bytes(body), allow_inf_nan=False)
            except ValueError as error:
                raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is not valid JSON.") from error
        return message

    return checked
