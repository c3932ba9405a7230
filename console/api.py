"""What the console answers: it lets staff through to Temporal's Web UI, and decodes payloads for them.

Envoy asks `/check/…` about every request for the Web UI (gateway/envoy/console.py). Support may look; only an admin may change
something there, because what the Web UI changes goes past the shop's own rules.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Protocol
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload, Payloads

from chassis.dependencies import from_app, provide
from chassis.health import Check, health_router
from chassis.origin import ClientOrigin
from chassis.plain_input import PlainInput
from chassis.problems import install_problem_handlers
from chassis.service import metrics_router
from chassis.tokens import Principal, TokenVerifier
from console.logins import Logins
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role

COOKIE = "console"
READERS = frozenset({Role.SUPPORT, Role.ADMIN})
CHANGERS = frozenset({Role.ADMIN})
MAX_BODY = 8_000_000
"""The Web UI has a whole page of events decoded at once."""
_FORM_MAX = 4_000
_PAGE = (Path(__file__).parent / "static" / "login.html").read_text()
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


class Codec(Protocol):
    """`temporal.codec` has one."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]: ...

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]: ...


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
        raise _forbidden()
    return principal


Staff = Annotated[Principal, Depends(_staff)]
router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(next: str = "/") -> HTMLResponse:
    return _page(next)


@router.post("/login")
async def log_in(request: Request, origin: ClientOrigin, logins: Annotated[Logins, from_app(Logins)]) -> Response:
    _from_our_own_page(request)
    body = await request.body()
    if len(body) > _FORM_MAX:
        raise Refusal(ErrorCode.PAYLOAD_TOO_LARGE, "The body is too large.")
    form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace"), max_num_fields=5).items()}
    target = form.get("next", "/")
    try:
        cookie, principal = await logins.begin(form.get("email", ""), SecretStr(form.get("password", "")), origin)
        if not principal.roles & READERS:
            await logins.end(cookie)
            raise _forbidden()
    except Refusal as refusal:
        return _page(target, refusal.detail, status=401)
    answer = RedirectResponse(_local(target), 303)
    secure = request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(COOKIE, cookie, httponly=True, samesite="lax", secure=secure)
    return answer


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
            wanted = request.url.path.removeprefix("/check") + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(_local(wanted))}", 302)
        raise
    if request.method not in ("GET", "HEAD") and not principal.roles & CHANGERS:
        raise _forbidden("Only an admin may change something here; support decides by the API and by `commerce`.")
    return Response()


@router.post("/codec/decode")
async def decode(request: Request, _: Staff, codec: Annotated[Codec, from_app(Codec)]) -> Response:
    """Temporal's codec protocol: the Web UI, and `temporal … --codec-endpoint`, send what they cannot read."""
    return _answer(await codec.decode((await _payloads(request)).payloads))


@router.post("/codec/encode")
async def encode(request: Request, _: Staff, codec: Annotated[Codec, from_app(Codec)]) -> Response:
    return _answer(await codec.encode((await _payloads(request)).payloads))


async def _payloads(request: Request) -> Payloads:
    try:
        return Parse(await request.body(), Payloads())
    except ParseError as error:
        raise Refusal(ErrorCode.MALFORMED_REQUEST, "The body is no list of payloads.") from error


def _answer(payloads: Sequence[Payload]) -> Response:
    body = MessageToJson(Payloads(payloads=payloads), indent=None)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def _page(target: str, error: str = "", *, status: int = 200) -> HTMLResponse:
    told = f'<p role="alert">{escape(error)}</p>' if error else ""
    page = _PAGE.replace("{next}", escape(_local(target), quote=True)).replace("{error}", told)
    return HTMLResponse(page, status, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})


def _local(target: str) -> str:
    """A path of this site, whatever the address asks for."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _from_our_own_page(request: Request) -> None:
    """Another site must not log somebody in or out. Refusal: forbidden."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise _forbidden("This form belongs to another site.")


def _forbidden(detail: str = "This is for support and admins.") -> Refusal:
    return Refusal(ErrorCode.FORBIDDEN, detail)


def console_app(logins: Logins, verifier: TokenVerifier, codec: Codec, checks: Mapping[str, Check]) -> FastAPI:
    """The application."""
    app = FastAPI(title="Console", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(PlainInput, max_body=MAX_BODY)
    install_problem_handlers(app)
    app.include_router(router)
    app.include_router(health_router(checks))
    app.include_router(metrics_router())
    provide(app, Logins, logins)
    provide(app, TokenVerifier, verifier)
    provide(app, Codec, codec)
    return app
