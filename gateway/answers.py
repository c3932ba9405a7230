"""What the gateway itself says no to, as problem details."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.types import Send

from chassis.problems import problem_response, status_of
from contracts.errors import ErrorCode

if TYPE_CHECKING:
    from gateway.head import Head

Headers = list[tuple[bytes, bytes]]
CLOSE = (b"connection", b"close")
SMALL = 65_536
"""Bodies up to this are read before they are passed on: cheaper than a stream, and they can be sent a second time."""


class Refused(Exception):
    """The gateway's own no, or that a service gave no answer."""

    def __init__(
        self, code: ErrorCode, detail: str, *, status: int | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.headers = code, detail, tuple(headers)
        self.status = int(status or status_of(code))


async def send_problem(send: Send, refused: Refused, head: "Head", headers: Headers) -> None:
    """Answer with problem details, as the services do."""
    extra = {"trace_id": head.trace_id}
    response = problem_response(refused.code, refused.detail, status=refused.status, instance=head.path, extra=extra)
    headers = [*response.raw_headers, *headers, *refused.headers]
    if head.body_size is None or head.body_size > SMALL:  # it was not read, and nobody will
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head.method == "HEAD" else bytes(response.body)})
