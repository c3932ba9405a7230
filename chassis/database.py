"""One service's PostgreSQL database: its connections, its columns, and which of its errors pass."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
from pydantic_core import from_json
from sqlalchemy import Column, DateTime, Enum, MetaData, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.statements import Prepared
from contracts.budgets import LOCK_WAIT_S

CONNECT_S = 10
"""How long a server may take to accept a connection."""
IDLE_S = 60.0
"""How long a connection is kept that nobody needs: each is a process of PostgreSQL's, with memory of its own."""
Answer = TypeVar("Answer")
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


def enum_column(kind: type[StrEnum], *, nullable: bool = False, **options: Any) -> "Column[Any]":
    """A column that holds an enumeration's values as text: a new member needs no migration."""
    names = Enum(kind, native_enum=False, length=40, values_callable=lambda members: [member.value for member in members])
    return Column(names, nullable=nullable, **options)


def time_column(*, nullable: bool = False, **options: Any) -> "Column[datetime]":
    """A column for an aware time."""
    return Column(DateTime(timezone=True), nullable=nullable, **options)


class Reader:
    """Reads from one PostgreSQL server. Its connections are opened when they are needed and closed when they are idle."""

    def __init__(self, url: str, pool_size: int) -> None:
        # Each is busy for one round trip only, so few of them serve many.
        self._rows = _Pool(url, max(1, pool_size // 4), _READING)
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_use_lifo=True,  # so that what is not needed stays idle, and is closed
            hide_parameters=True,  # errors are logged; what people entered is not
            connect_args={
                "timeout": CONNECT_S,
                "server_settings": _READING,
            },
        )
        _close_when_idle(self._engine)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries; PostgreSQL refuses to change anything in it."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            yield session

    async def rows(self, statement: Prepared, **values: Any) -> list[asyncpg.Record]:
        """What one statement finds, for questions that are asked often: one round trip, with no session around it."""
        async with self._rows.connection() as connection:
            try:
                return list(await connection.fetch(statement.sql, *statement.arguments(values)))
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                without_values(error)
                raise

    async def answer(self, query: Callable[["Reader"], Awaitable[Answer]]) -> Answer:
        """What a query answers that reads here. `chassis.replica` has another place to ask, with the same method."""
        return await query(self)

    async def close(self) -> None:
        await self._rows.close()
        await self._engine.dispose()


class Database(Reader):
    """The only way to a service's tables: commands change through `chassis.store`, queries read in sessions of their own.

    It has at most `pool_size` connections for queries in sessions, as many for commands, and a quarter as many for `rows`.
    """

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        super().__init__(url, pool_size)
        self.url = url
        self._changes = _Pool(url, pool_size, _CHANGING)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection on which changes are made. For the store alone."""
        async with self._changes.connection() as connection:
            yield connection

    async def ping(self) -> None:
        """Return if the database answers; raise otherwise."""
        async with self._engine.connect() as connection:
            await connection.execute(text("select 1"))

    @property
    def asyncpg_dsn(self) -> str:
        """The address as asyncpg itself takes it."""
        return _dsn(self.url)

    async def close(self) -> None:
        await self._changes.close()
        await super().close()


_READING = {
    "default_transaction_read_only": "on",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}
_CHANGING = {
    # A statement that waits longer than this is in the way of others itself; better a fault that is tried again.
    "lock_timeout": f"{LOCK_WAIT_S:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
}


class _Pool:
    """Connections of asyncpg itself, opened when they are needed and closed when they are idle."""

    def __init__(self, url: str, size: int, server_settings: dict[str, str]) -> None:
        self._url, self._size, self._server_settings = url, size, server_settings
        self._pool: asyncpg.Pool | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                _dsn(self._url),
                min_size=0,
                max_size=self._size,
                max_inactive_connection_lifetime=IDLE_S,
                connection_class=_Connection,
                init=_decode_json,
                timeout=CONNECT_S,
                server_settings=self._server_settings,
            )
        await self._pool  # it is ready after the first time
        async with self._pool.acquire(timeout=10) as connection:
            yield connection

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def _dsn(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def _decode_json(connection: asyncpg.Connection) -> None:
    # What is written was encoded by SQLAlchemy's column types.
    await connection.set_type_codec("jsonb", encoder=str, decoder=from_json, schema="pg_catalog")


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """Nothing that outlives a transaction is ever set on it, so there is nothing to reset."""

    def get_reset_query(self) -> str:
        return ""


def _close_when_idle(engine: AsyncEngine) -> None:
    """SQLAlchemy keeps every connection that it ever needed, even one that the server has closed; asyncpg's own pool does not."""
    closing: WeakKeyDictionary[ConnectionPoolEntry, asyncio.TimerHandle] = WeakKeyDictionary()

    def given_back(_: object, record: ConnectionPoolEntry) -> None:
        closing[record] = asyncio.get_running_loop().call_later(IDLE_S, record.invalidate)

    def taken(_: object, record: ConnectionPoolEntry, __: object) -> None:
        if timer := closing.pop(record, None):
            timer.cancel()
        connection: Any = record.driver_connection
        if connection.is_closed():
            raise DisconnectionError  # the pool makes a new one in its place

    event.listen(engine.sync_engine, "checkin", given_back)
    event.listen(engine.sync_engine, "checkout", taken)


def is_connection_fault(error: BaseException) -> bool:
    """Whether the database could not be reached or went away: a fault to be retried, never a verdict on the request.

    Classes 08 (connection), 57P (shutdown, crash, cannot connect now) and 53 (no resources) of PostgreSQL's error codes.
    """
    if isinstance(error, OSError):
        return is_network_fault(error)
    if _is_unfit(error):
        return False
    if isinstance(error, InterfaceError | asyncpg.InterfaceError | PoolTimeout):
        return True
    is_invalid = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_invalid or sqlstate(error).startswith(("08", "57P", "53"))


def _is_unfit(error: BaseException) -> bool:
    """Whether a value could not be encoded for its column: an error of the interface, as asyncpg and SQLAlchemy call it."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return isinstance(cause, asyncpg.InterfaceError) and isinstance(cause, ValueError)


def without_values(error: asyncpg.PostgresError | asyncpg.InterfaceError) -> None:
    """Take out of an error what it repeats of a row's values, which are not for the log."""
    error.detail = None
    if _is_unfit(error) or sqlstate(error).startswith("22"):  # of data that do not fit, even the message repeats some
        error.args = (f"{type(error).__name__}: a value does not fit",)


def is_lock_fault(error: BaseException) -> bool:
    """Whether others were in the way: a lock that did not come in time (55P03), a deadlock (40P01), a conflict of concurrent
    transactions (40001). The same transaction may go through when it is tried again."""
    return sqlstate(error) in ("55P03", "40P01", "40001")


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code of an error; empty if it is none of PostgreSQL's."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


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
