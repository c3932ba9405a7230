"""`commerce keys …`: the keys of customers, under which histories are encrypted; the master keys that wrap them; new keys."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

import typer

from cli.operators import (
    DEFAULT_DATA,
    DONE,
    REFUSED,
    UNREACHABLE,
    Data,
    columns,
    database_url,
    environment,
    fail,
    settings_from,
)

if TYPE_CHECKING:
    from chassis.database import Database
    from temporal.keys import MasterKeys

keys_app = typer.Typer(no_args_is_help=True, help="The keys of customers, the master keys that wrap them, and new keys.")
BATCH = 500
"""So many keys are wrapped again in one transaction."""


@keys_app.command("list")
def list_keys(data: Data = DEFAULT_DATA) -> None:
    """Count the keys by the master key that wraps them. One that wraps none, and is not the first, is needed no more."""

    async def work(database: "Database", master: "MasterKeys") -> int:
        from services.order.queries import keys_by_master

        counts = dict(await keys_by_master(database))
        destroyed = counts.pop(None, 0)
        rows = [
            (key_id, counts.get(key_id, 0), "wraps new ones" if key_id == master.current else "")
            for key_id in dict.fromkeys((master.current, *filter(None, counts)))
        ]
        columns(("MASTER KEY", "KEYS", ""), [*rows, *([("(destroyed)", destroyed, "")] if destroyed else [])])
        return DONE

    _run(environment(data), work)


@keys_app.command()
def rotate(data: Data = DEFAULT_DATA) -> None:
    """Wrap all keys by the first of the master keys. May be broken off and repeated; everything goes on meanwhile."""

    async def work(database: "Database", master: "MasterKeys") -> int:
        done, failed = await wrap_all_again(database, master)
        if failed:
            fail(f"{failed} keys could not be unwrapped. Which master key they need: `commerce keys list`.", REFUSED)
        typer.echo(f"All keys are wrapped by {master.current}; {done} were not before.")
        return DONE

    _run(environment(data), work)


async def wrap_all_again(database: "Database", master: "MasterKeys") -> tuple[int, int]:
    """Wrap all keys by the current master key; how many were wrapped by another one, and how many could not be unwrapped."""
    from services.order.commands import StoredKeys, wrap_keys_again
    from services.order.queries import keys_by_master, keys_not_wrapped_by
    from temporal.keys import KeyUnknown, OwnDataKeys, WrongKey

    keys = OwnDataKeys(StoredKeys(database), master)
    total = sum(count for key_id, count in await keys_by_master(database) if key_id not in (None, master.current))
    done, failed, after = 0, 0, None
    while batch := await keys_not_wrapped_by(database, master.current, after, BATCH):
        wrapped = []
        for key in batch:
            try:
                wrapped.append((key, await keys.wrap_again(key)))
            except (KeyUnknown, WrongKey) as error:
                typer.echo(f"{key.customer_id}: {error}", err=True)
        await wrap_keys_again(database, wrapped)
        done, failed, after = done + len(wrapped), failed + len(batch) - len(wrapped), batch[-1].customer_id
        typer.echo(f"{done + failed} of {total}")
    return done, failed


@keys_app.command()
def push() -> None:
    """Print a fresh key for push messages to browsers. Put it before those in VAPID_PRIVATE_KEY (docs/channels.md)."""
    from cli.secrets import p256_key

    typer.echo(p256_key())


def _run(env: Mapping[str, str], work: "Callable[[Database, MasterKeys], Awaitable[int]]") -> NoReturn:
    from pydantic import ValidationError

    from cli.databases import opened
    from temporal.keys import KeySettings

    try:
        master = settings_from(env, KeySettings).master_keys()
    except ValidationError as error:
        fail(f"CUSTOMER_KEYS_MASTER: {error.errors()[0]['msg']}", UNREACHABLE)
    if master is None:
        fail("The environment has no CUSTOMER_KEYS_MASTER.", UNREACHABLE)

    async def main() -> int:
        async with opened(database_url(env, "order")) as database:
            return await work(database, master)

    raise typer.Exit(asyncio.run(main()))
