"""Rewind and rebuild: the outboxes give events of the past to one consumer again."""

from datetime import timedelta
from uuid import uuid4

import pytest

from chassis.clock import utc_now
from contracts.events import OrderCancelled
from contracts.money import Money
from embedded.postgres import PostgresServer
from tests.conftest import changing, eventually
from tests.events.conftest import World, in_background, outbox
from tests.events.test_dead_letters import letters_command, two_listeners

pytestmark = pytest.mark.timeout(300)


async def test_an_order_is_rewound_to_one_consumer_alone(world: World, postgres: PostgresServer) -> None:
    """The consumer's tables were put back from a backup: what it did is gone, and so is its inbox."""
    order, other = uuid4(), uuid4()
    await world.record(order, 1, 2)
    await world.record(other, 7)
    total = Money(amount=1)
    unhandled = OrderCancelled(order_id=order, customer_id=order, total=total, refunded=total, was_confirmed=True)
    async with changing(world.database) as work:
        outbox.add(work, unhandled)
    async with two_listeners(world, postgres) as (producer, listener):
        async with in_background(world.relay(), producer.consumer(), listener.consumer()):

            async def all_applied() -> bool:
                return len(await producer.effects()) == len(await listener.effects()) == 3

            await eventually(all_applied, timeout_s=60)
            arguments = ["rewind", "notification", "--order", str(order)]
            nothing = await letters_command(producer, listener, arguments=arguments)
            assert nothing.stdout.splitlines() == [
                "3 events in the archive; 2 of them were applied already",
                "notification: 1 handed back",  # of a type that it does not handle, so nothing comes of it
                "notification: 1 applied, 0 failed again, 0 still to be tried",
            ]
            await world.rows("delete from effects", database=listener.database)
            await world.rows("delete from inbox", database=listener.database)
            rewound = await letters_command(producer, listener, arguments=arguments)
            assert rewound.exit_code == 0, rewound.output
            assert "notification: 3 applied, 0 failed again, 0 still to be tried" in rewound.stdout
            assert await listener.effects() == [1, 2]
            again = await letters_command(producer, listener, arguments=[*arguments, "--again"])
            assert again.exit_code == 0, again.output
        assert await listener.effects() == [1, 2, 1, 2]  # as it was asked for
        assert len(await producer.effects()) == 3
        assert await listener.letters() == []  # what never failed leaves nothing behind


async def test_a_period_is_rewound_and_what_fails_becomes_a_letter(world: World, postgres: PostgresServer) -> None:
    for number in range(1, 6):
        await world.record(uuid4(), number)
    await world.rows("update outbox set created_at = now() - interval '2 hours' where seq <= 2")
    async with two_listeners(world, postgres) as (producer, listener):
        listener.broken = {4}
        async with in_background(listener.consumer()):  # nothing is published: all it gets is what is rewound
            since, until = ((utc_now() - timedelta(hours=hours)).isoformat() for hours in (1, -1))
            arguments = ["rewind", "notification", "--since", since, "--until", until, "--type", "OrderCompleted"]
            rewound = await letters_command(producer, listener, arguments=arguments)
            assert rewound.exit_code == 1
            assert "notification: 2 applied, 1 failed again, 0 still to be tried" in rewound.stdout
            assert await listener.effects() == [3, 5]
            await listener.until_parked(1)
            early = await letters_command(producer, listener, arguments=["rewind", "notification", "--since", "2020-01-01"])
            assert "The archive of order begins at" in early.stderr
        nameless = await letters_command(producer, listener, arguments=["rewind", "notification"])
        assert nameless.exit_code == 2
