"""What the console answers: it lets staff through to Temporal's Web UI, and decodes payloads for them.

Envoy asks `/check/…` about every request for the Web UI (gateway/envoy/console.py). Support may look; only an admin may change
something there, because what the Web UI changes goes past the shop's own rules.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from chassis.dependencies import from_app, provide
from chassis.health import health_router, metrics_router
from chassis.logs import logger
from chassis.origin import ClientOrigin
from chassis.plain_input import PlainInput
from chassis.problems import install_problem_handlers, status_of
from chassis.service import HTTP_TELEMETRY
from chassis.tokens import Principal, TokenVerifier
from console.logins import READERS, Logins, for_staff
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from temporal.codec import WORKFLOW

log = logger(__name__)
COOKIE = "console"
CHANGERS = frozenset({Role.ADMIN})
MAX_BODY = 8_000_000
"""The Web UI has a whole page of events decoded at once."""
FORM_MAX = 4_000
_READING = frozenset({"GET", "HEAD"})
_QUERY = re.compile(r"/api/v1/namespaces/[^/]+/workflows/[^/]+/query/[^/]+")
"""A query of a workflow is sent by POST, and changes nothing."""
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


async def _staff(
    request: Request,
    logins: Annotated[Logins, from_app(Logins)],
    verifier: Annotated[TokenVerifier, from_app(TokenVerifier)],
) -> Principal:
    """By access token, as the `temporal` command sends it (`--codec-auth`), or by the console's cookie. Refusals:
    unauthenticated, forbidden."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        principal = await verifier.verify(token)
    else:
        principal = await logins.principal(request.cookies.get(COOKIE, ""))
    if not principal.roles & READERS:
        raise for_staff()
    return principal


router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(next: str = "/") -> HTMLResponse:
    return _page("login.html", next=_local(next), email="", error="")


@router.post("/login")
async def log_in(request: Request, origin: ClientOrigin, logins: Annotated[Logins, from_app(Logins)]) -> Response:
    """With a wrong password the form again; with the right one on to where the reader wanted to go."""
    _from_our_own_page(request)
    form = await _form(request)
    target, email = _local(form.get("next", "/")), form.get("email", "")
    try:
        cookie = await logins.begin(email, SecretStr(form.get("password", "")), origin)
    except Refusal as refusal:
        return _page("login.html", status=int(status_of(refusal.code)), next=target, email=email, error=refusal.detail)
    answer = RedirectResponse(target, 303)
    secure = request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, cookie, httponly=True, samesite="lax", secure=secure)
    return answer


@router.get("/logout")
async def logout_page() -> HTMLResponse:
    return _page("logout.html")


@router.post("/logout")
async def log_out(request: Request, logins: Annotated[Logins, from_app(Logins)]) -> Response:
    _from_our_own_page(request)
    await logins.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


@router.api_route("/check/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def check(
    request: Request,
    logins: Annotated[Logins, from_app(Logins)],
    verifier: Annotated[TokenVerifier, from_app(TokenVerifier)],
) -> Response:
    """Whether Envoy may pass a request on to the Web UI: 200, else what the browser gets instead."""
    try:
        principal = await _staff(request, logins, verifier)
    except Refusal as refusal:
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if refusal.code == ErrorCode.UNAUTHENTICATED and wants_page:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/login?next={quote(_local(_checked_path(request) + query), safe='')}", 302)
        raise
    if request.method not in _READING:
        _from_our_own_page(request)
        is_query = request.method == "POST" and _QUERY.fullmatch(_checked_path(request))
        if not is_query and not principal.roles & CHANGERS:
            raise Refusal(ErrorCode.FORBIDDEN, "Only an admin may change something here.")
    return Response(headers=_cookies_of_others(request))


@router.post("/codec/decode")
async def decode(
    request: Request,
    reader: Annotated[Principal, Depends(_staff)],
    codec: Annotated[PayloadCodec, from_app(PayloadCodec)],
) -> Response:
    """Temporal's codec protocol: the Web UI and `temporal … --codec-endpoint` send what they cannot read. Who did is logged."""
    payloads = (await _payloads(request)).payloads
    found = {payload.metadata[WORKFLOW] for payload in payloads if WORKFLOW in payload.metadata}
    workflows = sorted(name.decode(errors="replace")[:100] for name in found)[:20]
    log.info("histories_read", reader=str(reader.subject), workflows=workflows, payloads=len(payloads))
    return _payloads_as_json(await codec.decode(payloads))


@router.post("/codec/encode", dependencies=[Depends(_staff)])
async def encode(request: Request, codec: Annotated[PayloadCodec, from_app(PayloadCodec)]) -> Response:
    """The same for what the `temporal` command sends to a workflow."""
    return _payloads_as_json(await codec.encode((await _payloads(request)).payloads))


async def _payloads(request: Request) -> Payloads:
    """Refusals: malformed_request, payload_too_large."""
    try:
        return Parse(await request.body(), Payloads())
    except (ParseError, UnicodeDecodeError) as error:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is no list of payloads.") from error


def _payloads_as_json(payloads: Sequence[Payload]) -> Response:
    body = MessageToJson(Payloads(payloads=payloads), indent=None)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _form(request: Request) -> dict[str, str]:
    """Refusals: malformed_request, payload_too_large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_MAX:
            raise Refusal(ErrorCode.PAYLOAD_TOO_LARGE, "The body is too large.")
    try:
        found = parse_qs(body.decode(), max_num_fields=10)
    except ValueError as error:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is no form.") from error
    return {name: values[-1] for name, values in found.items()}


def _page(name: str, *, status: int = 200, **told: Any) -> HTMLResponse:
    return HTMLResponse(_PAGES.get_template(name).render(told), status, _PAGE_HEADERS)


def _local(target: str) -> str:
    """A path of this site, whatever is asked for. Browsers read a backslash as a slash, and pass over control characters."""
    path = target if target.isprintable() and "\\" not in target else "/"
    return path if path.startswith("/") and not path.startswith("//") else "/"


def _from_our_own_page(request: Request) -> None:
    """Another site must not log somebody in or out, or change something in his name. Refusal: forbidden."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise Refusal(ErrorCode.FORBIDDEN, "This was sent from the page of another site.")


def _checked_path(request: Request) -> str:
    """The path that Envoy asks about, as the browser sent it."""
    path: bytes = request.scope["raw_path"]
    return path.decode("latin-1").removeprefix("/check")


def _cookies_of_others(request: Request) -> dict[str, str]:
    """Tells Envoy to pass on every cookie but ours."""
    cookies = (cookie.strip() for cookie in request.headers.get("cookie", "").split(";"))
    others = [cookie for cookie in cookies if cookie and cookie.partition("=")[0] != COOKIE]
    return {"Cookie": "; ".join(others)} if others else {"X-Envoy-Auth-Headers-To-Remove": "cookie"}


def console_app(logins: Logins, verifier: TokenVerifier, codec: PayloadCodec) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Console", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=HTTP_TELEMETRY
    )
    app.add_middleware(PlainInput, max_body=MAX_BODY)
    install_problem_handlers(app)
    app.include_router(router)
    app.include_router(health_router({}))  # it needs nothing to start; who asks is told what is away
    app.include_router(metrics_router())
    provide(app, Logins, logins)
    provide(app, TokenVerifier, verifier)
    provide(app, PayloadCodec, codec)
    return app
