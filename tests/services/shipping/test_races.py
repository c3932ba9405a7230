"""A cancel meets a dispatch, or a booking, in every order of their steps, and one of them dies on the way: never do both win.

A step is what lies between two pauses: write down the wish | ask the carrier | write down the answer. The carrier is the real
simulator, the database is real; only the moments are chosen.
"""

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pytest

from chassis.database import Database
from contracts import shipments as contract
from contracts.errors import ErrorCode, Refusal
from contracts.shipments import CreateShipment, ShipmentStatus
from services.shipping import commands
from services.shipping.adapters import HttpCarrier
from services.shipping.model import Shipment
from services.shipping.model.shipment import HAS_LEFT
from services.shipping.ports import Booking, Carrier, Parcel, ReturnParcel
from tests.conftest import ADMIN
from tests.services.shipping.conftest import CarrierSimulator
from tests.services.shipping.parcels import events_of, news, order, shipment_of, undo

Reply = TypeVar("Reply")
INTERLEAVINGS = sorted(set(itertools.permutations("aaabbb")))
Death = tuple[str, int] | None
DEATHS: list[Death] = [None, ("a", 1), ("a", 2), ("b", 1), ("b", 2)]
"""Who dies after how many steps: 1 = before it asked the carrier, 2 = before it wrote down the answer."""
MOMENTS = list(itertools.product(INTERLEAVINGS, DEATHS))
AGREED: dict[ShipmentStatus, set[str | None]] = {
    ShipmentStatus.PENDING: {"booked", None},
    ShipmentStatus.BOOKED: {"booked"},
    ShipmentStatus.DISPATCHED: {"picked_up"},
    ShipmentStatus.IN_TRANSIT: {"in_transit"},
    ShipmentStatus.LOST: {"lost"},
    ShipmentStatus.CANCELLED: {"cancelled", None},
}
"""What the carrier says of a parcel of which we say this."""
AT_ONCE = asyncio.Semaphore(8)


class Actor:
    """One caller of a command, whose steps are taken when the test says so."""

    def __init__(self, carrier: Carrier, act: Callable[[Carrier], Awaitable[object]]) -> None:
        self._carrier, self._act = carrier, act
        self._go, self._paused = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    async def step(self) -> None:
        """Go on to the next pause, or to the end."""
        self._paused.clear()
        if self._task is None:
            self._task = asyncio.ensure_future(self._act(self))
        self._go.set()
        pausing = asyncio.ensure_future(self._paused.wait())
        await asyncio.wait([self._task, pausing], return_when=asyncio.FIRST_COMPLETED)
        pausing.cancel()

    @property
    def is_under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    async def die(self) -> None:
        """As kill -9: nothing more is asked, nothing more is written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def answer(self) -> object:
        """What it returned or raised; None if it died, or was never begun."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception() or self._task.result()

    async def book(self, parcel: Parcel | ReturnParcel) -> Booking:
        return await self._between_pauses(lambda: self._carrier.book(parcel))

    async def cancel(self, reference: str) -> None:
        await self._between_pauses(lambda: self._carrier.cancel(reference))

    async def pick_up(self, reference: str) -> None:
        await self._between_pauses(lambda: self._carrier.pick_up(reference))

    async def _between_pauses(self, call: Callable[[], Awaitable[Reply]]) -> Reply:
        await self._pause()
        try:
            return await call()
        finally:
            await self._pause()

    async def _pause(self) -> None:
        self._go.clear()
        self._paused.set()
        await self._go.wait()


async def settle(database: Database, carrier: Carrier) -> None:
    """What the job does in time: ask again whatever has no answer."""
    while await commands.settle_asked(database, carrier, after=timedelta(0)):
        pass


@dataclass
class Played:
    """An order, and those who worked on it."""

    parcel: CreateShipment
    actors: list[Actor] = field(default_factory=list)

    async def end(self, database: Database, simulator: CarrierSimulator) -> ShipmentStatus:
        """Where it ended: we and the carrier say the same, nobody was told otherwise, each thing was published once."""
        shipment = await shipment_of(database, self.parcel.order_id)
        assert await simulator.status(self.parcel.order_id) in AGREED[shipment.status]
        told = await events_of(database, self.parcel.order_id)
        assert len(told) == len(set(told))
        assert ("ShipmentDispatched" in told) == (shipment.status in HAS_LEFT)
        assert ("TrackingUpdated CANCELLED" in told) <= (shipment.status == ShipmentStatus.CANCELLED)
        for answer in (actor.answer() for actor in self.actors):
            match answer:
                case Refusal(code=ErrorCode.ALREADY_DISPATCHED):
                    assert shipment.status in HAS_LEFT
                case Refusal():
                    assert answer.code in (ErrorCode.SHIPMENT_CANCELLED, ErrorCode.ILLEGAL_TRANSITION)
                case BaseException():
                    raise answer
                case contract.Shipment(status=ShipmentStatus.CANCELLED):
                    assert shipment.status == ShipmentStatus.CANCELLED
                case Shipment():
                    assert shipment.status in HAS_LEFT
        return shipment.status

    def refusals(self) -> set[ErrorCode]:
        return {answer.code for actor in self.actors if isinstance(answer := actor.answer(), Refusal)}


