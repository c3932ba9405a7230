"""Alembic for a service's own database. Each service has `migrations/env.py` (three lines) and `migrations/versions/`."""

import asyncio
from pathlib import Path

from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.settings import async_driver

_LOCK = 0x0A1E3B1C


def upgrade(migrations: Path, url: str, revision: str = "head") -> None:
    """Bring a database up to `revision`. Safe to run from several processes at once: an advisory lock lets one at a time."""
    command.upgrade(_config(migrations, url), revision)


def is_migrated(migrations: Path, url: str) -> bool:
    """Whether a database is at the head of these migrations, or at a revision that they do not know yet. False if it is away."""
    script = ScriptDirectory.from_config(_config(migrations, url))
    try:
        current = asyncio.run(_current(url))
    except (OSError, DBAPIError):
        return False
    known = {revision.revision for revision in script.walk_revisions()}
    return current is not None and (current == script.get_current_head() or current not in known)


async def _current(url: str) -> str | None:
    engine = create_async_engine(async_driver(url))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda inner: MigrationContext.configure(inner).get_current_revision())
    finally:
        await engine.dispose()


def _config(migrations: Path, url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("sqlalchemy.url", async_driver(url).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def run_environment(metadata: MetaData) -> None:
    """The body of a service's `migrations/env.py`."""
    asyncio.run(_run(metadata))


async def _run(metadata: MetaData) -> None:
    engine = create_async_engine(str(context.config.get_main_option("sqlalchemy.url")))
    async with engine.connect() as connection:
        await connection.run_sync(_migrate, metadata)
        await connection.commit()
    await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


def notify_on_insert_into_outbox() -> None:
    """For the migration that makes the outbox: wake the relay at the commit of every statement that adds events."""
    op.execute(
        """create function notify_outbox() returns trigger language plpgsql as
           $$ begin perform pg_notify('outbox', ''); return null; end $$"""
    )
    op.execute("create trigger outbox_notify after insert on outbox for each statement execute function notify_outbox()")
