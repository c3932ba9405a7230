"""What Envoy asks the edge app: how much all gateways together have counted, and whose sessions were ended.

The text is for callers.lua, so it is plain: a line `ended VERSION` and lines `KEY NUMBER`. Within the platform only.
"""

from collections.abc import Callable
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from contracts.errors import ErrorCode, Refusal
from gateway.limits import SharedLimits
from gateway.metrics import rate_limited_total

_REFUSED = "refused:"


def gatekeeping(limits: SharedLimits, ended_sessions: Callable[[], frozenset[UUID]]) -> APIRouter:
    """`POST /limits`."""
    router = APIRouter()

    @router.post("/limits", include_in_schema=False)
    async def exchange(request: Request) -> PlainTextResponse:
        known, counts = _read((await request.body()).decode())
        for key in [key for key in counts if key.startswith(_REFUSED)]:
            rate_limited_total.labels(key.removeprefix(_REFUSED)).inc(counts.pop(key))
        used = await limits.add(counts) if counts else {}
        ended = ended_sessions()
        version = format(hash(ended) & 0xFFFF_FFFF_FFFF_FFFF, "x")
        lines = [f"ended {version}" if version == known else f"ended {' '.join([version, *map(str, ended)])}"]
        return PlainTextResponse("\n".join([*lines, *(f"{key} {ms}" for key, ms in used.items())]))

    return router


def _read(text: str) -> tuple[str, dict[str, int]]:
    """The version of the list of ended sessions that the gateway has, and its counts."""
    known, counts = "", {}
    try:
        for line in text.splitlines():
            key, value = line.split(" ")
            if key == "ended":
                known = value
            else:
                counts[key] = int(value)
    except ValueError:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, "Not what callers.lua sends.") from None
    return known, counts
