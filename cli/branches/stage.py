"""What a branch of the order saga is played on, and what is played in many of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.orders import OrderStatus
from contracts.parcels import ParcelStatus
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import unavailable
from testing.sagas import Saga
from testing.shop import until

WITHIN_S = 120.0


def _down_for_long() -> None:
    raise ApplicationError("down for long", next_retry_delay=timedelta(minutes=15))


GONE = [*[unavailable] * 12, *[_down_for_long] * 10_000]
"""What a company is that does not come back. After some tries it is asked only now and then, because each takes real time."""
UNTIL_GIVEN_UP_S = 12.5 * 3600
"""A little longer than a step that an outside company does is tried (`temporal.retries.OUTSIDE`)."""
ANN = {"by": "ann", "reason": "looked at it"}


@dataclass
class Stage:
    """What a branch is played on."""

    saga: Saga
    world: World
    first_run_id: str = ""
    """Of an order that goes on in another run."""

    async def cancel(self) -> None:
        with suppress(WorkflowUpdateFailedError):
            await self.saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})

    async def decide(self, choice: str) -> None:
        """About the parcel, once it is in trouble."""
        await self.reaches(OrderStatus.UNDELIVERED)
        await self.saga.update("decide_parcel", ANN | {"choice": choice})

    async def reaches(self, status: OrderStatus) -> None:
        async def there() -> bool:
            return (await self.saga.state()).status == status

        await until(there, f"the order to be {status}", WITHIN_S)

    async def tells(self, words: str) -> None:
        """Returns once the timeline says so, to staff or customers."""

        async def told() -> bool:
            return any(words in f"{entry['what']} {entry['for_staff']}" for entry in await self.saga.handle.query("timeline"))

        await until(told, f"the timeline to tell: {words}", WITHIN_S)

    async def calls(self, command: str, times: int = 1) -> None:
        async def called() -> bool:
            return self.world.calls.count(command) >= times

        await until(called, f"{command} to be called {times} times", WITHIN_S)

    async def parcels_are(self, *statuses: ParcelStatus) -> None:
        async def there() -> bool:
            return [parcel.status for parcel in (await self.saga.state()).parcels] == [*statuses]

        await until(there, f"the parcels to be {', '.join(statuses)}", WITHIN_S)

    async def later(self, seconds: float) -> None:
        """Let so much time pass, or until the saga ends; hour by hour, since Temporal skips only so many times at once."""
        left = seconds + 60
        try:
            while left > 0:
                await self.saga.env.fast_forward(self.saga.handle, timedelta(seconds=min(left, 3600)))
                left -= 3600
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    def leaves(self) -> None:
        """The carrier takes the parcel; the saga does not hear of it yet."""
        self.world.shipping.move(self.saga.order.order_id, 1, ShipmentStatus.DISPATCHED)


Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Branch:
    """One way through the saga. Played with the clock standing still, but for what the branch itself skips."""

    play: Play
    is_open: bool = False
    """Whether the saga still runs afterwards."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the order."""
    is_long: bool = False
    """Whether it goes on in another run; both histories are kept."""
    world: Callable[[], World] = World
    """Where it is played: by default at one warehouse that has everything."""


def meets(*, before: Mapping[str, Sequence[Callable[[], None]]], after: Play | None = None) -> Play:
    """An order whose calls meet trouble; if it is confirmed all the same, it is delivered."""

    async def play(stage: Stage) -> None:
        stage.world.before |= {command: list(faults) for command, faults in before.items()}
        if (await stage.saga.place()).status == OrderStatus.CONFIRMED:
            await (after or delivered)(stage)

    return play


async def nothing(stage: Stage) -> None:
    """No more than is played anyway."""


async def notified(stage: Stage) -> None:
    await stage.calls("SendNotification")


async def delivered(stage: Stage) -> None:
    await stage.saga.report("DISPATCHED", "IN_TRANSIT", "DELIVERED")


async def placed(stage: Stage) -> None:
    await stage.saga.place()
    await notified(stage)


def then(*steps: Play) -> Play:
    """A confirmed order, and what happens to it."""

    async def play(stage: Stage) -> None:
        await placed(stage)
        for step in steps:
            await step(stage)

    return play


def reported(*statuses: str, parcel: int = 1) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.report(*statuses, parcel=parcel)

    return play


def decided(choice: str) -> Play:
    async def play(stage: Stage) -> None:
        await stage.decide(choice)

    return play


def after(seconds: float) -> Play:
    async def play(stage: Stage) -> None:
        await stage.later(seconds)

    return play


def reaching(status: OrderStatus) -> Play:
    async def play(stage: Stage) -> None:
        await stage.reaches(status)

    return play


async def cancelled(stage: Stage) -> None:
    await stage.cancel()


def then_delivered(play: Play) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await delivered(stage)

    return played


async def workflow_cancelled(stage: Stage) -> None:
    await stage.saga.handle.cancel()


def then_cancelled(play: Play) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await cancelled(stage)

    return played


def then_later(play: Play, seconds: float) -> Play:
    async def played(stage: Stage) -> None:
        await play(stage)
        await stage.later(seconds)

    return played


def tells(words: str) -> Play:
    async def play(stage: Stage) -> None:
        await stage.tells(words)

    return play


def reviewed(*steps: Play) -> Play:
    """An order that is held, and what happens to it."""

    async def play(stage: Stage) -> None:
        await stage.saga.place()
        for step in steps:
            await step(stage)

    return play


def told(name: str, argument: Mapping[str, Any] = ANN) -> Play:
    """By an update."""

    async def play(stage: Stage) -> None:
        await stage.saga.update(name, dict(argument))

    return play


def signalled(name: str, argument: Mapping[str, Any] = ANN) -> Play:
    async def play(stage: Stage) -> None:
        await stage.saga.handle.signal(name, dict(argument))

    return play
