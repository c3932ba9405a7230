"""The services' databases: where they are, and which of them have a table."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import asyncpg
import typer

from chassis.database import Database
from chassis.settings import async_driver

PREFIX = "DATABASE_URL_"


def databases(variables: Mapping[str, str]) -> dict[str, str]:
    """The address of each service's database, as asyncpg takes it."""
    found = {name.removeprefix(PREFIX).lower(): url for name, url in variables.items() if name.startswith(PREFIX)}
    return {name: url.replace("postgresql+asyncpg://", "postgresql://", 1) for name, url in sorted(found.items())}


async def with_table(urls: Mapping[str, str], table: str) -> list[str]:
    """Those of the services whose database has a table, e.g. `dead_letters`: the consumers. Raises OSError or PostgresError."""
    names = []
    for name, url in urls.items():
        connection = await asyncpg.connect(url, timeout=10)
        try:
            if await connection.fetchval("select to_regclass($1) is not null", table):
                names.append(name)
        finally:
            await connection.close()
    return names


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A service's database, as the service itself reads and changes it."""
    database = Database(async_driver(url), pool_size=1)
    try:
        yield database
    finally:
        await database.close()


def chosen(names: Iterable[str], wanted: str | None, what: str) -> list[str]:
    """All of them, or the one that is wanted; exits with a word to the user if there is none of that name."""
    known = list(names)
    if wanted is None:
        return known
    if wanted not in known:
        typer.echo(f"{wanted} is no {what}. There are: {', '.join(known)}", err=True)
        raise typer.Exit(2)
    return [wanted]
