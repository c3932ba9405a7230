"""Twilio's errors: a number of its own in each, see https://www.twilio.com/docs/api/errors."""

from __future__ import annotations

from starlette.responses import JSONResponse

from simulators._refusals import Refused


class TwilioError(Refused):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, str(code), message)

    def content(self) -> dict[str, object]:
        more = f"https://www.twilio.com/docs/errors/{self.code}"
        return {"code": int(self.code), "message": self.message, "more_info": more, "status": self.status}


def answer_to(refusal: Refused) -> JSONResponse:
    """In Twilio's form, whatever refused."""
    if isinstance(refusal, TwilioError):
        return JSONResponse(refusal.content(), refusal.status)
    if refusal.status == 401:
        return JSONResponse(
            TwilioError(401, 20003, "Authenticate").content(), 401, {"WWW-Authenticate": 'Basic realm="Twilio API"'}
        )
    code = {404: 20404, 503: 20503}.get(refusal.status, 20001)
    return JSONResponse(TwilioError(refusal.status, code, refusal.message).content(), refusal.status)


def missing(sid: str) -> TwilioError:
    return TwilioError(404, 20404, f"The requested resource {sid} was not found")
