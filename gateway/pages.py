"""What the gateway says itself: health, the OpenAPI document and its page, metrics. Not on the way of proxied requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.health import Check, health_router
from chassis.problems import install_problem_handlers
from gateway.health import HealthOfAll, PlatformHealth
from gateway.openapi import PlatformDocument

STATIC = Path(__file__).parent / "static"


def pages(document: PlatformDocument, health: HealthOfAll, checks: Mapping[str, Check]) -> FastAPI:
    """The application of the gateway's own pages."""
    app = FastAPI(title="Gateway", openapi_url=None, docs_url=None, redoc_url=None)
    install_problem_handlers(app)
    app.include_router(health_router(checks))

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
        return RedirectResponse("/docs")

    @app.get("/docs")
    async def docs() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app.mount("/docs", StaticFiles(directory=STATIC))
    return app
