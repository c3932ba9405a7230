"""How the commands for operators find the platform, reach its sagas and databases, and say what went wrong."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from temporal.codec import HistoryCodec
    from temporal.orders import OrderSagas
    from temporal.returns import ReturnSagas

Settings = TypeVar("Settings", bound="BaseSettings")

DEFAULT_DATA = Path(".commerce")
Data = Annotated[
    Path,
    typer.Option("--data", help="Data directory of a platform on this machine; its addresses, unless the environment has them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of columns.")]
DONE, REFUSED, UNREACHABLE = 0, 1, 2
"""Exit codes."""


def environment(data: Path) -> dict[str, str]:
    """The variables of the platform that runs on `data`, if one does; those of this process win. Empty ones count as not set."""
    ours = {name: value for name, value in os.environ.items() if value}
    try:
        from embedded.platform import find_running
    except ModuleNotFoundError:  # in the image, where nothing embedded is
        return ours
    running = find_running(data)
    return {**(running.env if running else {}), **ours}


def database_url(env: Mapping[str, str], service: str) -> str:
    """Where a service keeps its tables. Exits if the environment does not say."""
    name = f"DATABASE_URL_{service.upper()}"
    if name not in env:
        fail(f"No platform runs here, and the environment does not say where one is: {name}", UNREACHABLE)
    return env[name]


def settings_from(env: Mapping[str, str], kind: type[Settings]) -> Settings:
    """What these variables say, and no others. Raises ValidationError."""
    return kind.model_validate({field: env[field.upper()] for field in kind.model_fields if field.upper() in env})


@asynccontextmanager
async def history_codec(env: Mapping[str, str]) -> "AsyncIterator[HistoryCodec | None]":
    """What reads and writes histories as the order service does, from where that keeps its keys. None: they are in clear.

    Raises ValidationError, if it is not said how they are."""
    from chassis.database import Database
    from chassis.settings import async_driver
    from services.order.commands import StoredKeys
    from temporal.codec import HistoryCodec
    from temporal.keys import HistorySettings, OwnDataKeys

    settings = settings_from(env, HistorySettings)
    master = settings.master_keys()
    if master is None:
        yield None
        return
    database = Database(async_driver(database_url(env, "order")), pool_size=2)
    try:
        yield HistoryCodec(OwnDataKeys(StoredKeys(database), master), writes_in_clear=settings.histories_in_clear)
    finally:
        await database.close()


def run(env: Mapping[str, str], work: "Callable[[OrderSagas], Awaitable[int]]") -> NoReturn:
    """Do some work with the sagas of orders, and exit: 0 done, 1 refused or there is no such thing, 2 something cannot be
    reached."""
    run_with_returns(env, lambda sagas, _: work(sagas))


def run_with_returns(env: Mapping[str, str], work: "Callable[[OrderSagas, ReturnSagas], Awaitable[int]]") -> NoReturn:
    """The same with those of returns."""
    from pydantic import ValidationError

    from chassis.clients import Unavailable
    from contracts.errors import Refusal
    from temporal.client import TemporalSettings
    from temporal.keys import HistorySettings
    from temporal.orders import OrderSagas
    from temporal.returns import ReturnSagas

    async def main() -> int:
        settings = settings_from(env, TemporalSettings)
        async with (
            history_codec(env) as codec,
            OrderSagas(settings, codec) as sagas,
            ReturnSagas(settings, codec) as sagas_of_returns,
        ):
            return await work(sagas, sagas_of_returns)

    try:
        settings_from(env, HistorySettings)
    except ValidationError as error:
        fail("; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors()), UNREACHABLE)
    try:
        code = asyncio.run(main())
    except Refusal as refusal:
        more = "; ".join(f"{name}: {', '.join(map(str, value))}" for name, value in refusal.extra.items() if value)
        fail(f"{refusal.code}: {refusal.detail}{f' ({more})' if more else ''}", REFUSED)
    except (Unavailable, OSError) as error:
        fail(str(error), UNREACHABLE)
    raise typer.Exit(code)


def fail(why: str, code: int) -> NoReturn:
    """Say why on standard error, and exit."""
    typer.echo(plain(why), err=True)
    raise typer.Exit(code)


def columns(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print plain columns."""
    cells = [list(heads), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def plain(words: object) -> str:
    """Somebody's words on one line. They cannot steer the terminal."""
    from contracts.base import told

    return told(str(words))


def at(time: datetime) -> str:
    """A time as operators read it, UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}"
