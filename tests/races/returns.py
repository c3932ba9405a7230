"""The commands of returns, and what always holds: no unit is in two returns, and what goes back is counted once."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from uuid import UUID

from chassis.access import Grant, Reach
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.store import in_transaction
from chassis.tokens import Principal
from contracts.events import CustomerForgotten
from contracts.keys import WrappedKey
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderStatus, Replaces
from contracts.returns import (
    CAME_TO_NOTHING,
    FINAL_RETURN_STATUSES,
    NEXT_RETURN_STATUS,
    AdvanceReturn,
    ReturnLineRequest,
    ReturnReason,
    ReturnRequest,
    ReturnStatus,
)
from services.order import commands
from services.order.commands.returns import note_return_handed_over, request_return
from services.order.model.returns import ReturnRules
from tests.races.machine import Command, Rows, Subject, seeded_uuid
from tests.races.order import placement

_R, _O = ReturnStatus, OrderStatus
PATHS: tuple[tuple[int, tuple[ReturnStatus, ...]], ...] = (
    (1, (_R.APPROVED,)),
    (1, (_R.CANCELLED,)),
    (1, (_R.REJECTED,)),
    (1, (_R.APPROVED, _R.RECEIVED)),
    (2, (_R.RECEIVED, _R.SETTLING, _R.COMPLETED)),
    (2, (_R.EXPIRED,)),
    (2, ()),
)
"""What a saga may tell: how many statuses came before, and which follow."""
DELIVERED = (_O.RESERVED, _O.PAID, _O.CONFIRMED, _O.SHIPPED, _O.DELIVERED, _O.COMPLETED)
RULES = ReturnRules()


@dataclass(frozen=True)
class ReturnsDesk:
    """Two delivered orders of one customer, of three units and of one; the second replaced the first. The first has a return."""

    customer: UUID
    orders: tuple[UUID, UUID]

    def order(self, random: Random) -> UUID:
        return random.choices(self.orders, (3, 1))[0]

    @property
    def caller(self) -> Grant:
        return Grant(Principal(self.customer, frozenset(), expires_at=0), frozenset({Reach.OWN}))


async def prepare(database: Database, random: Random) -> ReturnsDesk:
    customer = seeded_uuid(random)
    world = ReturnsDesk(customer, (seeded_uuid(random), seeded_uuid(random)))
    await commands.add_key(database, WrappedKey(customer_id=customer, wrapped=b"wrapped", master_key_id="key-1"))
    first, second = (placement(order_id) for order_id in world.orders)
    three = first.lines[0].model_copy(update={"quantity": 3})
    of_first = {"customer_id": customer, "lines": (three,), "total": three.total}
    of_second = {"customer_id": customer, "replaces": Replaces(order_id=first.order_id, number=1)}
    for order in (first.model_copy(update=of_first), second.model_copy(update=of_second)):
        await commands.accept_order(database, order)
        word = AdvanceOrder(order_id=order.order_id, after=1, path=DELIVERED, warehouse_id="w1")
        await commands.advance_order(database, word)
    await _request(world, world.orders[0], 1, "first")(database)
    if random.random() < 0.5:
        command = AdvanceReturn(
            order_id=world.orders[0], number=1, after=1, path=(_R.APPROVED,), as_of=utc_now(), due_at=utc_now()
        )
        await commands.advance_return(database, command)
    return world


def _request(world: ReturnsDesk, order_id: UUID, quantity: int, key: str) -> Command:
    lines = [ReturnLineRequest(line_id=1, quantity=quantity, reason=ReturnReason.CHANGED_MIND)]
    under = IdempotencyKey(f"return {order_id}", key, str(quantity))
    request = ReturnRequest(lines=lines)
    return lambda database: request_return(database, order_id, request, world.caller, under, RULES, None)


def request(world: ReturnsDesk, random: Random) -> Command:
    return _request(world, world.order(random), random.choice((1, 2)), random.choice(("a", "b")))


def advance(world: ReturnsDesk, random: Random) -> Command:
    after, path = random.choice(PATHS)
    order_id, refunded = world.order(random), Money.from_minor(500, "USD") if _R.COMPLETED in path else None
    number, is_reminder = random.choice((1, 1, 2)), not path

    async def tell(database: Database) -> object:
        command = AdvanceReturn(
            order_id=order_id,
            number=number,
            after=after,
            path=path,
            as_of=utc_now(),
            due_at=utc_now() if is_reminder else None,
            refunded=refunded,
            is_reminder=is_reminder,
        )
        return await commands.advance_return(database, command)

    return tell


def advance_its_order(world: ReturnsDesk, random: Random) -> Command:
    """The order's saga tells late what it gave back itself."""
    order_id = world.order(random)
    command = AdvanceOrder(order_id=order_id, after=7, path=(), refunded=Money.zero(), as_of=utc_now())
    return lambda database: commands.advance_order(database, command)


