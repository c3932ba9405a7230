"""The connections to a service, on both event loops: what an answer is, and when a connection may be used again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway import upstream
from gateway.upstream import Connection, NoAnswer, Upstream

Run = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]
REQUEST = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on an event loop of this kind."""

    async def on_asyncio(test: Coroutine[Any, Any, None]) -> None:
        await test

    async def on_uvloop(test: Coroutine[Any, Any, None]) -> None:
        await asyncio.to_thread(uvloop.run, test)

    return on_asyncio if request.param == "asyncio" else on_uvloop


class Service:
    """Answers each request with the next of these, byte for byte; `None` breaks the connection, so does running out of them."""

    def __init__(self, *answers: bytes | None, by_byte: bool = False, close: bool = False, late: bytes = b"") -> None:
        self.answers, self.by_byte, self.close, self.late = list(answers), by_byte, close, late
        self.connections = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> "Service":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.upstream = Upstream(f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/base", 2)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.upstream.close()
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0) if self.answers else None
                if answer is None:
                    writer.transport.abort()
                    return
                for piece in [answer[i : i + 1] for i in range(len(answer))] if self.by_byte else [answer]:
                    writer.write(piece)
                    if self.by_byte:
                        await asyncio.sleep(0)
                if self.close:
                    break
                if self.late:
                    await asyncio.sleep(0.01)
                    writer.write(self.late)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def ask(self, method: str = "GET", silence_s: float = 2.0) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of one exchange."""
        connection = await self.upstream.take()
        try:
            await connection.request(method, REQUEST, None, chunked=False, silence_s=silence_s)
            body = b""
            while piece := await connection.read():
                body += piece
            return connection.status, dict(connection.headers), body
        finally:
            self.upstream.give_back(connection)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


@pytest.mark.parametrize("by_byte", [False, True])
async def test_a_connection_serves_one_exchange_after_the_other(run: Run, by_byte: bool) -> None:
    async def test() -> None:
        empty = b"HTTP/1.1 204 No Content\r\n\r\n"
        not_modified = b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n'
        async with Service(OK, CHUNKED, empty, not_modified, OK, by_byte=by_byte) as service:
            assert [(await service.ask())[::2] for _ in range(5)] == [
                (200, b"hello"), (200, b"hello"), (204, b""), (304, b""), (200, b"hello"),
            ]  # fmt: skip
            assert service.connections == 1

    await run(test())


@pytest.mark.parametrize("by_byte", [False, True])
async def test_interim_answers_and_trailers_are_passed_over(run: Run, by_byte: bool) -> None:
    async def test() -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nx-hint: 1\r\n\r\n"
        trailed = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nset-cookie: a=1\r\n\r\n"
        async with Service(hints + OK, trailed, OK, by_byte=by_byte) as service:
            assert await service.ask() == (200, {b"content-length": b"5"}, b"hello")
            assert await service.ask() == (200, {b"transfer-encoding": b"chunked"}, b"hi")
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 1

    await run(test())


async def test_no_body_is_waited_for_that_does_not_come(run: Run) -> None:
    async def test() -> None:
        not_modified = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        async with Service(not_modified, head, OK) as service:
            assert (await service.ask())[2] == b""
            assert (await service.ask("HEAD"))[::2] == (200, b"")
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 3, "after those nobody can be sure where the next answer begins"

    await run(test())


async def test_a_body_may_end_with_the_connection(run: Run) -> None:
    async def test() -> None:
        async with Service(b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nhello", close=True) as service:
            assert (await service.ask())[2] == b"hello"
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 2

    await run(test())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"",
    ],
)
async def test_what_is_not_a_whole_answer_is_none(run: Run, answer: bytes) -> None:
    async def test() -> None:
        async with Service(answer, OK, close=True) as service:
            with pytest.raises(NoAnswer) as broken:
                await service.ask()
            assert (broken.value.kind, broken.value.untouched) == ("broken", answer == b"")
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 2

    await run(test())


async def test_what_nobody_asked_for_is_not_taken_for_an_answer(run: Run) -> None:
    """A second answer, sent with or after the first, must not reach who asks next."""

    async def test() -> None:
        evil = b"HTTP/1.1 200 OK\r\nx-evil: 1\r\ncontent-length: 4\r\n\r\nevil"
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        async with Service(OK + evil, OK + b"\r\n\r\nx", head + b"evil!", b"HTTP/1.1 204 No\r\n\r\n" + evil, OK) as service:
            assert await service.ask() == (200, {b"content-length": b"5"}, b"hello")
            assert (await service.ask())[2] == b"hello"
            assert (await service.ask("HEAD"))[2] == b""
            assert await service.ask() == (204, {}, b"")
            assert await service.ask() == (200, {b"content-length": b"5"}, b"hello")
            assert service.connections == 5
        async with Service(OK, OK, late=evil) as service:
            assert (await service.ask())[2] == b"hello"
            await asyncio.sleep(0.05)
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 2

    await run(test())


async def test_closed_connections_are_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Service(OK, OK, OK, OK, close=True) as service:
            for _ in range(2):
                assert (await service.ask())[2] == b"hello"
                await asyncio.sleep(0.05)  # it is closed by the other side
            assert service.connections == 2
        async with Service(OK, OK) as service:
            await service.ask()
            monkeypatch.setattr(upstream, "_IDLE_SECONDS", 0.0)
            assert (await service.ask())[2] == b"hello"
            assert service.connections == 2

    await run(test())


async def test_a_polite_goodbye_is_heard(run: Run) -> None:
    async def test() -> None:
        async with Service(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", OK) as service:
            await service.ask()
            await service.ask()
            assert service.connections == 2

    await run(test())


async def test_silence_ends_before_and_within_an_answer(run: Run) -> None:
    async def test() -> None:
        async with Service(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello", OK) as service:
            for _ in range(2):
                with pytest.raises(NoAnswer) as silent:
                    await service.ask(silence_s=0.1)
                assert silent.value.kind == "timeout"
            assert (await service.ask())[2] == b"hello"

    await run(test())


async def test_there_are_no_more_connections_than_allowed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(upstream, "_QUEUE_SECONDS", 0.1)
        async with Service(OK, OK, OK) as service:
            taken = [await service.upstream.take() for _ in range(2)]
            with pytest.raises(NoAnswer) as busy:
                await service.upstream.take()
            assert busy.value.kind == "busy"
            for connection in taken:
                service.upstream.give_back(connection)
            assert len({id(await service.upstream.take()) for _ in range(2)} & {id(connection) for connection in taken}) == 2

    await run(test())


async def test_a_service_that_is_not_there(run: Run) -> None:
    async def test() -> None:
        nobody = Upstream("http://127.0.0.1:1", 1)
        for _ in range(3):  # a failure gives its place back
            with pytest.raises(NoAnswer) as refused:
                await nobody.take()
            assert (refused.value.kind, refused.value.untouched) == ("refused", True)

    await run(test())


async def test_a_body_in_pieces_is_framed(run: Run) -> None:
    async def test() -> None:
        got = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.readuntil(b"0\r\n\r\n"))
            writer.write(OK)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.sleep(0.01)
            yield b"a" * 16

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        service = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 1)
        connection = await service.take()
        await connection.request("POST", REQUEST, pieces(), chunked=True, silence_s=2)
        assert await got == REQUEST + b"3\r\none\r\n10\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"
        assert await connection.read() == b"hello"
        assert connection.is_reusable
        service.give_back(connection)
        service.close()
        server.close()

    await run(test())


async def test_a_slow_reader_holds_the_service_back(run: Run) -> None:
    async def test() -> None:
        size = 50_000_000
        written = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            while written < size:
                writer.write(b"x" * 100_000)
                await writer.drain()
                written += 100_000

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        service = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 1)
        connection: Connection = await service.take()
        await connection.request("GET", REQUEST, None, chunked=False, silence_s=2)
        await asyncio.sleep(0.2)
        assert written < size / 2, "what is not read is not fetched either"
        got = 0
        while piece := await connection.read():
            got += len(piece)
        assert got == size
        service.give_back(connection)
        service.close()
        server.close()

    await run(test())
