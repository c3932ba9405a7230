"""What analytics does with events, as two of its processes do it, and what its sums always come to."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from contracts.events import CloudEvent
from contracts.returns import ReturnReason
from services.analytics.consumers import subscription
from services.analytics.model import inbox
from tests.races.machine import Command, Rows, Subject, seeded_uuid
from tests.services.analytics.conftest import Order, at, line

FATES = ("OrderCreated", "OrderConfirmed", "OrderCompleted", "OrderCancelled", "OrderRefunded")
FACTS = dict(zip(FATES, ("placed_at", "confirmed_at", "completed_at", "cancelled_at", "refunded_at"), strict=True))
KINDS = (*FATES, "OrderPartCancelled", "ReturnCompleted")
COUNTS = dict(zip(FATES, ("placed", "confirmed", "completed", "cancelled", "undelivered"), strict=True))


@dataclass(frozen=True)
class Ledger:
    """Orders of two customers that came to every end; what was told of them so far was told in any sequence."""

    orders: Mapping[str, Order]
    events: tuple[CloudEvent, ...]
    lost: Mapping[tuple[str, str], int]
    """What went back of what had been revenue, by order and type of the event."""

    def some(self, random: Random, *kinds: str) -> Command:
        """A process takes in some events of these types; also such as another one has, or had."""
        possible = [event for event in self.events if event.type in kinds]
        chosen = random.sample(possible, random.randint(1, len(possible)))
        if random.random() < 0.3:  # its producer told a fact again
            chosen.append(random.choice(chosen).model_copy(update={"id": seeded_uuid(random)}))
        return lambda database: take_in(database, chosen)


@transaction
async def take_in(work: UnitOfWork, envelopes: Sequence[CloudEvent]) -> None:
    """As the consumer does it: once for each event, in one transaction."""
    new = await inbox.claim(work, [envelope.id for envelope in envelopes])
    events = [(subscription.event_of(envelope), envelope) for envelope in envelopes if envelope.id in new]
    await subscription.apply(work, [(event, envelope) for event, envelope in events if event is not None])


async def prepare(database: Database, random: Random) -> Ledger:
    customers = [seeded_uuid(random) for _ in range(2)]
    orders, events, lost = {}, [], {}
    for end in ("completed", "under way", "cancelled", "refused", "lost"):
        lines = [line(product, random.randint(1, 3), "1.50") for product in random.sample(("milk", "bread", "wine"), 2)]
        order = Order(random.choice(customers), tuple(lines), seeded_uuid(random))
        orders[str(order.order_id)] = order
        day = random.randint(1, 3)
        told = [order.created(at(day))]
        if end != "refused":
            told.append(order.confirmed(at(day, 13)))
        if end != "refused":
            told.append(order.part_cancelled(at(day, 14), 1, 0, 1, "1.50"))
        if end == "completed":
            told.append(order.completed(at(day + 1)))
            told.append(order.returned(at(day + 2), 1, [(2, 0, 1, ReturnReason.DEFECTIVE)], "1.25"))
            told.append(order.returned(at(day + 2), 2, [], "0"))
        elif end in ("cancelled", "refused"):
            back = order.total if end == "cancelled" else None
            told.append(order.cancelled(at(day + 1), was_confirmed=end == "cancelled", refunded=back))
        elif end == "lost":
            told.append(order.refunded(at(day + 1)))
        if end in ("cancelled", "lost"):
            lost[str(order.order_id), told[-1].type] = order.total.minor
        events += [event.model_copy(update={"id": seeded_uuid(random)}) for event in told]
    if already := random.sample(events, random.randint(0, len(events) // 2)):
        await take_in(database, already)
    return Ledger(orders, tuple(events), lost)


COMMANDS: dict[str, Callable[[Ledger, Random], Command]] = {
    "created": lambda ledger, random: ledger.some(random, "OrderCreated"),
    "confirmed": lambda ledger, random: ledger.some(random, "OrderConfirmed"),
    "completed": lambda ledger, random: ledger.some(random, "OrderCompleted"),
    "cancelled": lambda ledger, random: ledger.some(random, "OrderCancelled"),
    "refunded": lambda ledger, random: ledger.some(random, "OrderRefunded"),
    "part cancelled": lambda ledger, random: ledger.some(random, "OrderPartCancelled"),
    "returned": lambda ledger, random: ledger.some(random, "ReturnCompleted"),
    "all kinds": lambda ledger, random: ledger.some(random, *KINDS),
}


def broken(rows: Rows, ledger: Ledger) -> Sequence[str]:
    """What is known of the orders is what the events told that were taken in, and the sums are sums of that."""
    taken = {UUID(row["event_id"]) for row in rows["inbox"]}
    expected = _facts([event for event in ledger.events if event.id in taken])
    facts = {
        (row["order_id"], kind): _time(row[column]) for row in rows["orders"] for kind, column in FACTS.items() if row[column]
    }
    wrong = [] if set(facts.items()) >= set(expected.items()) else [f"{expected} were told, and {facts} are known"]
    days: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    products: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    customers: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    reasons: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    parts = {
        (row["order_id"], "ReturnCompleted" if units["is_returned"] else "OrderPartCancelled")
        for row in rows["orders"]
        for units in row["less"]
    }
    told = Counter(event.type for event in ledger.events if event.id in taken)
    if (
        len(rows["returns"]) < told["ReturnCompleted"]
        or sum(kind == "OrderPartCancelled" for _, kind in parts) < told["OrderPartCancelled"]
    ):
        wrong.append(f"{told} were told, and {rows['returns']} and {parts} are known")
    for (order_id, kind), time in facts.items():
        order = ledger.orders[order_id]
        gain = order.total.minor if kind == "OrderConfirmed" else 0
        loss = ledger.lost.get((order_id, kind), 0)
        days[str(time.date())].update({COUNTS[kind]: 1, "gross_minor": gain, "refunds_minor": loss})
        customers[str(order.customer_id)].update(
            {"orders": int(kind == "OrderCreated"), "revenue_minor": gain, "refunds_minor": loss}
        )
        is_sold = kind == "OrderConfirmed" and not {(order_id, "OrderCancelled"), (order_id, "OrderRefunded")} & facts.keys()
        for place, each in enumerate(order.lines if is_sold else (), start=1):
            is_part_cancelled = place == 1 and (order_id, "OrderPartCancelled") in parts
            is_returned = place == 2 and (order_id, "ReturnCompleted") in parts
            units = each.quantity - is_part_cancelled - is_returned
            sold = {"quantity": units, "revenue_minor": each.unit_price.minor * units, "returned": int(is_returned)}
            products[str(time.date()), each.product_id].update(sold)
    for row in rows["returns"]:
        back, day = row["refunded_minor"], str(_time(row["completed_at"]).date())
        days[day].update({"returned": 1, "refunds_minor": back, "returned_minor": back})
        customers[row["customer_id"]].update({"refunds_minor": back})
        for reason in row["reasons"]:
            reasons[day, reason["reason"]].update({"returns": 1, "units": reason["units"]})
    for table, sums, key in (
        ("sales_by_day", days, lambda row: row["day"]),
        ("customers", customers, lambda row: row["customer_id"]),
        ("returns_by_day", reasons, lambda row: (row["day"], row["reason"])),
        ("products_by_day", products, lambda row: (row["day"], row["product_id"])),
    ):
        kept = {key(row): row for row in rows[table]}
        for name in {name for sum_ in sums.values() for name in sum_}:
            wanted = {which: sum_[name] for which, sum_ in sums.items() if sum_[name]}
            found = {which: row[name] for which, row in kept.items() if row[name]}
            if wanted != found:
                wrong.append(f"{table}.{name}: {found} instead of {wanted}")
    return wrong


def _facts(events: Sequence[CloudEvent]) -> dict[tuple[str, str], datetime]:
    return {(str(event.subject), event.type): event.time for event in events if event.type in FACTS}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


SUBJECT = Subject("analytics", prepare, COMMANDS, broken)
