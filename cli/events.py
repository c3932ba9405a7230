"""`commerce events …`: what goes through Kafka, what could not be handled, and what is to be handled again.

The work is done in `cli.topics`, `cli.dead_letters` and `cli.archive`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.operators import DEFAULT_DATA, Data, environment

events_app = typer.Typer(no_args_is_help=True, help="Look at events, and have them handled again.")
letters_app = typer.Typer(no_args_is_help=True, help="Events that a consumer could not handle.")
events_app.add_typer(letters_app, name="dead-letters")

_Consumer = Annotated[str | None, typer.Option(help="Only those of this consumer, e.g. notification.")]
_Order = Annotated[UUID | None, typer.Option(help="Only those of this order.")]
_Type = Annotated[str | None, typer.Option("--type", help="Only those of this type, e.g. OrderCancelled.")]
_Since = Annotated[str | None, typer.Option(help="Only from this time on, e.g. 2026-01-31T12:00Z.")]
_Until = Annotated[str | None, typer.Option(help="Only before this time.")]
_Letters = Annotated[list[UUID] | None, typer.Argument(help="Their ids; or choose some by the options.")]
_Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]
_Wait = Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait, at most, for what becomes of them.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@events_app.command()
def tail(
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic, e.g. order-events; may be repeated.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also what is there already.")] = False,
    order: Annotated[UUID | None, typer.Option(help="Only the events of this order.")] = None,
    as_json: _Json = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on, or stop at the end of what is there.")] = True,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print events as they come, a line each: time, topic, type, key, data. Personal data are masked."""
    from cli import topics

    async def run(broker: str) -> int:
        return await topics.tail(broker, topic or (), from_beginning=from_beginning, order=order, as_json=as_json, follow=follow)

    _run(data, run)


@events_app.command()
def document() -> None:
    """Print the AsyncAPI document of all events: topics, keys and schemas."""
    from cli.release.documents import asyncapi

    typer.echo(json.dumps(asyncapi(), indent=2, ensure_ascii=False))


@letters_app.command("list")
def list_letters(
    consumer: _Consumer = None,
    order: _Order = None,
    kind: _Type = None,
    since: _Since = None,
    until: _Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are settled or being handed back.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most.")] = 50,
    page: Annotated[int, typer.Option(min=1, max=1000, help="The next ones.")] = 1,
    as_json: _Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List events that a consumer could not handle, with its error; those that failed first at first."""
    from chassis.dead_letters import LetterState
    from cli import dead_letters

    states = tuple(LetterState) if everything else (LetterState.OPEN,)
    selection = dead_letters.Selection(
        consumer=consumer, order=order, type=kind, since=_time(since), until=_time(until), states=states
    )
    _run_on_databases(data, lambda urls: dead_letters.show_list(urls, selection, limit=limit, page=page, as_json=as_json))


@letters_app.command()
def show(letter: Annotated[UUID, typer.Argument(help="Its id, as `list` tells it.")], data: Data = DEFAULT_DATA) -> None:
    """Print all that is known of one dead letter. Personal data are masked."""
    from chassis.dead_letters import LetterState
    from cli import dead_letters

    selection = dead_letters.Selection(letters=(letter,), states=tuple(LetterState))
    _run_on_databases(data, lambda urls: dead_letters.show_one(urls, selection))


@letters_app.command()
def replay(
    letters: _Letters = None,
    consumer: _Consumer = None,
    order: _Order = None,
    kind: _Type = None,
    since: _Since = None,
    until: _Until = None,
    everything: _Everything = False,
    wait: _Wait = 30.0,
    data: Data = DEFAULT_DATA,
) -> None:
    """Hand open dead letters back to the consumers that they belong to, and to nobody else. 1: not all of them were applied."""
    from cli import dead_letters

    selection = dead_letters.Selection(
        consumer=consumer, letters=tuple(letters or ()), order=order, type=kind, since=_time(since), until=_time(until)
    )
    _refuse_everything(selection.is_everything and not everything)
    _run_on_databases(data, lambda urls: dead_letters.replay(urls, selection, wait_s=wait))


@letters_app.command()
def drop(
    reason: Annotated[str, typer.Option(help="Why its effect is not wanted; it is kept.")],
    letters: _Letters = None,
    consumer: _Consumer = None,
    order: _Order = None,
    kind: _Type = None,
    since: _Since = None,
    until: _Until = None,
    everything: _Everything = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Settle open dead letters without their effect."""
    from cli import dead_letters

    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    selection = dead_letters.Selection(
        consumer=consumer, letters=tuple(letters or ()), order=order, type=kind, since=_time(since), until=_time(until)
    )
    _refuse_everything(selection.is_everything and not everything)
    _run_on_databases(data, lambda urls: dead_letters.drop(urls, selection, reason.strip()))


@events_app.command()
def rewind(
    consumer: Annotated[str, typer.Argument(help="Who is to get them: order, payment, shipping, notification or analytics.")],
    order: _Order = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")] = None,
    since: _Since = None,
    until: _Until = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that it has applied; their inbox rows are forgotten.")
    ] = False,
    wait: _Wait = 30.0,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give one consumer the events of an order or of a period again, from the outboxes of the services that told of them."""
    from cli import archive

    if order is None and since is None:
        raise typer.BadParameter("name an order, or the begin of a period", param_hint="--order, --since")
    wanted = archive.Wanted(order, _time(since), _time(until), tuple(kind or ()))
    _run_on_databases(data, lambda urls: archive.rewind(urls, consumer, wanted, again=again, wait_s=wait))


@events_app.command()
def rebuild(
    consumer: Annotated[str, typer.Argument(help="What is made of events alone: analytics.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Empty a consumer's tables, apply every event that the outboxes still have, and compare; all or nothing."""
    from cli import archive

    _run_on_databases(data, lambda urls: archive.rebuild(urls, consumer, dry_run=dry_run))


def _time(text: str | None) -> datetime | None:
    """ISO 8601; without an offset it is UTC."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is no time as in 2026-01-31T12:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _refuse_everything(is_everything: bool) -> None:
    if is_everything:
        raise typer.BadParameter("name letters, or choose some by an option, or all of them by --all")


def _run_on_databases(data: Path, command: Callable[[Mapping[str, str]], Awaitable[int]]) -> None:
    """Run it against the databases of the environment, or of the platform that runs on this machine."""
    import asyncpg

    from cli.databases import databases

    urls = databases(environment(data))
    if not urls:
        typer.echo(f"No platform runs on {data}, and no DATABASE_URL_… names a service's database.", err=True)
        raise typer.Exit(2)

    async def main() -> int:
        return await command(urls)

    try:
        code = asyncio.run(main())
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        typer.echo(f"A database does not answer: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


def _run(data: Path, command: Callable[[str], Awaitable[int]]) -> None:
    """Run it against the broker of the environment, or of the platform that runs on this machine."""
    from aiokafka.errors import KafkaError

    broker = environment(data).get("KAFKA_BOOTSTRAP_SERVERS")
    if broker is None:
        typer.echo(f"No platform runs on {data}, and KAFKA_BOOTSTRAP_SERVERS names no broker.", err=True)
        raise typer.Exit(2)

    async def main() -> int:
        return await command(broker)

    try:
        code = asyncio.run(main())
    except KafkaError as error:
        typer.echo(f"The broker at {broker} does not answer: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    raise typer.Exit(code)
