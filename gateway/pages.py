"""What people ask the gateway itself: health, the OpenAPI document and its page, whom to tell of a hole."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from chassis.clock import utc_now
from chassis.health import health_router, metrics_router
from chassis.problems import install_problem_handlers
from chassis.service import HTTP_TELEMETRY
from gateway.health import HealthOfAll, PlatformHealth
from gateway.openapi import PlatformDocument

STATIC = Path(__file__).parent / "static"
# The docs page runs its own script and shows what is inlined in it; it needs nothing from elsewhere.
_DOCS_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_SECURITY_TXT = """\
Contact: {contact}
Expires: {expires:%Y-%m-%dT%H:%M:%SZ}
Preferred-Languages: en
"""


def edge_app(
    document: PlatformDocument, health: HealthOfAll, security_contact: str, routers: Sequence[APIRouter] = ()
) -> FastAPI:
    """The edge application: these pages and what Envoy asks (`routers`)."""
    app = FastAPI(
        title="Gateway", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=HTTP_TELEMETRY
    )
    install_problem_handlers(app)
    app.include_router(metrics_router())
    app.include_router(health_router({}))  # it needs nothing to start; what the shop lacks is told by /health
    for router in routers:
        app.include_router(router)

    @app.get("/health")
    async def health_of_all(response: Response) -> PlatformHealth:
        result = await health.get()
        response.status_code = 503 if result.status == "down" else 200
        response.headers["Cache-Control"] = "no-store"
        return result

    @app.get("/openapi.json")
    async def openapi(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        content, etag = await document.get()
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if if_none_match == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    @app.get("/")
    async def root() -> Response:
        return RedirectResponse("/docs")  # relative: the client's Host header has no say in it

    @app.get("/.well-known/security.txt")
    async def security_txt() -> Response:
        """RFC 9116."""
        return PlainTextResponse(_SECURITY_TXT.format(contact=security_contact, expires=utc_now() + timedelta(days=30)))

    @app.get("/docs")
    async def docs() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache", "Content-Security-Policy": _DOCS_POLICY})

    app.mount("/docs", StaticFiles(directory=STATIC))
    return app
