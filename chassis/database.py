"""One service's PostgreSQL database. A command opens one transaction; leaving it commits, an exception rolls it back."""

import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, DateTime, Enum, MetaData, text
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def new_metadata() -> MetaData:
    """Metadata for one service's tables. Each service has its own, so that a tool may load several services side by side."""
    return MetaData(naming_convention=NAMING)


def enum_column(kind: type[StrEnum], **options: Any) -> "Column[Any]":
    """A column that holds an enumeration's values as text: a new member needs no migration."""
    names = Enum(kind, native_enum=False, length=40, values_callable=lambda members: [member.value for member in members])
    return Column(names, nullable=False, **options)


def time_column(*, nullable: bool = False, **options: Any) -> "Column[datetime]":
    """A column for an aware time."""
    return Column(DateTime(timezone=True), nullable=nullable, **options)


class Database:
    """The only way to a service's tables."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = url
        self._engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            hide_parameters=True,  # errors are logged; what people entered is not
            # A statement that waits longer than this waits for a lock that will not come; better a fault that is retried.
            connect_args={"server_settings": {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}},
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One unit of work. The only place that commits. Do no network call inside it."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries; what they changed would be rolled back."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            yield session

    async def ping(self) -> None:
        """Return if the database answers; raise otherwise."""
        async with self._engine.connect() as connection:
            await connection.execute(text("select 1"))

    @property
    def asyncpg_dsn(self) -> str:
        """The address as asyncpg itself takes it, for LISTEN."""
        return self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def close(self) -> None:
        await self._engine.dispose()


def is_connection_fault(error: BaseException) -> bool:
    """Whether the database could not be reached or went away: a fault to be retried, never a verdict on the request."""
    if isinstance(error, OSError):
        return is_network_fault(error)
    if isinstance(error, InterfaceError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or is_server_gone(error.orig))


def is_server_gone(error: BaseException | None) -> bool:
    """Classes 08 (connection) and 57P (shutdown, crash, cannot connect now) and 53 (no resources) of PostgreSQL's error codes."""
    state = str(getattr(error, "sqlstate", None) or "")
    return state.startswith(("08", "57P", "53"))


def is_lock_fault(error: BaseException) -> bool:
    """Whether others were in the way: a lock that did not come in time (55P03), a deadlock (40P01), a conflict of concurrent
    transactions (40001). The same transaction may go through when it is tried again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in ("55P03", "40P01", "40001")


def is_passing(error: BaseException) -> bool:
    """Whether the same may go through later, as it is."""
    return is_connection_fault(error) or is_lock_fault(error)


def is_network_fault(error: OSError) -> bool:
    """Whether the other side could not be reached. Python has one exception for that and for files that cannot be opened."""
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError):
        return True
    if type(error) is OSError and error.errno is None:  # what asyncio raises when it tried several addresses in vain
        return True
    return error.errno in _NETWORK


_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EADDRNOTAVAIL}
)


async def lock(session: AsyncSession, *keys: object) -> None:
    """Let one transaction at a time work on each of `keys` (e.g. an order's id), also while no row of it exists yet.

    Several are taken in one fixed order, so that two transactions can never wait for each other.
    """
    statement = text("select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest(cast(:keys as text[])) as key")
    await session.execute(statement, {"keys": sorted(map(str, keys))})
