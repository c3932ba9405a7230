"""What the API answers instead of a success: `{"error": {"code", "message", "errors"}}`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse

from simulators._refusals import Refused

FieldError = dict[str, str | None]


class Refusal(Refused):
    """With what is wrong with which field."""

    def __init__(self, status: int, code: str, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(status, code, message)
        self.errors = list(errors)

    def content(self) -> dict[str, object]:
        return {"error": {"code": self.code, "message": self.message, "errors": self.errors}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.content(), self.status)


def not_found() -> Refusal:
    return Refusal(404, "NOT_FOUND", "The requested resource could not be found.")


def required(*fields: str) -> Refusal:
    errors: list[FieldError] = [{"field": field, "message": "cannot be blank"} for field in fields]
    return Refusal(422, "PARAMETER.REQUIRED", "Missing required parameter.", errors)


def invalid(field: str, message: str) -> Refusal:
    return Refusal(422, "PARAMETER.INVALID", "Invalid parameter.", [{"field": field, "message": message}])


_CODES = {
    "unauthorized": "UNAUTHORIZED",
    "unavailable": "SERVICE_UNAVAILABLE",
    "not_found": "NOT_FOUND",
    "invalid_json": "BAD_REQUEST",
    "request_too_large": "BAD_REQUEST",
    "invalid_request": "PARAMETER.INVALID",
}


def in_our_shape(refused: Refused) -> Refusal:
    """What the parts that all simulators share refuse, as this API says it."""
    if isinstance(refused, Refusal):
        return refused
    return Refusal(refused.status, _CODES.get(refused.code, refused.code), refused.message)
