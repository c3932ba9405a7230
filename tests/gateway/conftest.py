"""The front door as it runs in production: Envoy and the edge app before real upstream servers and a real Valkey.

    async def test_something(front_door: FrontDoor) -> None:
        await front_door.client.get("/api/v1/products")
        assert front_door["catalog"].seen[0].raw.startswith(b"GET /api/v1/products HTTP/1.1")

`start` starts another one with settings of its own.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import h11
import httpx2
import jwt
import pytest
import pytest_asyncio
import uvicorn
from redis.asyncio import Redis
from starlette.types import ASGIApp

from chassis.tokens import ALGORITHM
from contracts.identity import Role
from embedded import envoy, valkey
from embedded.ports import free_port
from embedded.supervisor import Supervisor
from gateway.app import opened
from gateway.envoy import render
from gateway.routes import SERVICES
from gateway.settings import GatewaySettings
from tests.conftest import TokenMint, emptied, eventually

# Loading the certificates of all authorities takes longer than most tests here.
connect = partial(httpx2.AsyncClient, verify=False, timeout=30)
NOWHERE = "http://127.0.0.1:1"
"""An address at which nobody answers."""
GENEROUS = {f"rate_limit{kind}_per_minute": 1_000_000 for kind in ("", "_anonymous", "_auth", "_webhook")} | {
    "uploads_per_client": 1000
}


@dataclass
class Seen:
    """A request as it arrived at a service."""

    service: str
    method: str
    target: str
    """Path and query, as sent."""
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    raw: bytes
    """Its very bytes."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """The value of a header that may have come once, and no more than once."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


@dataclass
class Exchange:
    """What a handler gets: a request that came in whole, the connection to answer on, and whether the other side went away."""

    request: Seen
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, status: int, content: Any = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer with JSON, and keep the connection."""
        body = b"" if status in (204, 304) else content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
        if status not in (204, 304):
            lines += [f"content-length: {len(body)}", "content-type: application/json"]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        await self.send(head if self.request.method == "HEAD" else head + body)

    async def send(self, raw: bytes) -> None:
        """Send these very bytes."""
        self.writer.write(raw)
        await self.writer.drain()


CLIENT_TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "baggage": "a=1"}
"""A trace that somebody outside began, and wants recorded."""
Handler = Callable[[Exchange], Awaitable[None]]


class Upstream:
    """A service as the gateway sees one. It reads with a parser that is not Envoy's (h11) and keeps every byte.

    It tells back what it got, or does what a test sets as `handler`. What Envoy and the edge ask for themselves (keys, readiness,
    documents) is answered and not recorded.
    """

    def __init__(self, name: str, jwks: dict[str, Any]) -> None:
        self.name, self.jwks, self.port = name, jwks, free_port()
        self._open: set[asyncio.StreamWriter] = set()
        self.reset()

    def reset(self) -> None:
        self.seen: list[Seen] = []
        self.unread: list[bytes] = []
        """What came and is no whole request, by connection that has ended."""
        self.connections = 0
        """How many were opened since the last reset."""
        self.handler: Handler = self.echo
        self.document: dict[str, Any] = {}
        self.checks = {"database": "ok"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def raw(self) -> bytes:
        """Every recorded byte that has arrived."""
        return b"".join([*(seen.raw for seen in self.seen), *self.unread])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            for writer in self._open:
                writer.close()

    async def echo(self, exchange: Exchange) -> None:
        request = exchange.request
        told = {
            "service": self.name,
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "size": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
        }
        await exchange.answer(200, told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        rest = b""
        try:
            while True:
                request, rest = await self._read(reader, rest)
                if request is None:
                    return
                exchange = Exchange(request, writer)
                if not await self._own(exchange):
                    self.seen.append(request)
                    rest += await self._handle(exchange, reader)
                if writer.is_closing():
                    return
        except ConnectionError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, raw: bytes) -> tuple[Seen | None, bytes]:
        """The next request and what came after it; None at the end of the connection."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        if raw:
            parser.receive_data(raw)
        head, body = None, b""
        try:
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    piece = await reader.read(65_536)
                    if not piece:
                        if raw:
                            self.unread.append(raw)
                        return None, b""
                    raw += piece
                    parser.receive_data(piece)
                elif isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
        except h11.RemoteProtocolError:
            self.unread.append(raw)
            return None, b""
        assert head is not None
        rest = parser.trailing_data[0]
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        raw = raw[: len(raw) - len(rest)]
        return Seen(self.name, head.method.decode(), head.target.decode(), headers, body, raw), rest

    async def _own(self, exchange: Exchange) -> bool:
        """Answer what the gateway asks for itself."""
        target = exchange.request.target
        if target == "/.well-known/jwks.json" and exchange.request.header("x-request-id") is None:
            await exchange.answer(200, self.jwks)
        elif target == "/health/ready":
            ok = all(outcome == "ok" for outcome in self.checks.values())
            await exchange.answer(200 if ok else 503, {"status": "ready" if ok else "not ready", "checks": self.checks})
        elif target == "/openapi.json":
            await exchange.answer(200 if self.document else 404, self.document)
        else:
            return False
        return True

    async def _handle(self, exchange: Exchange, reader: asyncio.StreamReader) -> bytes:
        """Let the handler answer, and watch the connection meanwhile. Returns what came on it."""
        more = b""

        async def watch() -> None:
            nonlocal more
            with suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    more += piece
            exchange.gone.set()

        watching = asyncio.create_task(watch())
        try:
            await self.handler(exchange)
        finally:
            watching.cancel()
        return more


