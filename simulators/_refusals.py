"""What ends a request early."""

from __future__ import annotations

from starlette.responses import JSONResponse


class Refused(Exception):
    """An answer that is not a success, in the `{"error": {"code", "message"}}` shape of such companies."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def content(self) -> dict[str, object]:
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.content(), self.status)


class Unauthorized(Refused):
    def __init__(self) -> None:
        super().__init__(401, "unauthorized", "The bearer token is missing or wrong.")

    def response(self) -> JSONResponse:
        problem = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": self.message}
        return JSONResponse(
            {**problem, "code": self.code, **self.content()},
            401,
            {"WWW-Authenticate": "Bearer"},
            "application/problem+json",
        )


class Unavailable(Refused):
    def __init__(self) -> None:
        super().__init__(503, "unavailable", "Temporarily unavailable, try again.")


class LostReply(Exception):
    """The work is done and committed, and the caller must never hear of it."""