def take(world: ReturnsDesk, random: Random) -> Command:
    return lambda database: commands.take_returns_to_hand_over(database)


def handed_over(world: ReturnsDesk, random: Random) -> Command:
    order_id, number = world.order(random), random.choice((1, 2))
    return lambda database: note_return_handed_over(database, order_id, number)


def wish_to_forget(world: ReturnsDesk, random: Random) -> Command:
    event = CustomerForgotten(customer_id=world.customer, by=world.customer)
    return lambda database: in_transaction(database, lambda work: commands.wish_to_forget(work, event))


def forget(world: ReturnsDesk, random: Random) -> Command:
    """What the job does, with no saga at work."""

    async def run(database: Database) -> None:
        await commands.forget_orders(database, await commands.orders_to_forget(database))
        await commands.forget_keys(database)

    return run


COMMANDS: dict[str, Callable[[ReturnsDesk, Random], Command]] = {
    "ask for a return": request,
    "advance a return": advance,
    "advance its order": advance_its_order,
    "take returns to hand over": take,
    "note a return handed over": handed_over,
    "wish to forget who returns": wish_to_forget,
    "forget who returns": forget,
}
_EVENTS = {
    _R.REQUESTED: "ReturnRequested",
    _R.APPROVED: "ReturnApproved",
    _R.REJECTED: "ReturnRejected",
    _R.RECEIVED: "ReturnReceived",
    _R.CANCELLED: "ReturnCancelled",
    _R.EXPIRED: "ReturnExpired",
    _R.COMPLETED: "ReturnCompleted",
}


def broken(rows: Rows, world: ReturnsDesk) -> Sequence[str]:
    """No unit is in two returns that stand; each path is legal, and each step of it was told once; what went back is what the
    orders say; nobody is forgotten while a return is open."""
    wrong: list[str] = []
    held: Counter[tuple[str, int]] = Counter()
    told: Counter[str] = Counter()
    for each in rows["returns"]:
        path = [ReturnStatus(entry["status"]) for entry in each["history"]]
        legal = all(after in NEXT_RETURN_STATUS[at] for at, after in pairwise(path))
        if path[0] != _R.REQUESTED or path[-1] != each["status"] or not legal:
            wrong.append(f"{each['status']}, and its path is {path}")
        told.update(_EVENTS[status] for status in path if status in _EVENTS)
        told["ReturnReminded"] += int(each["reminded_at"] is not None)
        if each["status"] not in CAME_TO_NOTHING:
            held.update((each["order_id"], line["first"] + n) for line in each["lines"] for n in range(line["quantity"]))
        if (each["run"] is None) != (each["hand_over_at"] is None):
            wrong.append(f"handed over at {each['hand_over_at']}, and its run is {each['run']}")
        if each["forgotten_at"] and each["status"] not in FINAL_RETURN_STATUSES:
            wrong.append(f"forgotten while it is {each['status']}")
    wrong += [f"unit {unit} is in {returns} returns" for unit, returns in held.items() if returns > 1]
    sent = Counter(row["envelope"]["type"] for row in rows["outbox"] if row["envelope"]["type"].startswith("Return"))
    if sent != +told:
        wrong.append(f"{dict(told)} has happened, and {dict(sent)} was told")
    back = sum(each["refunded_minor"] for each in rows["returns"])
    counted = [order["returned_minor"] for order in rows["orders"]]
    if sum(counted) != back or any(order["refunded_minor"] != order["returned_minor"] for order in rows["orders"]):
        wrong.append(f"{back} went back, and the orders say {counted}")
    is_open = any(each["status"] not in FINAL_RETURN_STATUSES for each in rows["returns"])
    if is_open and any(key["forgotten_at"] for key in rows["customer_keys"]):
        wrong.append("a key is destroyed while a return still needs it")
    return wrong


SUBJECT = Subject("order", prepare, COMMANDS, broken, loose=frozenset({"take returns to hand over", "forget who returns"}))
