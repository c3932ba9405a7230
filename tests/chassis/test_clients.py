"""Calls of others, on real sockets: what is a refusal, what a fault, and what opens the circuit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from pydantic import SecretStr

from chassis import clients
from chassis.access import AccessTable, Open, Reach, Rule
from chassis.clients import Answer, HttpSession, NotUnderstood, OutboundClient, ServiceClient, ServiceTokens, Unavailable, fault
from chassis.dependencies import provide
from chassis.service import new_app
from chassis.telemetry import REQUEST_HEADER, context_of
from chassis.tokens import TokenVerifier
from contracts.base import Command, Contract
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from tests.conftest import TokenMint, eventually
from tests.services.shipping.conftest import listening


class Order(Command):
    quantity: int = 1


class Done(Contract):
    done: bool


class Other:
    """The other side: a real server that does what it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.status, self.body = 200, '{"done": true}'
        self.headers: dict[str, str] = {}
        self.received: list[web.BaseRequest] = []
        self.hang = asyncio.Event()
        self.hangs = False

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += 1
        self.received.append(request)
        if self.hangs:
            await self.hang.wait()
        return web.Response(status=self.status, text=self.body, content_type="application/json", headers=self.headers)


class Identity:
    """Gives tokens, each another one."""

    def __init__(self) -> None:
        self.given = 0
        self.lasts, self.status = 600, 200

    async def answer(self, request: web.BaseRequest) -> web.Response:
        assert await request.json() == {"client_id": "worker", "client_secret": "secret"}
        if self.status != 200:
            return web.Response(status=self.status)
        self.given += 1
        return web.json_response({"access_token": f"token-{self.given}", "expires_in": self.lasts})


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def served(stack: AsyncExitStack, answer: Callable[[web.BaseRequest], object]) -> str:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)  # type: ignore[arg-type]
    server = TestServer(app)
    await server.start_server()
    stack.push_async_callback(server.close)
    return str(server.make_url("")).rstrip("/")


@pytest_asyncio.fixture
async def http(stack: AsyncExitStack) -> HttpSession:
    return await stack.enter_async_context(HttpSession())


@pytest_asyncio.fixture
async def other() -> Other:
    return Other()


@pytest_asyncio.fixture
async def outbound(stack: AsyncExitStack, http: HttpSession, other: Other) -> OutboundClient:
    url = await served(stack, other.answer)
    stack.callback(other.hang.set)
    return OutboundClient("other", url, http, timeout_s=30, breaker_threshold=2, breaker_seconds=0.2)


def read(answer: Answer) -> int:
    if answer.status == 409:
        raise Refusal(ErrorCode.ALREADY_DISPATCHED, "It has left.")
    if answer.status >= 300:
        raise fault("other", answer, "no")
    return answer.status


async def ask(client: OutboundClient, call: str = "ask") -> int:
    return await client.call(call, "POST", "/ask", read, body={"a": 1})


async def given_up(client: OutboundClient, other: Other) -> None:
    """A call that its caller gives up while it is under way."""
    before = other.asked
    task = asyncio.create_task(ask(client))

    async def under_way() -> bool:
        return other.asked > before

    await eventually(under_way)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def fails(client: OutboundClient, match: str) -> None:
    with pytest.raises(Unavailable, match=match):
        await ask(client)


async def test_s12_a_cancelled_call_is_no_failure_to_the_breaker(outbound: OutboundClient, other: Other) -> None:
    other.hangs = True
    for _ in range(5):
        await given_up(outbound, other)
    other.hangs = False
    assert await ask(outbound) == 200


async def test_s12_a_cancelled_call_is_no_success_either(outbound: OutboundClient, other: Other) -> None:
    other.status = 500
    await fails(outbound, "500")
    other.hangs = True
    await given_up(outbound, other)
    other.hangs = False
    await fails(outbound, "500")
    await fails(outbound, "not asked again yet")


