"""Liveness, readiness and metrics: what every process answers about itself."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], Awaitable[object]]
Trouble = Callable[[], str | None]
"""What is wrong with a part of the process that its API can do without, if anything."""


class Troubles(dict[str, Trouble]):
    """Of an application, by the name of the part; parts are added once they run."""


class About(dict[str, Mapping[str, str]]):
    """What an application tells of how it is set up, by subject, e.g. which of its channels are on."""


def health_router(
    checks: Mapping[str, Check],
    troubles: Mapping[str, Trouble] | None = None,
    about: Mapping[str, Mapping[str, str]] | None = None,
) -> APIRouter:
    """`/health/live`: the process answers. `/health/ready`: it can do its work; 503 names what it lacks.

    A trouble is told there too, as `degraded`, and the answer stays 200: requests can be answered, and taking the process out of
    rotation, or starting it anew, would not cure it. `about` is told beside it. Both may be filled later.
    """
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/ready", summary="The process can do its work", responses={503: {"description": "It lacks something"}})
    async def ready(response: Response) -> dict[str, str | Mapping[str, str]]:
        results = dict(zip(checks, await asyncio.gather(*map(_outcome, checks.values())), strict=True))
        ok = all(result == "ok" for result in results.values())
        parts = {name: trouble() or "ok" for name, trouble in (troubles or {}).items()}
        well = all(result == "ok" for result in parts.values())
        response.status_code = 200 if ok else 503
        return {"status": "not ready" if not ok else "ready" if well else "degraded", "checks": results | parts, **(about or {})}

    return router


def metrics_router() -> APIRouter:
    """`/metrics`, for Prometheus."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(3):
            await check()
    except Exception as error:
        return type(error).__name__
    return "ok"
