"""`commerce events tail`: people see what goes by."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from typer.testing import CliRunner, Result

from cli.events import events_app
from contracts.events import OrderCompleted
from tests.conftest import ROOT, changing
from tests.events.conftest import World, in_background, outbox


async def events(world: World, *arguments: str) -> Result:
    """Run `commerce events` against the world's broker."""
    return await invoked(world.broker.bootstrap, *arguments)


async def invoked(bootstrap: str, *arguments: str, **variables: str) -> Result:
    """Run it in a thread: it has an event loop of its own."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, **variables}
    return await asyncio.to_thread(lambda: CliRunner().invoke(events_app, arguments, env=environment))


@asynccontextmanager
async def published(world: World) -> AsyncIterator[None]:
    async with in_background(world.relay()):
        await world.until_published()
        yield


async def test_tail_prints_a_line_for_each_event_in_the_sequence_of_their_times(world: World) -> None:
    orders = [uuid4() for _ in range(3)]
    for number in range(2):
        for order in orders:
            await world.record(order, number)
    async with published(world):
        result = await events(world, "tail", "--topic", world.topic, "--no-follow")
        assert result.exit_code == 0, result.output
        lines = [line.split(maxsplit=5) for line in result.stdout.splitlines()]
        assert [line[4] for line in lines] == [str(order) for order in orders] * 2
        assert {tuple(line[2:4]) for line in lines} == {(world.topic, "OrderCompleted")}
        assert [line[5].split("total=")[1] for line in lines] == ["0 USD"] * 3 + ["1 USD"] * 3
        assert [line[:2] for line in lines] == sorted(line[:2] for line in lines)

        only = await events(world, "tail", "--topic", world.topic, "--no-follow", "--order", str(orders[1]), "--json")
        found = [json.loads(line) for line in only.stdout.splitlines()]
        assert [event["subject"] for event in found] == [str(orders[1])] * 2
        assert [event["data"]["total"]["amount"] for event in found] == ["0", "1"]
        assert {event["topic"] for event in found} == {world.topic}


async def test_tail_shows_no_personal_data_and_lets_nothing_steer_the_terminal(world: World) -> None:
    fields = {"topic": world.topic, "__annotations__": {"email": str, "note": str}}
    kind: type[Any] = type("UserRegistered", (OrderCompleted,), fields)
    event = kind.model_construct(
        order_id=uuid4(), customer_id=uuid4(), email="zoe@example.org", note="mail zoe@example.org \x1b[2J now"
    )
    async with changing(world.database) as work:
        outbox.add(work, event)
    async with published(world):
        for option in ((), ("--json",)):
            result = await events(world, "tail", "--topic", world.topic, "--no-follow", *option)
            assert "UserRegistered" in result.stdout
            assert "***" in result.stdout
            assert "zoe" not in result.stdout
            assert "\x1b" not in result.stdout


async def test_tail_follows_until_it_is_interrupted(world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "events", "tail", "--topic", world.topic, "--from-beginning"),
        env={"PATH": "", "KAFKA_BOOTSTRAP_SERVERS": world.broker.bootstrap},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with in_background(world.relay()):
        for number in range(3):  # each is there before the next one happens
            await world.record(uuid4(), number)
            async with asyncio.timeout(30):
                assert f"total={number} USD" in (await process.stdout.readline()).decode()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0


async def test_what_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    unknown = await events(world, "tail", "--topic", "no-such-topic", "--no-follow")
    assert unknown.exit_code == 1
    assert "order-events" in unknown.stderr
    nowhere = await invoked("", "tail", "--data", str(tmp_path))
    assert nowhere.exit_code == 2
    assert "No platform runs" in nowhere.stderr
    down = await invoked("127.0.0.1:1", "tail")
    assert down.exit_code == 2
    assert "does not answer" in down.stderr
    no_databases = await invoked("", "dead-letters", "list", "--data", str(tmp_path))
    assert no_databases.exit_code == 2
    assert "DATABASE_URL_" in no_databases.stderr