async def test_s12_refusals_and_requests_not_understood_leave_the_circuit_closed(outbound: OutboundClient, other: Other) -> None:
    for status, kind in ((409, Refusal), (400, NotUnderstood)):
        other.status = status
        for _ in range(5):
            with pytest.raises(kind):
                await ask(outbound)
    other.status = 200
    assert await ask(outbound) == 200


async def test_failures_in_a_row_open_the_circuit_of_that_call_alone_and_for_a_while(
    outbound: OutboundClient, other: Other
) -> None:
    other.status = 503
    for _ in range(2):
        await fails(outbound, "503")
    asked = other.asked
    await fails(outbound, "not asked again yet")
    assert other.asked == asked
    other.status = 200
    assert await ask(outbound, "something else") == 200

    async def asked_again() -> bool:
        try:
            return await ask(outbound) == 200
        except Unavailable:
            return False

    await eventually(asked_again, what="the breaker's second chance")


async def test_whoever_is_too_slow_or_away_is_a_fault(stack: AsyncExitStack, http: HttpSession, other: Other) -> None:
    url = await served(stack, other.answer)
    stack.callback(other.hang.set)
    other.hangs = True
    with pytest.raises(Unavailable, match="gave no answer"):
        await ask(OutboundClient("other", url, http, timeout_s=0.05))
    with pytest.raises(Unavailable, match="gave no answer"):
        await ask(OutboundClient("other", "http://127.0.0.1:1", http, timeout_s=5))


