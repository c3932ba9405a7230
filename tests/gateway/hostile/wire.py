"""A client that writes exactly the bytes it is told to, and reads answers strictly."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

PATIENCE_S = 120.0
"""For answers that must come: only a test that fails waits that long."""
_HEAD = re.compile(
    rb"HTTP/1\.1 (?P<status>[1-5][0-9][0-9]) [ -~]*\r\n(?P<lines>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t!-~\x80-\xff]*\r\n)*)\r\n"
)


class Malformed(AssertionError):
    """Bytes that are no HTTP/1.1 answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


def parse_answer(data: bytes, *, ended: bool, to_head: bool = False) -> tuple[Answer, bytes] | None:
    """The first answer in `data` and the bytes after it; None if it is not complete. Raises Malformed.

    `ended`: nothing more will come. `to_head`: it answers a HEAD request, so it has no body."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    match = _HEAD.fullmatch(data[: end + 4])
    if match is None:
        raise Malformed(f"no answer's head: {data[:200]!r}")
    status, rest = int(match["status"]), data[end + 4 :]
    headers = tuple(
        (name.decode().lower(), value.strip().decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in match["lines"].split(b"\r\n")[:-1])
    )
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Malformed(f"more than one length: {headers}")
    if to_head or status < 200 or status in (204, 304):
        return Answer(status, headers, b""), rest
    if lengths:
        if not lengths[0].isdecimal():
            raise Malformed(f"length {lengths[0]}")
        size = int(lengths[0])
        return (Answer(status, headers, rest[:size]), rest[size:]) if len(rest) >= size else None
    if codings:
        if codings != ["chunked"]:
            raise Malformed(f"transfer coding {codings}")
        found = _chunks(rest)
        return (Answer(status, headers, found[0]), found[1]) if found else None
    return (Answer(status, headers, rest), b"") if ended else None


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            raise Malformed(f"chunk size {line!r}")
        size = int(line, 16)
        if len(data) < size + 2:
            return None
        if data[size : size + 2] != b"\r\n":
            raise Malformed(f"chunk end {data[size : size + 2]!r}")
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body, data


class Wire:
    """One connection. It is the peer's answers that count: a peer that stops listening is no failure of `send`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.received = b""
        """What has come and was not taken as an answer yet."""
        self.ended = False
        """The other side has closed the connection."""

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """The pieces, each by itself."""
        with suppress(ConnectionError):
            for number, piece in enumerate(pieces):
                if number and pause_s:
                    await asyncio.sleep(pause_s)
                await asyncio.get_running_loop().sock_sendall(self._socket, piece)

    def end_sending(self) -> None:
        """Half-close: nothing more will be sent, answers are still read."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def answer(self, *, to_head: bool = False, patience_s: float = PATIENCE_S) -> Answer | None:
        """The next answer; None if the connection ended without one. Raises TimeoutError, Malformed."""
        async with asyncio.timeout(patience_s):
            while True:
                found = parse_answer(self.received, ended=self.ended, to_head=to_head)
                if found is not None:
                    answer, self.received = found
                    return answer
                if self.ended:
                    return None
                await self.receive()

    async def rest(self, *, patience_s: float = PATIENCE_S) -> bytes:
        """Everything until the other side closes the connection. Raises TimeoutError."""
        async with asyncio.timeout(patience_s):
            while not self.ended:
                await self.receive()
        rest, self.received = self.received, b""
        return rest

    async def receive(self) -> None:
        """Take in what has come; waits for it."""
        try:
            piece = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        except ConnectionError:
            piece = b""
        self.received += piece
        self.ended = not piece


@asynccontextmanager
async def connected(port: int, address: str = "127.0.0.1", *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """A connection to 127.0.0.1:`port`, from a loopback address of one's own choice."""
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        yield Wire(client)


async def exchange(port: int, *pieces: bytes, answers: int, to_head: bool = False, pause_s: float = 0.0) -> list[Answer]:
    """All answers to these bytes on a connection of their own, up to its end.

    Once so many `answers` have come, the client says that it is done, and whatever else comes is taken in, too. With 0 it
    does so after a moment. Raises Malformed, TimeoutError."""
    async with connected(port) as wire:
        await wire.send(*pieces, pause_s=pause_s)
        found: list[Answer] = []
        if answers == 0:
            await asyncio.sleep(0.1)
        while len(found) < answers and (answer := await wire.answer(to_head=to_head)):
            found.append(answer)
        wire.end_sending()
        while answer := await wire.answer(to_head=to_head):
            found.append(answer)
        if wire.received:
            raise Malformed(f"after the answers: {wire.received!r}")
        return found
