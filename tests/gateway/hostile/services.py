"""The services as the front door sees them: the same server as theirs, which writes down what arrived."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.tokens import TokenVerifier
from contracts.errors import Refusal
from embedded.ports import free_port
from gateway.routes import SERVICES
from tests.conftest import TokenMint
from tests.gateway.hostile.answers import Die

_SENSITIVE = frozenset(
    {
        "host", "authorization", "content-length", "content-type", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto",
        "x-request-id", "traceparent", "tracestate", "idempotency-key",
    }
)  # fmt: skip
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade",
        "http2-settings",
    }
)  # fmt: skip
_NAME, _VALUE = re.compile(r"[!#$%&'*+.^`|~0-9a-z-]+"), re.compile(r"[\t -~\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, whole, as a service received it."""

    serial: int
    service: str
    method: str
    target: str
    """Path and query, as they came."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    runs_as: UUID | None
    """The user whose token it carries, if that is valid."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def assert_plain(self) -> None:
        """Whatever a client sent, a service gets a request that can be read in one way only, and the front door's word on who
        sent it."""
        names = [name for name, _ in self.headers]
        for name, value in self.headers:
            assert _NAME.fullmatch(name), self
            assert _VALUE.fullmatch(value), self
        assert not _HOP_BY_HOP & set(names), self
        assert not [name for name in names if name.startswith("x-envoy-")], self
        assert not [name for name in _SENSITIVE if names.count(name) > 1], self
        lengths = self.all("content-length")
        assert lengths in ([], [str(len(self.body))]), self
        assert not (lengths and self.all("transfer-encoding")), self
        assert self.all("transfer-encoding") in ([], ["chunked"]), self
        assert self.all("x-forwarded-proto") == ["http"], self
        assert len(self.all("x-forwarded-for")) == 1, self
        assert self.all("x-forwarded-for")[0].startswith("127.0.0."), self
        assert len(self.all("host")) == 1, self
        assert len(self.all("x-request-id")) == 1, self


@dataclass
class Record:
    """What reached any service since it was last cleared."""

    arrivals: list[Arrival] = field(default_factory=list)
    begun: int = 0
    """Requests whose head came."""
    unreadable: list[bytes] = field(default_factory=list)
    """What a service's parser refused."""

    def clear(self) -> None:
        self.arrivals.clear()
        self.unreadable.clear()
        self.begun = 0


class Service:
    """Answers each request with what it was, so that a client can tell whether an answer is its own."""

    def __init__(self, name: str, verifier: TokenVerifier, record: Record, serials: Callable[[], int]) -> None:
        self._name, self._verifier, self._record, self._serials = name, verifier, record, serials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode()
        if not any(name == b"x-request-id" for name, _ in scope["headers"]):  # the gateway asks for itself: keys, readiness
            await _answer(send, await self._verifier._fetch_keys())
            return
        self._record.begun += 1
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        query = scope["query_string"].decode("latin-1")
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        target = f"{path}?{query}" if query else path
        runs_as = await self._caller(headers)
        arrival = Arrival(self._serials(), self._name, scope["method"], target, headers, body, runs_as)
        self._record.arrivals.append(arrival)
        sums = {"serial": arrival.serial, "method": arrival.method, "target": target, "sha256": hashlib.sha256(body).hexdigest()}
        await _answer(send, sums | {"runs_as": str(runs_as)})

    async def _caller(self, headers: tuple[tuple[str, str], ...]) -> UUID | None:
        # As FastAPI reads it in the services: the first Authorization header, its scheme in any case.
        first = next((value for name, value in headers if name == "authorization"), "")
        scheme, _, token = first.partition(" ")
        try:
            return (await self._verifier.verify(token)).subject if scheme.lower() == "bearer" else None
        except Refusal:
            return None


async def _answer(send: Send, content: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def _noting(record: Record) -> type[HttpToolsProtocol]:
    class Noting(HttpToolsProtocol):
        """The services' own protocol; it also writes down what it could not read."""

        def data_received(self, data: bytes) -> None:
            self.last = data
            super().data_received(data)

        def send_400_response(self, msg: str) -> None:
            record.unreadable.append(self.last)
            super().send_400_response(msg)

    return Noting


class Scripted:
    """A service that does what it is told to; asked for a path that is not in its scripts, it answers `hello, PATH`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.scripts: dict[str, tuple[bytes | float | type[Die], ...]] = {}
        self.asked: list[str] = []
        """The paths, each time."""
        self.broken_off = 0
        """Answers whose reader was gone before they had ended."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
                await reader.readexactly(int(length[1]) if length else 0)
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                for step in self.scripts.get(path, (_greeting(path),)):
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    elif isinstance(step, float):
                        await asyncio.sleep(step)
                    else:
                        return
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            self.broken_off += 1
        finally:
            writer.close()


def _greeting(path: str) -> bytes:
    body = f"hello, {path}".encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@dataclass
class Services:
    """All of them, running."""

    record: Record
    ports: dict[str, int]

    def urls(self) -> dict[str, str]:
        """As the gateway's settings name them."""
        return {f"{name}_url": f"http://127.0.0.1:{port}" for name, port in self.ports.items()}


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(service: Service, port: int, protocol: type[HttpToolsProtocol]) -> AsyncIterator[None]:
    """As `chassis.service.serve` does it."""
    config = uvicorn.Config(
        service, port=port, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def services(mint: TokenMint) -> AsyncIterator[Services]:
    """Every service behind the front door, each on its own socket."""
    record, verifier = Record(), mint.verifier()
    serial = 0

    def serials() -> int:
        nonlocal serial
        serial += 1
        return serial

    running = Services(record, {name: free_port() for name in SERVICES})
    async with AsyncExitStack() as stack:
        for name, port in running.ports.items():
            service = Service(name, verifier, record, serials)
            await stack.enter_async_context(_serving(service, port, _noting(record)))
        yield running
