"""Two real PostgreSQL servers, one of which follows the other by streaming replication."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from embedded import postgres as embedded_postgres
from embedded.ports import free_port
from embedded.postgres import PostgresServer
from embedded.supervisor import Supervisor
from testing.faults import stopped
from tests.conftest import Databases, eventually


@dataclass
class Replicated:
    """A primary and its replica."""

    databases: Databases
    replica: PostgresServer
    supervisor: Supervisor

    def read_url(self, url: str) -> str:
        """Of the same database on the replica."""
        return self.replica.url(url.rpartition("/")[2])

    async def tell(self, statement: str) -> Any:
        """Let the replica's administrator execute something."""
        connection = await asyncpg.connect(self.replica.url("postgres", driver="postgresql"))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Inside, the replica applies nothing of what it receives."""
        await self.tell("select pg_wal_replay_pause()")

        async def is_paused() -> bool:
            return bool(await self.tell("select pg_get_wal_replay_pause_state()") == "paused")

        await eventually(is_paused)
        try:
            yield
        finally:
            await self.tell("select pg_wal_replay_resume()")

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside, the replica takes connections and requests, and answers none."""
        with stopped(self.supervisor.pid("replica")):
            yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicated]:
    folder = tmp_path_factory.mktemp("replicated")
    async with embedded_postgres.running(folder / "primary", ()) as primary:
        replica = PostgresServer(folder / "replica", free_port(), (), follows=primary)
        async with Supervisor(folder / "logs", [replica.spec("replica")]) as supervisor:
            yield Replicated(Databases(primary), replica, supervisor)
