"""The explorer's Temporal in memory does with a saga what the real server does: the same calls, the same words to the record."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from contracts.errors import ErrorCode
from contracts.orders import OrderStatus
from testing.explorer.adversary import Choices, Story
from testing.explorer.explore import play_order
from testing.explorer.run import Played
from testing.model import World
from testing.model.world import Fault, refused, unavailable
from testing.sagas import place_order, playing, skipping_time

Faults = Mapping[str, list[Fault]]
CASES: dict[str, tuple[Story, Faults]] = {
    "no trouble": ({}, {}),
    "out of stock": (
        {"ReserveInventory 1": "refused: out_of_stock"},
        {"ReserveInventory": [refused(ErrorCode.OUT_OF_STOCK)]},
    ),
    "declined": (
        {"ProcessPayment 1": "refused: payment_declined"},
        {"ProcessPayment": [refused(ErrorCode.PAYMENT_DECLINED)]},
    ),
    "undeliverable": (
        {"CreateShipment 1": "refused: address_undeliverable"},
        {"CreateShipment": [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]},
    ),
    "one fault": ({"CreateShipment 1": "down"}, {"CreateShipment": [unavailable]}),
    "a fault that outlasts the first tries": (
        {"CreateShipment 1": "down", "CreateShipment 2": "down", "CreateShipment 3": "down"},
        {"CreateShipment": [unavailable] * 3},
    ),
    "an undo that is refused at first": (
        {"ProcessPayment 1": "refused: payment_declined", "ReleaseInventory 1": "refused by mistake: conflict"},
        {"ProcessPayment": [refused(ErrorCode.PAYMENT_DECLINED)], "ReleaseInventory": [refused(ErrorCode.CONFLICT)]},
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def env() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_time() as env:
        yield env


@pytest.fixture
def in_memory(name: str) -> Played:
    """Played before the test's own event loop runs: the engine has another."""
    return play_order(Choices(story=CASES[name][0]))


@pytest.mark.parametrize("name", CASES)
async def test_the_engine_plays_as_the_server_does(env: WorkflowEnvironment, in_memory: Played, name: str) -> None:
    world, order = World(), place_order()
    world.before |= CASES[name][1]
    # Time is skipped only where a try waits for minutes: a confirmed order would else not be picked up for days.
    clock = nullcontext() if "ReleaseInventory" in world.before else env.with_time_skipping_disabled()
    async with playing(env, world, order) as saga:
        with clock:
            if (await saga.place()).status == OrderStatus.CONFIRMED:
                await saga.report("DISPATCHED", "IN_TRANSIT", "DELIVERED")
        state = await saga.handle.result()
    assert in_memory.result is not None
    assert (state.status, state.code) == (in_memory.result.status, in_memory.result.code)
    assert [advance.path for advance in world.orders.advances] == [advance.path for advance in in_memory.advances]
    assert Counter(world.calls) == Counter(in_memory.adversary.calls)
