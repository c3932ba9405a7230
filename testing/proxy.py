"""A TCP proxy between two parts of the platform that can be slow, silent or broken."""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

from embedded.ports import free_port

CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """Passes what comes to `port` on to `target_port`, both on 127.0.0.1. Healthy until something else is said."""

    def __init__(self) -> None:
        self.port, self.target_port = free_port(), free_port()
        self._delay_s = 0.0
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        self.heal()
        self._break_all()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def slow(self, delay_s: float) -> None:
        """Each piece of data comes that much later, in both directions."""
        self._delay_s = delay_s

    def silence(self) -> None:
        """Nothing comes through any more, and nobody is told; what was sent meanwhile arrives after `heal`."""
        self._passing.clear()

    def reset(self) -> None:
        """Every connection breaks, and so does each new one until `heal`."""
        self._refusing = True
        self._break_all()

    def heal(self) -> None:
        """Pass everything on at once, as before."""
        self._delay_s, self._refusing = 0.0, False
        self._passing.set()

    def _break_all(self) -> None:
        for task, writers in self._connections.items():
            for writer in writers:
                _reset(writer)
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        try:
            if self._refusing:
                _reset(writer)
                return
            await self._passing.wait()
            beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            writers.append(beyond_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, beyond_writer))
                both.create_task(self._pass(beyond_reader, writer))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            for each in writers:  # the target is down, or one side broke: the other one sees it
                _reset(each)
        finally:
            for each in writers:
                each.close()
            del self._connections[task]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, and without sending what is still to be sent."""
    if (connection := writer.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
