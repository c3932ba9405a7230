"""What ends a request early, in Stripe's shape."""

from __future__ import annotations

from typing import Any, Literal

from simulators._refusals import Refused

Kind = Literal["api_error", "card_error", "idempotency_error", "invalid_request_error"]


class StripeError(Refused):
    """`kept`: the request was carried out as far as it got, and its idempotency key hears this answer again. Without: nothing
    was done, and the key may come again."""

    kept = True
    documented = True
    """Whether the code is one of Stripe's."""

    def __init__(self, status: int, kind: Kind, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(status, code or "", message)
        self._kind = kind
        self._more = {name: value for name, value in more.items() if value is not None}

    def content(self) -> dict[str, object]:
        code = {"code": self.code} if self.code else {}
        if self.code and self.documented:
            code["doc_url"] = doc_url(self.code)
        return {"error": {"type": self._kind, **code, "message": self.message, **self._more}}


class OfOurOwn(StripeError):
    """A refusal of what Stripe does not have: the simulator's own endpoints and limits."""

    documented = False


class InvalidParameter(StripeError):
    kept = False

    def __init__(self, message: str, code: str | None = None, *, param: str | None = None) -> None:
        super().__init__(400, "invalid_request_error", message, code, param=param)


class NothingDone(StripeError):
    """Nothing was carried out; `waits`: the answer takes long all the same."""

    kept = False

    def __init__(self, status: int, kind: Kind, message: str, code: str | None = None, *, waits: bool = False) -> None:
        super().__init__(status, kind, message, code)
        self.waits = waits


def unavailable(*, waits: bool = False) -> NothingDone:
    return NothingDone(503, "api_error", "Temporarily unavailable, try again.", waits=waits)


def broken() -> StripeError:
    return StripeError(500, "api_error", "An unknown error occurred.")


def refused(message: str, code: str | None = None, **more: Any) -> StripeError:
    return StripeError(400, "invalid_request_error", message, code, **more)


def missing(what: str, id_: str, param: str, *, status: int = 404) -> StripeError:
    return StripeError(status, "invalid_request_error", f"No such {what}: '{id_}'", "resource_missing", param=param)


def doc_url(code: str) -> str:
    return f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
