"""The gateway on a real socket, before real upstream servers and a real Valkey."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded import valkey
from embedded.ports import free_port
from gateway.app import opened
from gateway.protocol import server_options
from gateway.routes import SERVICES
from gateway.settings import GatewaySettings
from tests.conftest import ROOT, TokenMint, emptied, eventually

# Loading the certificates of all authorities takes longer than most tests here.
connect = partial(httpx2.AsyncClient, verify=False)
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Server(uvicorn.Server):
    """A server inside the test process, which keeps its own signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, port: int, **options: Any) -> AsyncIterator[str]:
    """The application on a real socket; its base address."""
    options = {"lifespan": "off", **options}
    server = _Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=1, **options))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class Upstream:
    """A service as the gateway sees one: tells back what it got, or does what a test wants."""

    def __init__(self, name: str, jwks: dict[str, Any]) -> None:
        self.name, self.jwks = name, jwks
        self.reset()

    def reset(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.handler: Handler = self._echo
        self.document: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/.well-known/jwks.json":
            await answer(send, 200, self.jwks)
        elif path == "/health/ready":
            await answer(send, 200, {"status": "ready"})
        elif path == "/openapi.json" and self.document:
            await answer(send, 200, self.document)
        else:
            await self.handler(scope, receive, send)

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read(receive)
        seen = {
            "service": self.name,
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        self.seen.append(seen)
        await answer(send, 200, seen)


async def read(receive: Receive) -> bytes:
    """The whole body of a request."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the body did not end")
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body", False):
            return body


async def answer(send: Send, status: int, content: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer with JSON."""
    lines = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def headers_of(seen: dict[str, Any]) -> dict[str, str]:
    """The headers that a service got, each of which must have come once."""
    names = [name for name, _ in seen["headers"]]
    assert len(names) == len(set(names)), names
    return dict(seen["headers"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with valkey.running(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


class Shop(dict[str, Upstream]):
    """Every service behind the gateway, by name, each on its own socket."""

    def __init__(self, upstreams: dict[str, Upstream], ports: dict[str, int]) -> None:
        super().__init__(upstreams)
        self.ports = ports

    def urls(self) -> dict[str, Any]:
        """As the gateway's settings name them."""
        return {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in self.ports.items()}

    @property
    def seen(self) -> list[dict[str, Any]]:
        """What has reached any service."""
        return [request for upstream in self.values() for request in upstream.seen]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _shop(mint: TokenMint) -> AsyncIterator[Shop]:
    jwks = await mint.verifier()._fetch_keys()
    upstreams = {name: Upstream(name, jwks) for name in SERVICES}
    ports = {name: free_port() for name in SERVICES}
    async with AsyncExitStack() as stack:
        for name, upstream in upstreams.items():
            await stack.enter_async_context(serving(upstream, ports[name]))
        yield Shop(upstreams, ports)


@pytest.fixture
def shop(_shop: Shop) -> Shop:
    for upstream in _shop.values():
        upstream.reset()
    return _shop


@asynccontextmanager
async def gateway(shop: Shop, redis: str, **settings: Any) -> AsyncIterator[str]:
    """A gateway that limits nobody unless the settings say so; its address."""
    generous = {f"rate_limit{kind}_per_minute": 100_000 for kind in ("", "_anonymous", "_auth", "_webhook")}
    tracer = settings.pop("tracer", None)
    values = {"redis_url": redis, "host": "127.0.0.1", "port": free_port(), **generous, **shop.urls(), **settings}
    async with (
        opened(GatewaySettings(**values), tracer) as app,
        serving(app, values["port"], server_header=False, **server_options()) as url,
    ):
        yield url


@asynccontextmanager
async def gateway_process(shop: Shop, redis: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A gateway as its own process, as in production; its address."""
    port = free_port()
    urls = {name.upper(): url for name, url in shop.urls().items()}
    limits = {f"RATE_LIMIT{kind}_PER_MINUTE": "100000" for kind in ("", "_ANONYMOUS", "_AUTH", "_WEBHOOK")}
    environment = {**os.environ, **urls, **limits, "REDIS_URL": redis, "HOST": "127.0.0.1", "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.app", cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with connect(base_url=url) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/health/ready")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready, timeout_s=60, what="the gateway to be ready")
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _gateway(_shop: Shop, redis_url: str) -> AsyncIterator[str]:
    async with gateway_process(_shop, redis_url) as (url, process):
        assert process.stdout is not None
        unread = asyncio.create_task(process.stdout.read())
        yield url
        unread.cancel()


@pytest_asyncio.fixture
async def client(shop: Shop, _gateway: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway process that limits nobody."""
    async with connect(base_url=_gateway, timeout=20) as client:
        yield client


Start = Callable[..., Awaitable[httpx2.AsyncClient]]


@pytest_asyncio.fixture
async def start(shop: Shop, redis_url: str) -> AsyncIterator[Start]:
    """Starts a gateway with settings, its counters at zero, and gives a client of it."""
    async with AsyncExitStack() as stack:
        async with Redis.from_url(redis_url) as counters:
            await emptied(counters)

        async def start_gateway(**settings: Any) -> httpx2.AsyncClient:
            url = await stack.enter_async_context(gateway(shop, redis_url, **settings))
            return await stack.enter_async_context(connect(base_url=url, timeout=20))

        yield start_gateway


async def say(client: httpx2.AsyncClient, *pieces: bytes, patience: float = 2.0) -> bytes:
    """What the gateway answers to these very bytes, until it closes the connection or is silent."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)  # so that it arrives by itself
        answered = b""
        while piece := await asyncio.wait_for(reader.read(65536), patience):
            answered += piece
            patience = 0.1
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answered
