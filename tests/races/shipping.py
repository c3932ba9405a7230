"""Shipping's commands, a carrier between their transactions, and what always holds of parcels."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
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
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateReturnLabel, CreateShipment, ShipmentStatus
from services.shipping.commands import news, parcels, refunds
from services.shipping.ports import (
    Capabilities,
    Carrier,
    Consignment,
    Label,
    News,
    Offer,
    Picture,
    Rate,
    RefundState,
    TrackerNews,
    Verified,
)
from services.shipping.sending import Sending
from tests.conftest import ADMIN
from tests.races.machine import Command, Rows, Subject, seeded_uuid, stop

TO = Address(name="A. Customer", line1="12 Main Street", city="Cincinnati", region="OH", postal_code="45202", country="US")
HAS_LEFT = frozenset({"DISPATCHED", "IN_TRANSIT", "DELIVERED", "LOST", "RETURNED"})


@dataclass
class Van(Carrier):
    """What a carrier promises, without a network. Now and then an answer is lost."""

    name = "van"
    capabilities = Capabilities(refunds=True, tracks=True)
    offered: dict[str, str] = field(default_factory=dict)
    """References, by shipment there."""
    bought: set[str] = field(default_factory=set)
    given_back: set[str] = field(default_factory=set)
    random: Random | None = None

    async def offer(self, consignment: Consignment) -> Offer:
        await stop("the carrier is asked for an offer")
        customer = consignment.origin if consignment.is_return else consignment.destination
        if customer.address.city == "Nowhere":
            raise Refusal(ErrorCode.ADDRESS_UNDELIVERABLE, "no")
        provider_id = f"shp_{len(self.offered)}"
        self.offered[provider_id] = consignment.reference
        await self._answer()
        return Offer(provider_id, [RATE])

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        await stop("the carrier is asked for a label")
        if provider_id in self.bought:
            raise Refusal(ErrorCode.CONFLICT, "it was bought before")
        self.bought.add(provider_id)
        await self._answer()
        return self._label(provider_id)

    async def find(self, provider_id: str) -> Label | None:
        await stop("the carrier is asked what was bought")
        return self._label(provider_id) if provider_id in self.bought else None

    async def refund(self, provider_id: str) -> RefundState:
        await stop("the carrier is asked for money")
        self.given_back.add(provider_id)
        await self._answer()
        return RefundState.SUBMITTED

    async def picture(self, consignment: Consignment, label: Label) -> Picture:
        return Picture("application/pdf", b"%PDF")

    async def track(self, provider_id: str) -> TrackerNews | None:
        return None

    async def verify(self, address: Address) -> Verified | None:
        return None

    def news(self, headers: Mapping[str, str], body: bytes) -> News | None:
        return None

    def labels_of(self, reference: str) -> list[str]:
        """Those that were bought, by shipment."""
        return [provider_id for provider_id in self.bought if self.offered[provider_id] == reference]

    def _label(self, provider_id: str) -> Label:
        refund = RefundState.SUBMITTED if provider_id in self.given_back else None
        return Label(f"TRK {self.offered[provider_id]}", RATE.carrier, RATE.service, RATE.cost, refund=refund)

    async def _answer(self) -> None:
        await stop("the carrier answers")
        if self.random is not None and self.random.random() < 0.15:
            raise Unavailable("the answer was lost")


RATE = Rate("rate_1", "VAN", "Ground", Money(amount=Decimal(5)), 3)


def sending(van: Van) -> Sending:
    return Sending([van])


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
    booked = [await parcels.create_shipment(database, sending(van), to_create(order_id)) for order_id in orders[:2]]
    shipments = [reply.shipment_id for reply in booked]
    await parcels.dispatch_shipment(database, ADMIN, shipments[1])
    await parcels.create_return_label(database, sending(van), to_label(orders[1]))
    van.random = Random(random.random())
    return Dock(orders, tuple(shipments), van)


def create(dock: Dock, random: Random) -> Command:
    command = to_create(random.choices(dock.orders, (1, 1, 4, 1))[0], random.choice(("Cincinnati", "Cincinnati", "Nowhere")))
    return lambda database: parcels.create_shipment(database, sending(dock.van), command)


def cancel(dock: Dock, random: Random) -> Command:
    command = CancelShipment(order_id=random.choices(dock.orders, (4, 2, 2, 1))[0], reason="test")
    return lambda database: parcels.cancel_shipment(database, command)


def dispatch(dock: Dock, random: Random) -> Command:
    shipment = random.choice(dock.shipments)
    seen = random.choice((None, None, 1, 2))
    return lambda database: parcels.dispatch_shipment(database, ADMIN, shipment, seen)


def deliver(dock: Dock, random: Random) -> Command:
    shipment, seen = random.choice(dock.shipments), random.choice((None, None, 2, 3))
    return lambda database: parcels.deliver_shipment(database, ADMIN, shipment, seen)


def news_of(reference: str, status: ShipmentStatus, number: object) -> TrackerNews:
    return TrackerNews(
        id=f"evt_{number}",
        provider_id=None,
        tracking_number=f"TRK {reference}",
        status=status,
        word=status.value,
        occurred_at=utc_now(),
    )


def report(dock: Dock, random: Random) -> Command:
    """A carrier has a parcel that was bought, and tells that it is on its way, at the door, lost or on its way back."""
    order_id, other = dock.orders[:2]
    reference = random.choice((parcel_reference(order_id, 1), parcel_reference(other, 1), return_reference(other, 1)))
    status = random.choice(("DISPATCHED", "IN_TRANSIT", "DELIVERED", "LOST", "RETURNED"))
    told = news_of(reference, ShipmentStatus(status), random.randint(1, 3))
    return lambda database: news.apply_carrier_news(database, told)


def create_label(dock: Dock, random: Random) -> Command:
    command = to_label(dock.orders[1], random.choice((1, 2)), random.choice(("Cincinnati", "Cincinnati", "Nowhere")))
    return lambda database: parcels.create_return_label(database, sending(dock.van), command)


def cancel_label(dock: Dock, random: Random) -> Command:
    command = CancelReturnLabel(order_id=dock.orders[1], number=random.choice((1, 1, 2)), reason="test")
    return lambda database: parcels.cancel_return_label(database, command)


def settle(dock: Dock, random: Random) -> Command:
    return lambda database: refunds.settle_refunds(database, sending(dock.van))


def forget(dock: Dock, random: Random) -> Command:
    """The order has ended: its parcel has left, or was called off."""
    event = OrderForgotten(order_id=dock.orders[1], customer_id=dock.orders[1])
    return lambda database: in_transaction(database, lambda work: parcels.forget_order(work, event))


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
        bought = dock.van.labels_of(reference)
        packages = [row for row in rows["packages"] if row["shipment_id"] == parcel["shipment_id"]]
        if len(bought) > 1:
            wrong.append(f"{reference} has {len(bought)} labels")
        if status in HAS_LEFT | {"BOOKED"} and not bought:
            wrong.append(f"{reference} is {status}, and has no label")
        if bought and not any(row["provider_id"] in bought for row in packages):
            wrong.append(f"{reference} has a label of which we do not know")
        for row in packages:
            is_open = row["refund"] in ("due", "submitted")
            if is_open != (row["refund_at"] is not None):
                wrong.append(f"{reference}: the money is {row['refund']}, and asked for at {row['refund_at']}")
            if (row["refund"] != "none") != (status in ("CANCELLED", "REFUSED") and row["provider_id"] is not None):
                wrong.append(f"{reference} is {status}, and the money of its label {row['refund']}")
            if row["provider_id"] in dock.van.given_back and status not in ("CANCELLED", "REFUSED"):
                wrong.append(f"{reference} is {status}, and its label was given back")
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
    return deepcopy((dock.van.offered, dock.van.bought, dock.van.given_back))


def restore(dock: Dock, saved: Any) -> None:
    dock.van.offered, dock.van.bought, dock.van.given_back = deepcopy(saved)


SUBJECT = Subject(
    "shipping",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset({"create", "cancel", "dispatch", "report", "create label", "cancel label", "settle"}),
    save=save,
    restore=restore,
)
