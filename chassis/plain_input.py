"""What no request may hold, refused before any endpoint sees it: control characters in its address, and JSON that is not."""

from urllib.parse import unquote_plus

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import problem_response
from contracts.base import has_controls
from contracts.errors import ErrorCode, Refusal


class PlainInput:
    """ASGI middleware. Refusal: malformed_request.

    Python's own JSON parser takes NaN, Infinity and halves of surrogate pairs, which neither a response nor PostgreSQL can hold.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif has_controls(scope["path"]) or has_controls(unquote_plus(scope["query_string"].decode("latin-1"))):
            refusal = problem_response(ErrorCode.MALFORMED_REQUEST, "The address has a control character in it.")
            await refusal(scope, receive, send)
        elif any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"]):
            await self._app(scope, _strict(receive), send)
        else:
            await self._app(scope, receive, send)


def _strict(receive: Receive) -> Receive:
    """The same body. Raises a Refusal at its end if it is no strict JSON."""
    body = bytearray()

    async def strict() -> Message:
        message = await receive()
        body.extend(message.get("body", b""))
        if body and not message.get("more_body", False):
            try:
                from_json(bytes(body), allow_inf_nan=False)
            except ValueError as error:
                raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is not valid JSON.") from error
        return message

    return strict
