"""The order record's commands, and what always holds of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from uuid import UUID

from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import UnitOfWork, in_transaction, transaction
from contracts.address import FORGOTTEN, Address
from contracts.events import CustomerForgotten
from contracts.keys import WrappedKey
from contracts.money import Money
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, AdvanceOrder, CancelRequest, OrderLine, OrderStatus, PlaceOrder
from contracts.parcels import Trouble
from contracts.pricing import AppliedDiscount, DiscountKind, OrderCharges
from services.order import commands
from services.order.model import CustomerKey, DiscountTerms
from tests.races.machine import Command, Rows, Subject, seeded_uuid

TO = Address(name="A. Customer", line1="12 Main Street", city="Cincinnati", region="OH", postal_code="45202", country="US")
_O = OrderStatus
PATHS: tuple[tuple[int, tuple[OrderStatus, ...]], ...] = (
    (1, (_O.RESERVED,)),
    (1, (_O.RESERVED, _O.PAID, _O.CONFIRMED)),
    (1, (_O.CANCELLING,)),
    (1, (_O.RESERVED, _O.CANCELLING, _O.CANCELLED)),
    (2, (_O.PAID, _O.CONFIRMED)),
    (4, (_O.SHIPPED,)),
    (4, (_O.CANCELLING, _O.CANCELLED)),
    (5, (_O.UNDELIVERED,)),
    (5, (_O.DELIVERED, _O.COMPLETED)),
    (6, (_O.SHIPPED, _O.DELIVERED)),
)
"""What a saga may tell: how many statuses came before, and which follow."""
CODE = "RACE"
UNLIMITED = DiscountTerms(kind=DiscountKind.AMOUNT, amount=Money(amount=Decimal(1)))
TERMS = (
    replace(UNLIMITED, max_uses=2),
    replace(UNLIMITED, max_uses_per_customer=2),
    replace(UNLIMITED, max_uses=1),
    UNLIMITED,
)
"""Of the code. When a race begins, there is one more use."""


@dataclass(frozen=True)
class Desk:
    """Three orders: the first is confirmed, the second is written down, the third is new. Each one's customer has its id; the
    first two have a key. Beside them orders of one customer that use a code: the first is written down, the others are new."""

    placements: tuple[PlaceOrder, ...]
    with_code: tuple[PlaceOrder, ...]
    terms: DiscountTerms
    """Of the code, when the race begins."""
    requests: tuple[CancelRequest, ...] = (
        CancelRequest(reason="too late", requested_by="customer"),
        CancelRequest(reason="fraud", requested_by="operator"),
    )

    def order(self, random: Random) -> UUID:
        return random.choices(self.placements, (4, 4, 1))[0].order_id

    def key(self, random: Random) -> WrappedKey:
        return wrapped(random.choice(self.placements).customer_id, "key-1")

    def word(self, random: Random) -> AdvanceOrder:
        """Mostly one that may come next."""
        order_id = self.order(random)
        likely = [path for path in PATHS if (path[0] >= 4) == (order_id == self.placements[0].order_id)]
        return word(order_id, random.choice(likely if random.random() < 0.8 else PATHS))


def placement(order_id: UUID) -> PlaceOrder:
    line = OrderLine(product_id="milk", name="Milk", quantity=1, unit_price=Money(amount=Decimal(5)))
    return PlaceOrder(
        order_id=order_id,
        customer_id=order_id,
        lines=(line,),
        total=line.total,
        ship_to=TO,
        payment_token="pm_card_visa",
        placed_at=utc_now(),
    )


def discounted(order_id: UUID, customer_id: UUID) -> PlaceOrder:
    order = placement(order_id)
    off, rest = Money(amount=Decimal(1)), Money(amount=Decimal(4))
    applied = AppliedDiscount(code=CODE, kind=DiscountKind.AMOUNT, amount=off)
    charges = OrderCharges(
        items=order.total, discount=off, shipping=Money.zero(), tax=Money.zero(), total=rest, discounts=(applied,)
    )
    return order.model_copy(update={"customer_id": customer_id, "charges": charges, "total": rest})


def wrapped(customer_id: UUID, by: str) -> WrappedKey:
    return WrappedKey(customer_id=customer_id, wrapped=f"wrapped by {by}".encode(), master_key_id=by)


def word(order_id: UUID, said: tuple[int, tuple[OrderStatus, ...]]) -> AdvanceOrder:
    after, path = said
    trouble = Trouble.LOST if _O.UNDELIVERED in path else None
    refunded = Money(amount=Decimal(5)) if _O.CANCELLED in path else None
    return AdvanceOrder(order_id=order_id, after=after, path=path, trouble=trouble, refunded=refunded)


async def prepare(database: Database, random: Random) -> Desk:
    customer_id = seeded_uuid(random)
    desk = Desk(
        placements=tuple(placement(seeded_uuid(random)) for _ in range(3)),
        with_code=tuple(discounted(seeded_uuid(random), customer_id) for _ in range(3)),
        terms=random.choice((TERMS[0], TERMS[1])),
    )
    await commands.put_discount(database, CODE, desk.terms)
    await commands.accept_order(database, desk.with_code[0], [CODE])
    for order in desk.placements[:2]:
        await commands.accept_order(database, order)
        await commands.add_key(database, wrapped(order.customer_id, "key-1"))
    path = (_O.RESERVED, _O.PAID, _O.CONFIRMED, _O.SHIPPED, _O.DELIVERED, _O.COMPLETED)[: random.choice((3, 4, 6))]
    await commands.advance_order(database, AdvanceOrder(order_id=desk.placements[0].order_id, after=1, path=path))
    if random.random() < 0.5:
        await commands.wish_to_cancel(database, desk.placements[random.randint(0, 1)].order_id, desk.requests[0])
    if random.random() < 0.5:
        await _wish_to_forget(database, random.choice(desk.placements).customer_id)
    return desk


async def _wish_to_forget(database: Database, customer_id: UUID) -> None:
    event = CustomerForgotten(customer_id=customer_id, by=customer_id)
    await in_transaction(database, lambda work: commands.wish_to_forget(work, event))


def accept(desk: Desk, random: Random) -> Command:
    order = random.choice(desk.placements[1:])
    return lambda database: commands.accept_order(database, order)


def advance(desk: Desk, random: Random) -> Command:
    command = desk.word(random)
    return lambda database: commands.advance_order(database, command)


def wish(desk: Desk, random: Random) -> Command:
    order_id, request = desk.order(random), random.choice(desk.requests)
    return lambda database: commands.wish_to_cancel(database, order_id, request)


def accept_with_code(desk: Desk, random: Random) -> Command:
    order = random.choice(desk.with_code)
    return lambda database: commands.accept_order(database, order, [CODE])


def advance_with_code(desk: Desk, random: Random) -> Command:
    """It mostly ends cancelled, which gives the code back."""
    path = random.choice((*3 * [(1, (_O.CANCELLING, _O.CANCELLED))], (1, (_O.RESERVED,)), (2, (_O.CANCELLED,))))
    command = word(random.choices(desk.with_code, (4, 1, 1))[0].order_id, path)
    command = command.model_copy(update={"refunded": command.refunded and Money.zero()})
    return lambda database: commands.advance_order(database, command)


def put_discount(desk: Desk, random: Random) -> Command:
    terms, seen = random.choice(TERMS), random.choice((None, 1))
    return lambda database: commands.put_discount(database, CODE, terms, seen)


def disable_discount(desk: Desk, random: Random) -> Command:
    return lambda database: commands.disable_discount(database, CODE)


def take(desk: Desk, random: Random) -> Command:
    return lambda database: commands.take_to_hand_over(database)


def handed_over(desk: Desk, random: Random) -> Command:
    order_id, request = desk.order(random), random.choice((None, *desk.requests))
    return lambda database: commands.note_handed_over(database, order_id, request)


def tell_of_held_up(desk: Desk, random: Random) -> Command:
    return lambda database: commands.tell_of_held_up(database, timedelta(0))


def wish_to_forget(desk: Desk, random: Random) -> Command:
    customer_id = random.choice(desk.placements).customer_id
    return lambda database: _wish_to_forget(database, customer_id)


def forget(desk: Desk, random: Random) -> Command:
    """What the job does, with no saga at work."""

    async def run(database: Database) -> None:
        await commands.forget_orders(database, await commands.orders_to_forget(database))
        await commands.forget_keys(database)

    return run


def add_key(desk: Desk, random: Random) -> Command:
    key = desk.key(random)
    return lambda database: commands.StoredKeys(database).add(key)


def wrap_again(desk: Desk, random: Random) -> Command:
    keys = [desk.key(random) for _ in range(2)]
    by = random.choice(("key-2", "key-3"))
    return lambda database: commands.wrap_keys_again(database, [(key, wrapped(key.customer_id, by)) for key in keys])


def destroy(desk: Desk, random: Random) -> Command:
    customer_id = desk.key(random).customer_id
    return lambda database: _destroy(database, customer_id)


@transaction
async def _destroy(work: UnitOfWork, customer_id: UUID) -> None:
    if key := await work.get(CustomerKey, customer_id):
        key.destroy()


COMMANDS: dict[str, Callable[[Desk, Random], Command]] = {
    "accept": accept,
    "advance": advance,
    "accept with a code": accept_with_code,
    "advance with a code": advance_with_code,
    "put discount": put_discount,
    "disable discount": disable_discount,
    "wish to cancel": wish,
    "take to hand over": take,
    "note handed over": handed_over,
    "tell of held up": tell_of_held_up,
    "wish to forget": wish_to_forget,
    "forget": forget,
    "add key": add_key,
    "wrap keys again": wrap_again,
    "destroy key": destroy,
}
_EVENTS = {
    "CONFIRMED": "OrderConfirmed",
    "CANCELLED": "OrderCancelled",
    "UNDELIVERED": "OrderUndelivered",
    "REFUNDED": "OrderRefunded",
    "COMPLETED": "OrderCompleted",
}


def broken(rows: Rows, desk: Desk) -> Sequence[str]:
    """The path is legal, each step of it was told once, and what a saga does not know yet is to be handed over. Each order that
    has a code uses it once, until it is cancelled; and the uses are counted."""
    wrong = []
    using = {order["order_id"]: order for order in rows["orders"] if order["charges"]}
    for redemption in rows["redemptions"]:
        order = using.pop(redemption["order_id"], None)
        if order is None or (redemption["given_back_at"] is None) != (order["status"] != "CANCELLED"):
            wrong.append(f"{redemption} of {order and order['status']}")
    held = [redemption for redemption in rows["redemptions"] if redemption["given_back_at"] is None]
    if using or sum(row["times_used"] for row in rows["discount_uses"]) != len(held):
        wrong.append(f"{rows['discount_uses']}, but {len(held)} orders use it; {len(using)} orders do not know that they do")
    limits = {row["max_uses"] or row["max_uses_per_customer"] for row in rows["discounts"]}
    if limits == {2} and len(held) > 2 and not any(row["version"] > 1 for row in rows["discounts"]):
        wrong.append(f"{len(held)} uses")
    for order in rows["orders"]:
        path = [OrderStatus(entry["status"]) for entry in order["history"]]
        if (
            path[0] != _O.PENDING
            or path[-1] != order["status"]
            or any(after not in NEXT_STATUS[at] for at, after in pairwise(path))
        ):
            wrong.append(f"{order['status']}, and its path is {path}")
        told = Counter(row["envelope"]["type"] for row in rows["outbox"] if row["key"] == order["order_id"])
        expected = Counter(["OrderCreated", *(_EVENTS[status] for status in path if status in _EVENTS)])
        expected["OrderConfirmed"] = min(expected["OrderConfirmed"], 1)
        expected["OrderHeldUp"] = int(order["held_up_at"] is not None)
        expected["OrderForgotten"] = int(order["forgotten_at"] is not None)
        if told != +expected:
            wrong.append(f"its path is {path}, and the events are {dict(told)}")
        waits = order["placement"] is not None or order["cancel_wish"] is not None
        if waits != (order["hand_over_at"] is not None):
            wrong.append(f"handed over at {order['hand_over_at']}: {order['placement'] is not None}, {order['cancel_wish']}")
        over = order["status"] in FINAL_STATUSES
        if not 0 <= order["refunded_minor"] <= order["total_minor"]:
            wrong.append(f"{order['refunded_minor']} of {order['total_minor']} were refunded")
        if bool(order["forgotten_at"]) != (order["ship_to"]["name"] == FORGOTTEN) or (order["forgotten_at"] and not over):
            wrong.append(f"{order['status']}, forgotten at {order['forgotten_at']}, and goes to {order['ship_to']}")
    naming = {order["customer_id"] for order in rows["orders"] if not order["forgotten_at"]}
    for key in rows["customer_keys"]:
        if key["forgotten_at"] and not (key["destroyed_at"] and key["forget_requested_at"]):
            wrong.append(f"a key is {key}")
        if key["forgotten_at"] and key["customer_id"] in naming:
            wrong.append("a key is destroyed while an order still needs it")
        by = key["master_key_id"]
        if key["wrapped"] != (rf"\x{f'wrapped by {by}'.encode().hex()}" if by else None):
            wrong.append(f"a key is {key['wrapped']}, and its master key {by}")
    return wrong


SUBJECT = Subject("order", prepare, COMMANDS, broken, loose=frozenset({"take to hand over", "tell of held up", "forget"}))
