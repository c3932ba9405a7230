"""Shipping's commands, a carrier between their transactions, and what always holds of parcels."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import in_transaction
from contracts.address import Address
from contracts.errors import ErrorCode, Refusal
from contracts.events import OrderForgotten
from contracts.ids import parcel_reference, return_reference
from contracts.money import Money
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateReturnLabel, CreateShipment
from services.shipping import commands
from services.shipping.ports import Booking, Carrier, CarrierNews, Parcel, ReturnParcel
from tests.conftest import ADMIN
from tests.races.machine import Command, Rows, Subject, seeded_uuid, stop

TO = Address(name="A. Customer", line1="12 Main Street", city="Cincinnati", region="OH", postal_code="45202", country="US")
HAS_LEFT = frozenset({"DISPATCHED", "IN_TRANSIT", "DELIVERED", "LOST", "RETURNED"})


@dataclass
class Van(Carrier):
    """What a carrier promises, without a network. Now and then an answer is lost."""

    booked: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    random: Random | None = None

    async def book(self, parcel: Parcel | ReturnParcel) -> Booking:
        await stop("the carrier is asked to book")
        if (parcel.to if isinstance(parcel, Parcel) else parcel.origin).city == "Nowhere":
            raise Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "no")
        if parcel.reference in self.cancelled:
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "no")
        self.booked.add(parcel.reference)
        await self._answer()
        return Booking(f"TRK {parcel.reference}", Money(amount=Decimal(5)))

    async def cancel(self, reference: str) -> None:
        await stop("the carrier is asked to cancel")
        if reference in self.taken:
            raise Refusal(ErrorCode.ALREADY_DISPATCHED, "no")
        self.cancelled.add(reference)
        await self._answer()

    async def pick_up(self, reference: str) -> None:
        await stop("the carrier is asked to come")
        if not self.take(reference):
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "no")
        await self._answer()

    def take(self, reference: str) -> bool:
        """Whether it has the parcel now."""
        if reference in self.booked and reference not in self.cancelled:
            self.taken.add(reference)
        return reference in self.taken

    async def _answer(self) -> None:
        await stop("the carrier answers")
        if self.random is not None and self.random.random() < 0.15:
            raise Unavailable("the answer was lost")


@dataclass(frozen=True)
class Dock:
    """Orders with a parcel each: the first is booked, the second has left and has a label for its return, the others are new."""

    orders: tuple[UUID, ...]
    shipments: tuple[UUID, ...]
    van: Van


def to_create(order_id: UUID, city: str = "Cincinnati") -> CreateShipment:
    ship_to = TO.model_copy(update={"city": city})
    return CreateShipment(order_id=order_id, customer_id=order_id, warehouse_id="w1", ship_to=ship_to, weight_grams=1000)


def to_label(order_id: UUID, number: int = 1, city: str = "Cincinnati") -> CreateReturnLabel:
    ship_from = TO.model_copy(update={"city": city})
    return CreateReturnLabel(
        order_id=order_id, number=number, customer_id=order_id, ship_from=ship_from, warehouse_id="w2", weight_grams=1000
    )


async def prepare(database: Database, random: Random) -> Dock:
    van, orders = Van(), tuple(seeded_uuid(random) for _ in range(4))
    shipments = [(await commands.create_shipment(database, van, to_create(order_id))).shipment_id for order_id in orders[:2]]
    await commands.dispatch_shipment(database, van, ADMIN, shipments[1])
    await commands.create_return_label(database, van, to_label(orders[1]))
    van.random = Random(random.random())
    return Dock(orders, tuple(shipments), van)


def create(dock: Dock, random: Random) -> Command:
    command = to_create(random.choices(dock.orders, (1, 1, 4, 1))[0], random.choice(("Cincinnati", "Cincinnati", "Nowhere")))
    return lambda database: commands.create_shipment(database, dock.van, command)


def cancel(dock: Dock, random: Random) -> Command:
    command = CancelShipment(order_id=random.choices(dock.orders, (4, 2, 2, 1))[0], reason="test")
    return lambda database: commands.cancel_shipment(database, dock.van, command)


def dispatch(dock: Dock, random: Random) -> Command:
    shipment = random.choice(dock.shipments)
    seen = random.choice((None, None, 1, 2))
    return lambda database: commands.dispatch_shipment(database, dock.van, ADMIN, shipment, seen)


def deliver(dock: Dock, random: Random) -> Command:
    shipment, seen = random.choice(dock.shipments), random.choice((None, None, 2, 3))
    return lambda database: commands.deliver_shipment(database, ADMIN, shipment, seen)


def report(dock: Dock, random: Random) -> Command:
    """The carrier takes a parcel, if it may, and tells that it is on its way, at the door, lost or on its way back."""
    order_id, other = dock.orders[:2]
    reference = random.choice((parcel_reference(order_id, 1), parcel_reference(other, 1), return_reference(other, 1)))
    status = random.choice(("picked_up", "dispatched", "in_transit", "delivered", "lost", "returned"))
    news = CarrierNews(id=f"evt_{random.randint(1, 3)}", reference=reference, status=status, occurred_at=utc_now())

    async def tell(database: Database) -> None:
        if dock.van.take(reference):
            await commands.apply_carrier_news(database, news)

    return tell


def create_label(dock: Dock, random: Random) -> Command:
    command = to_label(dock.orders[1], random.choice((1, 2)), random.choice(("Cincinnati", "Cincinnati", "Nowhere")))
    return lambda database: commands.create_return_label(database, dock.van, command)


def cancel_label(dock: Dock, random: Random) -> Command:
    command = CancelReturnLabel(order_id=dock.orders[1], number=random.choice((1, 1, 2)), reason="test")
    return lambda database: commands.cancel_return_label(database, dock.van, command)


def settle(dock: Dock, random: Random) -> Command:
    return lambda database: commands.settle_asked(database, dock.van, after=timedelta(0))


def forget(dock: Dock, random: Random) -> Command:
    """The order has ended: its parcel has left, or was called off."""
    event = OrderForgotten(order_id=dock.orders[1], customer_id=dock.orders[1])
    return lambda database: in_transaction(database, lambda work: commands.forget_order(work, event))


COMMANDS: dict[str, Callable[[Dock, Random], Command]] = {
    "create": create,
    "cancel": cancel,
    "dispatch": dispatch,
    "deliver": deliver,
    "report": report,
    "create label": create_label,
    "cancel label": cancel_label,
    "settle": settle,
    "forget": forget,
}

_ONCE_OF_A_LABEL = ("BOOKED", "DISPATCHED", "DELIVERED", "RETURNED")
_ONCE = ("ShipmentCreated", "ShipmentDispatched", "ShipmentDelivered", "ShipmentReturned")


def broken(rows: Rows, dock: Dock) -> Sequence[str]:
    """What is cancelled has not left, what has left is not cancelled, and each stage was told once and in its turn."""
    wrong = []
    told: dict[str, list[str]] = defaultdict(list)
    labels = {(row["order_id"], row["parcel"]): row["shipment_id"] for row in rows["shipments"] if row["direction"] == "inbound"}
    for event in rows["outbox"]:
        data = event["envelope"]["data"]
        if event["envelope"]["type"] == "ReturnLabelUpdated":
            told[labels[data["order_id"], data["number"]]].append(data["status"])
        else:
            told[data["shipment_id"]].append(event["envelope"]["type"])
    if doubled := [key for key, times in Counter(row["reference"] for row in rows["shipments"]).items() if times > 1]:
        wrong.append(f"more than one parcel of {doubled}")
    for parcel in rows["shipments"]:
        reference, status, events = parcel["reference"], parcel["status"], told[parcel["shipment_id"]]
        if status == "CANCELLED" and reference in dock.van.taken:
            wrong.append(f"{reference} is cancelled here, and the carrier has it")
        if status == "CANCELLED" and reference in dock.van.booked - dock.van.cancelled:
            wrong.append(f"{reference} is cancelled here, and booked at the carrier")
        if status in HAS_LEFT and reference not in dock.van.taken:
            wrong.append(f"{reference} is {status}, and the carrier has not got it")
        if (parcel["asked"] == "nothing") != (parcel["asked_at"] is None):
            wrong.append(f"{reference}: {parcel['asked']} was asked at {parcel['asked_at']}")
        if status not in ("PENDING", "BOOKED") and parcel["asked"] != "nothing":
            wrong.append(f"{reference} is {status}, and {parcel['asked']} is asked still")
        once = _ONCE_OF_A_LABEL if parcel["direction"] == "inbound" else _ONCE
        stages = [kind for kind in events if kind in once]
        if stages != sorted(set(stages), key=once.index) and not {"ShipmentLost", "LOST"} & set(events):
            wrong.append(f"{reference}: the events are {events}")
        if status in HAS_LEFT and stages[:2] != list(once[:2]):
            wrong.append(f"{reference} is {status}, and the events are {events}")
        lines = sum(row["shipment_id"] == parcel["shipment_id"] for row in rows["tracking_events"])
        if lines < len(events):
            wrong.append(f"{reference}: {len(events)} events, and {lines} lines of its history")
    return wrong


def save(dock: Dock) -> Any:
    return deepcopy((dock.van.booked, dock.van.cancelled, dock.van.taken))


def restore(dock: Dock, saved: Any) -> None:
    dock.van.booked, dock.van.cancelled, dock.van.taken = deepcopy(saved)


SUBJECT = Subject(
    "shipping",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset({"create", "cancel", "dispatch", "report", "create label", "cancel label", "settle"}),
    save=save,
    restore=restore,
)