class Plays:
    """Begins the commands of a test."""

    def __init__(self, database: Database, carrier: Carrier) -> None:
        self.database, self._carrier = database, carrier

    def create(self, parcel: CreateShipment) -> Actor:
        return Actor(self._carrier, lambda carrier: commands.create_shipment(self.database, carrier, parcel))

    def cancel(self, parcel: CreateShipment) -> Actor:
        return Actor(self._carrier, lambda carrier: commands.cancel_shipment(self.database, carrier, undo(parcel)))

    def dispatch(self, parcel: CreateShipment) -> Actor:
        async def act(carrier: Carrier) -> Shipment:
            shipment = await shipment_of(self.database, parcel.order_id)
            return await commands.dispatch_shipment(self.database, carrier, ADMIN, shipment.shipment_id)

        return Actor(self._carrier, act)


@pytest.fixture
def plays(database: Database, carrier: HttpCarrier) -> Plays:
    return Plays(database, carrier)


async def play(interleaving: Sequence[str], death: Death, a: Actor, b: Actor) -> None:
    taken = {"a": 0, "b": 0}
    for name in interleaving:
        actor = a if name == "a" else b
        if death == (name, taken[name]):
            await actor.die()
        if death is None or death[0] != name or taken[name] < death[1]:
            await actor.step()
        taken[name] += 1


async def test_cancel_and_dispatch_never_both_win(plays: Plays, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    async def one(interleaving: Sequence[str], death: Death) -> Played:
        async with AT_ONCE:
            parcel = order()
            await commands.create_shipment(plays.database, carrier, parcel)
            played = Played(parcel, [plays.cancel(parcel), plays.dispatch(parcel)])
            await play(interleaving, death, *played.actors)
            return played

    games = await asyncio.gather(*itertools.starmap(one, MOMENTS))
    await settle(plays.database, carrier)
    winners: dict[Death, set[ShipmentStatus]] = defaultdict(set)
    for (_, death), played in zip(MOMENTS, games, strict=True):
        end = await played.end(plays.database, simulator)
        winners[death].add(end)
        assert end in (ShipmentStatus.CANCELLED, ShipmentStatus.DISPATCHED)
        assert played.refusals() <= {
            ErrorCode.SHIPMENT_CANCELLED if end == ShipmentStatus.CANCELLED else ErrorCode.ALREADY_DISPATCHED
        }
    # Each of them wins sometimes, else this tests nothing; a dispatch that never reached the carrier gives way.
    assert {death for death, ends in winners.items() if len(ends) < 2} == {("b", 1)}


async def test_a_cancel_always_ends_a_booking_under_way(plays: Plays, carrier: HttpCarrier, simulator: CarrierSimulator) -> None:
    async def one(interleaving: Sequence[str], death: Death) -> Played:
        async with AT_ONCE:
            parcel = order()
            played = Played(parcel, [plays.create(parcel), plays.cancel(parcel)])
            await play(interleaving, death, *played.actors)
            return played

    games = await asyncio.gather(*itertools.starmap(one, MOMENTS))
    await settle(plays.database, carrier)
    for played in games:
        assert await played.end(plays.database, simulator) == ShipmentStatus.CANCELLED
        if isinstance(played.actors[0].answer(), Refusal):
            assert "ShipmentCreated" not in await events_of(plays.database, played.parcel.order_id)


async def test_many_at_once_with_deaths_news_and_restarts(
    plays: Plays, carrier: HttpCarrier, simulator: CarrierSimulator
) -> None:
    """Up to nine commands on one order, in any order of steps, some of them killed; now and then the parcel moves on."""

    async def one(seed: int) -> Played:
        chance = random.Random(seed)
        async with AT_ONCE:
            parcel = order()
            first = plays.create(parcel)
            await first.step()
            played = Played(parcel, [first])
            alive = [first]
            for _ in range(30):
                what = chance.random()
                if what < 0.2 and len(played.actors) < 9:
                    begin = chance.choice([plays.create, plays.cancel, plays.dispatch, plays.dispatch])
                    played.actors.append(begin(parcel))
                    alive.append(played.actors[-1])
                elif what < 0.28 and alive:
                    await alive.pop(chance.randrange(len(alive))).die()
                elif what < 0.32:
                    await settle(plays.database, carrier)
                elif what < 0.36 and await simulator.status(parcel.order_id) == "picked_up":
                    where = chance.choice(["in_transit", "lost"])
                    await simulator.advance(where, parcel.order_id)
                    await commands.apply_carrier_news(plays.database, news(parcel, where))
                elif alive:
                    await chance.choice(alive).step()
            while any(actor.is_under_way for actor in alive):
                for actor in alive:
                    await actor.step()
            return played

    games = await asyncio.gather(*map(one, range(50)))
    await settle(plays.database, carrier)
    ends = Counter([await played.end(plays.database, simulator) for played in games])
    assert ends.keys() >= {ShipmentStatus.CANCELLED, ShipmentStatus.DISPATCHED, ShipmentStatus.IN_TRANSIT}
