"""Payments by bank transfer: what comes in at the bank, what it is asked to pay, and what the saga wants meanwhile."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from chassis.clock import utc_now
from chassis.database import Database
from contracts.ids import payment_reference
from contracts.money import Money
from contracts.payment_actions import BANK_TRANSFER
from contracts.payments import CapturePayment, GiveBack, ProcessPayment, RefundPayment
from services.payment import commands
from services.payment.adapters import Providers, Transfers
from services.payment.model import TransferAccount, creditor_reference, order_name
from services.payment.ports import (
    Bank,
    Booking,
    Bookings,
    CreditTransfer,
    OrderReport,
    PaymentProvider,
    ProviderMovementState,
    Reports,
)
from tests.races import payment
from tests.races.machine import Command, Rows, Subject, seeded_uuid, stop

ACCOUNT = TransferAccount("The Shop", "DE89370400440532013000")
PRICE = 1250
SUMS = (500, 750, 1250, 1400)
"""What comes in with the entry of that number."""
KEYS = ("line-1", "line-1", "line-2", "reversal-1")
"""Under which something goes back; what is asked for under the first has been sent to the bank, or is to be sent."""


@dataclass
class Branch(Bank):
    """The bank, as far as it is asked for something."""

    orders: dict[str, CreditTransfer] = field(default_factory=dict)
    """By their names: it knows a repeated one."""
    news: Bookings | Reports | None = None
    """What it tells next."""

    async def next_bookings(self) -> Bookings | None:
        return self.news if isinstance(self.news, Bookings) else None

    async def next_reports(self) -> Reports | None:
        return self.news if isinstance(self.news, Reports) else None

    async def acknowledge(self, document: Bookings | Reports) -> None:
        await stop("the bank hears that its news has arrived")

    async def send(self, orders: Sequence[CreditTransfer]) -> None:
        await stop("the bank is asked to pay")
        for order in orders:
            known = self.orders.setdefault(order.end_to_end_id, order)
            assert known.amount == order.amount, "an order was sent with another amount before"
        await stop("the bank has the orders")


@dataclass(frozen=True)
class Till:
    """Three orders of one customer: the first waits for its transfer, of the second some has come in, the third is paid, and some
    of that goes back."""

    customer: UUID
    orders: tuple[UUID, ...]
    branch: Branch

    def order(self, random: Random) -> UUID:
        """Mostly one that is waited for."""
        return random.choice((self.orders[0], *self.orders[:2], *self.orders[:2], self.orders[2]))

    def provider(self, database: Database) -> PaymentProvider:
        return Providers(payment.Bank(), Transfers(database, ACCOUNT))

    def process(self, order_id: UUID) -> ProcessPayment:
        return ProcessPayment(
            order_id=order_id,
            customer_id=self.customer,
            amount=_usd(PRICE),
            payment_token=BANK_TRANSFER,
            ship_to_fingerprint=64 * "a",
            return_url="https://shop.example/paid",
        )


def reference_of(order_id: UUID) -> str:
    return creditor_reference(payment_reference(order_id, 1))


def entry(order_id: UUID, number: int) -> Booking:
    """The same, whatever statement tells of it."""
    name = f"{order_id.hex[-8:]}-{number}"
    return Booking(name, _usd(SUMS[number]), True, utc_now(), reference_of(order_id), name="Ann", iban="GB33BUKB20201555555555")


def _usd(minor: int) -> Money:
    return Money.from_minor(minor, "USD")


async def prepare(database: Database, random: Random) -> Till:
    till = Till(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(3)), Branch())
    provider = till.provider(database)
    for order_id in till.orders:
        await commands.process_payment(database, provider, till.process(order_id), velocity=payment.VELOCITY)
    await commands.book(database, [entry(till.orders[1], 0), entry(till.orders[2], 2)])
    await commands.tell_payments(database, provider)
    back = RefundPayment(order_id=till.orders[2], amount=_usd(500), key="line-1", reason="test")
    await commands.refund_payment(database, provider, back)
    if random.random() < 0.7:
        await commands.send_orders(database, till.branch)
    return till


def book(till: Till, random: Random) -> Command:
    """Entries arrive, some of them again, and their payments are told at once, or by whoever comes next."""
    bookings = [entry(till.order(random), random.randrange(len(SUMS))) for _ in range(random.choice((1, 2)))]
    tells = random.random() < 0.5

    async def arrive(database: Database) -> None:
        await commands.book(database, bookings)
        if tells:
            await commands.tell_payments(database, till.provider(database))

    return arrive


def tell(till: Till, random: Random) -> Command:
    return lambda database: commands.tell_payments(database, till.provider(database))


def send(till: Till, random: Random) -> Command:
    return lambda database: commands.send_orders(database, till.branch)


def settle(till: Till, random: Random) -> Command:
    """The bank tells what became of an order: by a report, by a debit, or because the money came back."""
    name = order_name(reference_of(till.orders[2]), random.choice(KEYS))
    how = random.choice(("paid", "refused", "debit", "came back"))

    async def hear(database: Database) -> None:
        order = till.branch.orders.get(name)
        if how in ("paid", "refused"):
            state = ProviderMovementState.SUCCEEDED if how == "paid" else ProviderMovementState.FAILED
            report = OrderReport(name, state, None if how == "paid" else "AC04")
            await commands.take_reports(database, replace(till.branch, news=Reports("doc", [report])))
        elif order is not None:  # only what the bank was asked for is booked
            back = how == "came back"
            booking = Booking(
                f"{name}-{how}", order.amount, back, utc_now(), end_to_end_id=name, came_back="AC04" if back else None
            )
            await commands.take_bookings(database, replace(till.branch, news=Bookings("doc", [booking])))
        await commands.tell_payments(database, till.provider(database))

    return hear


def process(till: Till, random: Random) -> Command:
    command = till.process(till.order(random))
    return lambda database: commands.process_payment(database, till.provider(database), command, velocity=payment.VELOCITY)


def give_up(till: Till, random: Random) -> Command:
    """Nobody waits for it any more."""
    command = RefundPayment(order_id=till.order(random), reason="test")

    async def undo(database: Database) -> None:
        await commands.refund_payment(database, till.provider(database), command)

    return undo


def capture(till: Till, random: Random) -> Command:
    command = CapturePayment(order_id=random.choice(till.orders))

    async def take(database: Database) -> None:
        provider = till.provider(database)
        await commands.process_payment(database, provider, till.process(command.order_id), velocity=payment.VELOCITY)
        if (await commands.look_again(database, provider, reference_of(command.order_id))) != "ACTION_REQUIRED":
            await commands.capture_payment(database, provider, command)

    return take


def refund_part(till: Till, random: Random) -> Command:
    amount, key = _usd(random.choice((500, 750))), random.choice(KEYS[:3])
    command = RefundPayment(order_id=till.orders[2], amount=amount, key=key, reason="test")
    return lambda database: commands.refund_payment(database, till.provider(database), command)


def give_back(till: Till, random: Random) -> Command:
    amount = _usd(random.choice((500, 750, PRICE)))
    command = GiveBack(order_id=till.orders[2], amount=amount, key=random.choice(("line-2", "return-1")), reason="test")
    return lambda database: commands.give_back(database, till.provider(database), command)


COMMANDS: dict[str, Callable[[Till, Random], Command]] = {
    "a bank entry arrives": book,
    "tell payments": tell,
    "send bank orders": send,
    "a bank order ends": settle,
    "process by transfer": process,
    "give up waiting": give_up,
    "capture a transfer": capture,
    "refund some of a transfer": refund_part,
    "give back a transfer": give_back,
}


def broken(rows: Rows, till: Till) -> Sequence[str]:
    """What came in is taken or owed, to the cent and once; what goes back was taken; payments, movements and events say the
    same as the transfers that they were told of."""
    wrong = [*_came_in(rows), *_goes_back(rows, till)]
    payments = {row["provider_id"]: row for row in rows["payments"]}
    for transfer in rows["transfers"]:
        wrong += _payment(rows, transfer, payments[transfer["reference"]])
    return wrong


def _came_in(rows: Rows) -> list[str]:
    wrong = []
    taken, owed = Counter[str](), Counter[str]()
    for row in rows["bank_entries"]:
        if row["end_to_end_id"] is None and row["reference"]:
            taken[row["reference"]] += row["taken_minor"]
        if row["amount_minor"] > row["taken_minor"]:
            owed[row["entry_id"]] += row["amount_minor"] - row["taken_minor"]
    for transfer in rows["transfers"]:
        name, received = transfer["reference"], transfer["received_minor"]
        if received != taken[name]:
            wrong.append(f"{name} has received {received}, and entries of {taken[name]} are for it")
        if bool(transfer["captured_at"]) != (received == transfer["amount_minor"]):
            wrong.append(f"{name} has received {received}, captured {transfer['captured_at']}")
        if transfer["captured_at"] and transfer["reversed_at"]:
            wrong.append(f"{name} is taken, and nothing is taken under it")
        if transfer["reversed_at"] and received:
            owed[f"{name} undone"] += received
    listed = Counter[str]()
    for row in rows["debts"]:
        if row["kind"] in ("overpaid", "unmatched"):
            listed[row["subject"]] += row["amount_minor"]
    if listed != owed:
        wrong.append(f"owed are {dict(owed)}, and listed {dict(listed)}")
    return wrong


def _goes_back(rows: Rows, till: Till) -> list[str]:
    wrong, back = [], Counter[str]()
    for row in rows["bank_orders"]:
        if row["state"] != "FAILED":
            back[row["reference"]] += row["amount_minor"]
        sent = till.branch.orders.get(row["end_to_end_id"])
        if sent is not None and sent.amount != _usd(row["amount_minor"]):
            wrong.append(f"the bank was asked for {sent.amount} under {row['end_to_end_id']}, and not for {row['amount_minor']}")
        if row["state"] == "SENT" and sent is None:
            wrong.append(f"the bank knows nothing of order {row['end_to_end_id']}")
    for transfer in rows["transfers"]:
        if transfer["refunded_minor"] != back[transfer["reference"]]:
            wrong.append(
                f"{transfer['reference']}: {transfer['refunded_minor']} go back, by orders {back[transfer['reference']]}"
            )
    return wrong


def _payment(rows: Rows, transfer: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    wrong, status = [], row["status"]
    movements = [each for each in rows["movements"] if each["payment_id"] == row["payment_id"]]
    counting = Counter[str]()
    for each in movements:
        if each["state"] == "SUCCEEDED" or (each["state"] == "PENDING" and each["accepted_at"]):
            counting[each["kind"]] += each["amount_minor"]
    sums = (row["captured_minor"], row["refunded_minor"])
    if sums != (counting["capture"], counting["refund"]):
        wrong.append(f"{status} with {sums}, and {dict(counting)} were moved")
    told = Counter[str]()
    for event in rows["outbox"]:
        data = event["envelope"]["data"]
        if data.get("payment_id") == str(row["payment_id"]):
            kind = event["envelope"]["type"]
            counts = kind != "RefundFailed" or data["was_processed"]
            told[kind] += int(Decimal(data["amount"]["amount"]) * 100) if counts else 0
    if sums != (told["PaymentProcessed"], told["RefundProcessed"] - told["RefundFailed"]):
        wrong.append(f"{status} with {sums}, and the events say {dict(told)}")
    captured = transfer["received_minor"] if transfer["captured_at"] else 0
    if status in ("DECLINED", "VOIDED") and captured:
        wrong.append(f"{status}, and {captured} are taken")
    if status in ("CAPTURED", "REFUNDED") and row["captured_minor"] != captured:
        wrong.append(f"{status} with {sums}, and {captured} are taken")
    if status == "ACTION_REQUIRED" and transfer["reversed_at"]:
        wrong.append("a payment waits for a transfer that is not taken any more")
    orders = [each for each in rows["bank_orders"] if each["reference"] == transfer["reference"]]
    known = sum(each["amount_minor"] for each in orders if each["told"] != "FAILED")
    if row["refunded_minor"] != known:
        wrong.append(f"{status} with {sums}, and it was told of orders of {known} that go back")
    return wrong


def restore(till: Till, orders: dict[str, CreditTransfer]) -> None:
    till.branch.orders = dict(orders)


SUBJECT = Subject(
    "payment",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset(COMMANDS),
    save=lambda till: dict(till.branch.orders),
    restore=restore,
)