async def test_only_our_own_processes_are_told_trace_and_request(
    stack: AsyncExitStack, http: HttpSession, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await served(stack, other.answer)
    monkeypatch.setattr(clients, "tracer", TracerProvider().get_tracer(__name__))
    token = context.attach(baggage.set_baggage("whose", "nobody's", context_of({REQUEST_HEADER: "asked-1"})))
    try:
        for is_ours in (False, True):
            await ask(OutboundClient("other", url, http, timeout_s=30, is_ours=is_ours))
            told = {name.lower(): value for name, value in other.received[-1].headers.items()}
            assert ("traceparent" in told) is is_ours
            assert told.get(REQUEST_HEADER) == ("asked-1" if is_ours else None)
            assert "baggage" not in told
    finally:
        context.detach(token)


@pytest_asyncio.fixture
async def identity() -> Identity:
    return Identity()


@pytest_asyncio.fixture
async def tokens(stack: AsyncExitStack, http: HttpSession, identity: Identity) -> ServiceTokens:
    return ServiceTokens(http, await served(stack, identity.answer), "worker", SecretStr("secret"))


@pytest_asyncio.fixture
async def service(stack: AsyncExitStack, http: HttpSession, other: Other, tokens: ServiceTokens) -> ServiceClient:
    return ServiceClient("inventory", await served(stack, other.answer), http, tokens, breaker_threshold=2)


async def test_h6_a_token_is_fetched_once_for_all_who_wait_and_kept(tokens: ServiceTokens, identity: Identity) -> None:
    assert set(await asyncio.gather(*[tokens.get() for _ in range(20)])) == {"token-1"}
    assert await tokens.get() == "token-1"
    assert identity.given == 1


async def test_h6_a_token_is_renewed_before_it_expires(tokens: ServiceTokens, identity: Identity) -> None:
    identity.lasts = 31  # it is kept for half a minute less than it lasts

    async def is_another() -> bool:
        return await tokens.get() != "token-1"

    assert await tokens.get() == "token-1"
    await eventually(is_another)


async def test_h6_without_identity_there_is_a_fault_and_afterwards_a_token(tokens: ServiceTokens, identity: Identity) -> None:
    for status, kind in ((503, Unavailable), (401, NotUnderstood)):
        identity.status = status
        with pytest.raises(kind):
            await tokens.get()
    identity.status = 200
    assert await tokens.get() == "token-1"


async def test_h6_a_stale_token_is_replaced_once(service: ServiceClient, other: Other, identity: Identity) -> None:
    assert await service.post("/do", Order(), Done) == Done(done=True)
    other.status = 401
    calls = [service.post("/do", Order(), Done) for _ in range(3)]
    assert [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [NotUnderstood] * 3
    other.status = 200
    assert await service.post("/do", Order(), Done) == Done(done=True)
    assert [request.headers["Authorization"] for request in other.received] == [*["Bearer token-1"] * 4, "Bearer token-2"]


async def test_h6_identity_away_does_not_open_the_circuit_of_a_service(
    service: ServiceClient, other: Other, identity: Identity
) -> None:
    identity.status = 503
    for _ in range(3):
        with pytest.raises(Unavailable, match="identity"):
            await service.post("/do", Order(), Done)
    assert other.asked == 0
    identity.status = 200

    async def done() -> bool:
        try:
            return (await service.post("/do", Order(), Done)).done
        except Unavailable:
            return False

    await eventually(done)


async def test_h6_a_reply_that_is_none_is_a_fault_that_opens_nothing(service: ServiceClient, other: Other) -> None:
    other.body = "<html>"
    for _ in range(5):
        with pytest.raises(NotUnderstood):
            await service.post("/do", Order(), Done)
    other.body = '{"done": true}'
    assert (await service.post("/do", Order(), Done)).done


@pytest_asyncio.fixture
async def real(
    stack: AsyncExitStack, http: HttpSession, tokens: ServiceTokens, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> ServiceClient:
    """A service as we build them, behind a real socket."""
    rules: dict[str, Rule] = {
        "refuse": {Role.SERVICE: Reach.ALL},
        "for_admins": {Role.ADMIN: Reach.ALL},
        "break_down": Open.PUBLIC,
    }
    access = AccessTable(rules)
    router = access.router(prefix="/internal/v1")

    @router.post("/refuse")
    async def refuse(order: Order) -> Done:
        raise Refusal(ErrorCode.OUT_OF_STOCK, "There are not enough.", extra={"lines": [1, 2]})

    @router.post("/for-admins")
    async def for_admins(order: Order) -> Done:
        return Done(done=True)

    @router.post("/break-down")
    async def break_down() -> Done:
        raise FileNotFoundError("/secret/template")

    app = new_app("Real", "", [router], {}, access)
    provide(app, TokenVerifier, mint.verifier("inventory"))
    token = mint.token(Role.SERVICE)

    async def own_token() -> str:
        return token

    monkeypatch.setattr(tokens, "get", own_token)
    return ServiceClient("inventory", await stack.enter_async_context(listening(app)), http, tokens)


class Nonsense(Command):
    quantity: str = "many"


async def test_a_refusal_of_a_command_crosses_whole(real: ServiceClient) -> None:
    with pytest.raises(Refusal) as refused:
        await real.post("/internal/v1/refuse", Order(), Done)
    assert (refused.value.code, refused.value.detail) == (ErrorCode.OUT_OF_STOCK, "There are not enough.")
    assert refused.value.extra == {"lines": [1, 2]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/internal/v1/unknown", Order(), 404),
        ("/health/live", Order(), 405),
        ("/internal/v1/refuse", Nonsense(), 422),
        ("/internal/v1/for-admins", Order(), 403),
    ],
)
async def test_s2_framework_errors_are_faults(real: ServiceClient, path: str, body: Command, status: int) -> None:
    with pytest.raises(NotUnderstood, match=str(status)):
        await real.post(path, body, Done)


async def test_i5_a_missing_file_is_no_database_that_is_away(real: ServiceClient) -> None:
    with pytest.raises(Unavailable, match=r"500: Something went wrong on our side\.") as fault:
        await real.post("/internal/v1/break-down", Order(), Done)
    assert not isinstance(fault.value, NotUnderstood)
