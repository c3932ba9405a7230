"""`commerce events …`: what goes through Kafka, and what could not be handled. The work is done in `cli.topics`."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

events_app = typer.Typer(no_args_is_help=True, help="Look at the events on Kafka, and at those that no consumer could handle.")

_Data = Annotated[
    Path,
    typer.Option("--data", help="Data directory of a platform on this machine; its broker, unless the environment names one."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
DEFAULT_DATA = Path(".commerce")


@events_app.command()
def tail(
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic, e.g. order-events; may be repeated.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Also what is there already.")] = False,
    order: Annotated[UUID | None, typer.Option(help="Only the events of this order.")] = None,
    as_json: _Json = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on, or stop at the end of what is there.")] = True,
    data: _Data = DEFAULT_DATA,
) -> None:
    """Print events as they come, a line each: time, topic, type, key, data. Personal data are masked."""
    from cli import topics

    async def run(broker: str) -> int:
        return await topics.tail(broker, topic or (), from_beginning=from_beginning, order=order, as_json=as_json, follow=follow)

    _run(data, run)


@events_app.command()
def dead_letters(
    topic: Annotated[str | None, typer.Argument(help="Only those of this topic, e.g. order-events.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were put back already.")] = False,
    as_json: _Json = False,
    data: _Data = DEFAULT_DATA,
) -> None:
    """List the events that a consumer could not handle, with its error."""
    from cli import topics

    async def run(broker: str) -> int:
        return await topics.dead_letters(broker, topic, everything=everything, as_json=as_json)

    _run(data, run)


@events_app.command()
def replay_dead_letters(
    topic: Annotated[str, typer.Argument(help="The topic that they came from, e.g. order-events.")],
    data: _Data = DEFAULT_DATA,
) -> None:
    """Put a topic's dead letters back on it, once each. Who has applied such an event already passes over it."""
    from cli import topics

    async def run(broker: str) -> int:
        return await topics.replay(broker, topic)

    _run(data, run)


def _run(data: Path, command: Callable[[str], Awaitable[int]]) -> None:
    """Run it against the broker of the environment, or of the platform that runs on this machine."""
    from aiokafka.errors import KafkaError

    from embedded.platform import find_running

    running = find_running(data)
    broker = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or (running.env["KAFKA_BOOTSTRAP_SERVERS"] if running else None)
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
