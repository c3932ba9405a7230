"""A booking meets a cancel, or another try of itself, in every order of their steps, and one of them dies on the way: never are
there two labels, and none that is not needed is forgotten.

A step is what lies between two pauses, which are before and after each call of the carrier. The carrier is the real simulator,
the database is real; only the moments are chosen.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlmodel import select

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked
from contracts import shipments as contract
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.shipments import CreateShipment, ShipmentStatus
from services.shipping.adapters import EasyPost
from services.shipping.commands import parcels, refunds
from services.shipping.model import LabelRefund, Package, Shipment
from services.shipping.model.shipment import HAS_LEFT
from services.shipping.ports import Carrier, Consignment, Label, News, Offer, Picture, Rate, RefundState, TrackerNews, Verified
from services.shipping.sending import Sending
from tests.conftest import ADMIN, changing, eventually
from tests.services.shipping.conftest import CarrierSimulator
from tests.services.shipping.parcels import events_of, order, package_of, shipment_of, tell, undo

Reply = TypeVar("Reply")
Death = tuple[str, int] | None
AT_ONCE = asyncio.Semaphore(8)
_WAITING = text("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
_DUE = locked(Package, Package.refund == LabelRefund.DUE)  # type: ignore[arg-type]


class Actor:
    """One caller of a command, whose steps are taken when the test says so. It stands between its command and the carrier."""

    name = "easypost"
    capabilities = EasyPost.capabilities

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

    async def offer(self, consignment: Consignment) -> Offer:
        return await self._between_pauses(lambda: self._carrier.offer(consignment))

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        return await self._between_pauses(lambda: self._carrier.buy(provider_id, rate))

    async def find(self, provider_id: str) -> Label | None:
        return await self._carrier.find(provider_id)

    async def refund(self, provider_id: str) -> RefundState:
        return await self._carrier.refund(provider_id)

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        return await self._carrier.picture(consignment, label)

    async def track(self, provider_id: str) -> TrackerNews | None:
        return await self._carrier.track(provider_id)

    async def verify(self, address: Address) -> Verified | None:
        return await self._carrier.verify(address)

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        return self._carrier.news(headers, body)

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


async def settle(database: Database, sending: Sending) -> None:
    """What the job does in time: see to the money of labels that are not needed."""
    async with changing(database) as work:
        for package in await work.all(_DUE):
            package.refund_at = utc_now()
    while await refunds.settle_refunds(database, sending):
        pass


@dataclass
class Played:
    """An order, and those who worked on it."""

    parcel: CreateShipment
    actors: list[Actor] = field(default_factory=list)

    async def end(self, database: Database, simulator: CarrierSimulator) -> ShipmentStatus:
        """Where it ended: the carrier sold one label at most, and none that we do not use or ask the money of back; nobody was
        told otherwise, and each thing was published once."""
        shipment = await shipment_of(database, self.parcel.order_id)
        labels = await simulator.labels(self.parcel.order_id)
        assert len(labels) <= 1
        for label in labels:
            package = await package_of(database, shipment.shipment_id)
            assert (package.provider_id, package.tracking_number) == (label["shipment_id"], label["tracking_code"])
            is_needed = shipment.status in HAS_LEFT | {ShipmentStatus.BOOKED}
            assert (label["refund_status"] is None) == is_needed
            assert package.refund == (LabelRefund.NONE if is_needed else LabelRefund.SUBMITTED)
        told = await events_of(database, self.parcel.order_id)
        assert all(told.count(once) <= 1 for once in ("ShipmentCreated", "ShipmentDispatched", "TrackingUpdated CANCELLED"))
        assert ("ShipmentDispatched" in told) == (shipment.status in HAS_LEFT)
        assert ("TrackingUpdated CANCELLED" in told) <= (shipment.status == ShipmentStatus.CANCELLED)
        for answer in (actor.answer() for actor in self.actors):
            match answer:
                case Refusal(code=ErrorCode.ALREADY_DISPATCHED):
                    assert shipment.status in HAS_LEFT
                case Refusal():
                    assert answer.code in (ErrorCode.SHIPMENT_CANCELLED, ErrorCode.ILLEGAL_TRANSITION, ErrorCode.NOT_FOUND)
                case BaseException():
                    raise answer
                case contract.Shipment(status=ShipmentStatus.CANCELLED):
                    assert shipment.status == ShipmentStatus.CANCELLED
                case contract.Shipment(status=ShipmentStatus.BOOKED):
                    assert len(labels) == 1
                case Shipment():
                    assert shipment.status in HAS_LEFT
        return shipment.status


class Plays:
    """Begins the commands of a test."""

    def __init__(self, database: Database, carrier: Carrier) -> None:
        self.database, self._carrier = database, carrier

    def create(self, parcel: CreateShipment) -> Actor:
        return Actor(self._carrier, lambda carrier: parcels.create_shipment(self.database, Sending([carrier]), parcel))

    def cancel(self, parcel: CreateShipment) -> Actor:
        return Actor(self._carrier, lambda _: parcels.cancel_shipment(self.database, undo(parcel)))

    def dispatch(self, parcel: CreateShipment) -> Actor:
        async def act(_: Carrier) -> Shipment:
            async with self.database.reading() as session:
                row = (await session.exec(select(Shipment).where(Shipment.order_id == parcel.order_id))).one_or_none()
            return await parcels.dispatch_shipment(self.database, ADMIN, row.shipment_id if row else uuid4())

        return Actor(self._carrier, act)


@pytest.fixture
def plays(database: Database, carrier: EasyPost) -> Plays:
    return Plays(database, carrier)


async def to_its_end(*actors: Actor) -> None:
    for actor in actors:
        while actor.is_under_way:
            await actor.step()


async def play(interleaving: Sequence[str], death: Death, a: Actor, b: Actor) -> None:
    taken = {"a": 0, "b": 0}
    for name in interleaving:
        actor = a if name == "a" else b
        if death == (name, taken[name]):
            await actor.die()
        if death is None or death[0] != name or taken[name] < death[1]:
            await actor.step()
        taken[name] += 1
    await to_its_end(a, b)


STEPS = 5
"""Of a booking: up to the offer | the offer | write it down | buy | write it down."""
DEATHS: list[Death] = [None, *[("a", step) for step in range(1, STEPS)]]


async def test_a_cancel_always_ends_a_booking_under_way(plays: Plays, sending: Sending, simulator: CarrierSimulator) -> None:
    async def one(interleaving: Sequence[str], death: Death) -> Played:
        async with AT_ONCE:
            parcel = order()
            played = Played(parcel, [plays.create(parcel), plays.cancel(parcel)])
            await play(interleaving, death, *played.actors)
            return played

    moments = list(itertools.product(sorted(set(itertools.permutations("a" * STEPS + "b"))), DEATHS))
    games = await asyncio.gather(*itertools.starmap(one, moments))
    await settle(plays.database, sending)
    bought = 0
    for played in games:
        assert await played.end(plays.database, simulator) == ShipmentStatus.CANCELLED
        bought += len(await simulator.labels(played.parcel.order_id))
        if isinstance(played.actors[0].answer(), Refusal):
            assert "ShipmentCreated" not in await events_of(plays.database, played.parcel.order_id)
    assert 0 < bought < len(games)  # else this tests nothing


async def test_two_tries_of_a_booking_buy_one_label(plays: Plays, simulator: CarrierSimulator) -> None:
    """The first may be dead, or only slow: the second never buys what it has bought, or buys later."""

    async def one(interleaving: Sequence[str], death: Death) -> Played:
        async with AT_ONCE:
            parcel = order()
            played = Played(parcel, [plays.create(parcel), plays.create(parcel)])
            await play(interleaving, death, *played.actors)
            return played

    interleavings = random.Random(1).sample(sorted(set(itertools.permutations("aaaaabbbb"))), 40)
    games = await asyncio.gather(*itertools.starmap(one, itertools.product(interleavings, DEATHS)))
    for played in games:
        assert await played.end(plays.database, simulator) == ShipmentStatus.BOOKED
        assert await events_of(plays.database, played.parcel.order_id) == ["ShipmentCreated"]


async def test_cancel_and_dispatch_never_both_win(plays: Plays, sending: Sending, simulator: CarrierSimulator) -> None:
    async def one(seed: int) -> Played:
        async with AT_ONCE:
            parcel = order()
            await parcels.create_shipment(plays.database, sending, parcel)
            played = Played(parcel, [plays.cancel(parcel), plays.dispatch(parcel), plays.cancel(parcel), plays.dispatch(parcel)])
            random.Random(seed).shuffle(played.actors)
            await asyncio.gather(*[actor.step() for actor in played.actors])
            return played

    games = await asyncio.gather(*map(one, range(60)))
    await settle(plays.database, sending)
    ends = {await played.end(plays.database, simulator) for played in games}
    assert ends == {ShipmentStatus.CANCELLED, ShipmentStatus.DISPATCHED}


async def test_many_at_once_with_deaths_news_and_restarts(plays: Plays, sending: Sending, simulator: CarrierSimulator) -> None:
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
                    begin = chance.choice([plays.create, plays.create, plays.cancel, plays.dispatch])
                    played.actors.append(begin(parcel))
                    alive.append(played.actors[-1])
                elif what < 0.28 and alive:
                    await alive.pop(chance.randrange(len(alive))).die()
                elif what < 0.36 and "ShipmentDispatched" in await events_of(plays.database, parcel.order_id):
                    await tell(plays.database, parcel, chance.choice(["in_transit", "failure"]))
                elif alive:
                    await chance.choice(alive).step()
            last = plays.create(parcel)
            played.actors.append(last)
            await last.step()
            await to_its_end(*alive, last)
            return played

    games = await asyncio.gather(*map(one, range(50)))
    await settle(plays.database, sending)
    ends = Counter([await played.end(plays.database, simulator) for played in games])
    assert ends.keys() >= {ShipmentStatus.CANCELLED, ShipmentStatus.DISPATCHED, ShipmentStatus.BOOKED}


@pytest.mark.parametrize("parcels_at_first", [2, 1], ids=["of two", "a second one came later"])
async def test_who_tells_of_one_parcel_waits_for_who_tells_of_another_of_the_order(
    database: Database, sending: Sending, parcels_at_first: int
) -> None:
    """Else their events could be committed, and published, against their numbers."""
    first = order().model_copy(update={"parcels": parcels_at_first})
    second = first.model_copy(update={"parcel": 2})
    ids = []
    for command in (first, second):
        await parcels.create_shipment(database, sending, command)
        ids.append((await shipment_of(database, command.order_id, command.parcel)).shipment_id)
    async with changing(database) as work:
        shipment = await work.get(Shipment, ids[0])
        assert shipment is not None
        await parcels.publish(work, shipment, shipment.dispatch())
        other = asyncio.ensure_future(parcels.dispatch_shipment(database, ADMIN, ids[1]))

        async def is_held_up() -> bool:
            async with database.reading() as session:
                return other.done() or (await session.execute(_WAITING)).scalar_one() > 0

        await eventually(is_held_up, what="the other parcel's turn")
        assert not other.done()
    assert (await other).status == ShipmentStatus.DISPATCHED