class Shop(dict[str, Upstream]):
    """Every service behind the gateway, by name, each on its own socket."""

    def urls(self) -> dict[str, Any]:
        """As the gateway's settings name them."""
        return {f"{name}_url": upstream.url for name, upstream in self.items()}

    @property
    def seen(self) -> list[Seen]:
        """The requests that have reached any service."""
        return [request for upstream in self.values() for request in upstream.seen]

    @property
    def raw(self) -> bytes:
        """Every byte that has reached any service."""
        return b"".join(upstream.raw for upstream in self.values())


class _Server(uvicorn.Server):
    """A server inside the test process, which keeps its own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, port: int) -> AsyncIterator[None]:
    """The application on a real socket."""
    config = uvicorn.Config(
        app,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@dataclass
class FrontDoor:
    """A gateway that runs, and the shop behind it: `front_door["order"]` is the upstream of that name."""

    settings: GatewaySettings
    shop: Shop
    client: httpx2.AsyncClient
    supervisor: Supervisor
    """Of Envoy, under the name `gateway`."""
    directory: Path
    ended: set[UUID]
    """The sessions that the edge takes for ended."""
    edge: AsyncExitStack
    """Closing it stops the edge app."""

    def __getitem__(self, service: str) -> Upstream:
        return self.shop[service]

    @property
    def seen(self) -> list[Seen]:
        return self.shop.seen

    @property
    def port(self) -> int:
        return self.settings.port

    @property
    def log(self) -> str:
        """What Envoy has written: its access log, a line of JSON a request, and its complaints."""
        return (self.directory / "gateway.log").read_text()

    async def metrics(self) -> str:
        """Envoy's, as Prometheus reads them."""
        return (await self.client.get(f"http://127.0.0.1:{self.settings.metrics_port}/metrics")).text

    async def say(self, *pieces: bytes, patience: float = 2.0) -> bytes:
        """What the gateway answers to these very bytes, until it closes the connection or is silent."""
        return await say(self.port, *pieces, patience=patience)


async def say(port: int, *pieces: bytes, patience: float = 2.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)  # so that it arrives by itself
        while piece := await _piece(reader, patience):
            answered += piece
            patience = min(patience, 0.3)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answered


def with_session(mint: TokenMint, session_id: UUID, *roles: Role) -> dict[str, str]:
    """The headers of a caller who is logged in with this session."""
    claims = jwt.decode(mint.token(*roles), options={"verify_signature": False}) | {"sid": str(session_id)}
    return {"Authorization": f"Bearer {jwt.encode(claims, mint._key, ALGORITHM, headers={'kid': 'test'})}"}


@asynccontextmanager
async def running_front_door(shop: Shop, redis: str, directory: Path, **settings: Any) -> AsyncIterator[FrontDoor]:
    """A gateway that limits nobody unless the settings say so."""
    edge_port = free_port()
    values = {
        "redis_url": redis, "host": "127.0.0.1", "port": free_port(), "metrics_port": free_port(),
        "edge_url": f"http://127.0.0.1:{edge_port}", **GENEROUS, **shop.urls(), **settings,
    }  # fmt: skip
    chosen = GatewaySettings(**values)
    ended: set[UUID] = set()
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(AsyncExitStack())
        app = await edge.enter_async_context(opened(chosen, lambda: frozenset(ended)))
        await edge.enter_async_context(serving(app, edge_port))
        supervisor = await stack.enter_async_context(envoy.running(directory, render(chosen), chosen.metrics_port))
        scheme = "https" if chosen.tls_certificate else "http"
        client = await stack.enter_async_context(connect(base_url=f"{scheme}://127.0.0.1:{chosen.port}"))
        door = FrontDoor(chosen, shop, client, supervisor, directory, ended, edge)
        if chosen.identity_url == shop["identity"].url:
            await _keys_are_known(door)
        yield door


async def _keys_are_known(door: FrontDoor) -> None:
    async def fetched() -> bool:
        return 'jwt_authn_jwks_fetch_success{envoy_http_conn_manager_prefix="gateway"} 0' not in await door.metrics()

    await eventually(fetched, what="identity's keys to arrive")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with valkey.running(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shop(mint: TokenMint) -> AsyncIterator[Shop]:
    jwks = await mint.verifier()._fetch_keys()
    shop = Shop({name: Upstream(name, jwks) for name in SERVICES})
    async with AsyncExitStack() as stack:
        for upstream in shop.values():
            await stack.enter_async_context(upstream.running())
        yield shop


@pytest.fixture
def shop(_shop: Shop) -> Shop:
    for upstream in _shop.values():
        upstream.reset()
    return _shop


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _front_door(_shop: Shop, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontDoor]:
    async with running_front_door(_shop, redis_url, tmp_path_factory.mktemp("gateway")) as door:
        yield door


@pytest.fixture
def front_door(shop: Shop, _front_door: FrontDoor) -> FrontDoor:
    """The gateway that the tests share; it limits nobody. What has reached its services is forgotten before each test."""
    _front_door.ended.clear()
    return _front_door


Start = Callable[..., Awaitable[FrontDoor]]


@pytest_asyncio.fixture
async def start(shop: Shop, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Start]:
    """Starts a gateway with settings (`await start(rate_limit_per_minute=3)`); the counters in Redis are at zero."""
    async with AsyncExitStack() as stack:
        async with Redis.from_url(redis_url) as counters:
            await emptied(counters)

        async def start_one(**settings: Any) -> FrontDoor:
            directory = tmp_path_factory.mktemp("gateway")
            return await stack.enter_async_context(running_front_door(shop, redis_url, directory, **settings))

        yield start_one


async def _piece(reader: asyncio.StreamReader, patience: float) -> bytes:
    async with asyncio.timeout(patience):
        return await reader.read(65_536)
