"""Payment's commands, a bank between their transactions, and what always holds of money."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from sqlmodel import select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.store import in_transaction
from contracts.events import OrderForgotten
from contracts.ids import payment_reference
from contracts.money import Money
from contracts.payments import (
    ActionKind,
    CapturePayment,
    GiveBack,
    PaymentAction,
    ProcessPayment,
    RefundPayment,
    ReleaseHold,
)
from services.payment import commands
from services.payment.model import Payment, Velocity
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    DisputeState,
    NewsKind,
    Opened,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderNews,
    ProviderStatus,
)
from tests.races.machine import Command, Rows, Subject, seeded_uuid, stop

CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_visa_chargeDeclined", "pm_card_authenticationRequired")
ORDERS_AT_ONCE = 3
"""So many payments of a customer are taken without a person looking at them."""
VELOCITY = Velocity(timedelta(hours=24), orders=ORDERS_AT_ONCE, total=Money(amount=Decimal(100_000)))
_S = ProviderStatus
Answer = TypeVar("Answer")


@dataclass
class Account:
    """What the bank knows of one charge, in minor units."""

    amount: int = 0
    wanted: str = "nothing"
    """Or `capture`, or `hold`: as long as the customer has not confirmed it."""
    is_asked: bool = False
    held: int = 0
    captured: int = 0
    refunded: int = 0
    disputed: int = 0
    """What the customer's bank has taken back, until that is decided or for good."""
    disputes: int = 0
    is_lost: bool = False
    fixed: ProviderStatus | None = None
    """Declined, or reversed before the bank was asked."""
    moves: dict[tuple[str, str], ProviderMovement] = field(default_factory=dict)
    """By kind and key."""

    @property
    def status(self) -> ProviderStatus:
        if self.fixed is not None:
            return self.fixed
        if not self.is_asked:
            return _S.OPEN
        if self.wanted != "nothing":
            return _S.ACTION_REQUIRED
        if self.held:
            return _S.AUTHORIZED
        if not self.captured:
            return _S.VOIDED
        return _S.REFUNDED if self.captured == self.refunded else _S.CAPTURED

    def told(self, movement: ProviderMovement | None = None) -> ProviderCharge:
        captured, refunded = _usd(self.captured), _usd(self.refunded)
        amount = _usd(self.amount) if self.fixed is None else None
        decline = Decline("card_declined", "no") if self.fixed == _S.DECLINED else None
        waits = self.status == _S.ACTION_REQUIRED
        action = PaymentAction(kind=ActionKind.REDIRECT, url="https://bank.example") if waits else None
        told = ProviderCharge(self.status, amount=amount, decline=decline, action=action)
        return replace(told, captured=captured, refunded=refunded, movement=movement)

    def take(self, wanted: str) -> None:
        self.wanted = "nothing"
        if wanted == "capture":
            self.captured = self.amount
        elif wanted == "hold":
            self.held = self.amount

    def act(self, *, confirms: bool) -> None:
        """The customer confirms what the bank asks, or refuses."""
        if self.status != _S.ACTION_REQUIRED:
            return
        if confirms:
            self.take(self.wanted)
        else:
            self.fixed = _S.DECLINED

    def move(self, kind: str, key: str, minor: int, room: int) -> ProviderMovement:
        """Once under a key, if there is room; a refusal is kept, too."""
        refused = (kind == "refund" and minor > room) or not room
        state = ProviderMovementState.FAILED if refused else ProviderMovementState.SUCCEEDED
        known = self.moves.get((kind, key))
        if known is not None:
            return known
        assert refused or minor <= room, f"{minor} of {room} that are left"
        if kind == "refund" or not refused:
            self.moves[kind, key] = ProviderMovement(f"mv_{len(self.moves)}", state, _usd(minor))
        return self.moves.get((kind, key), ProviderMovement(None, state, _usd(minor), "not_capturable"))


@dataclass
class Bank(PaymentProvider):
    """What a provider promises, without a network. Now and then an answer is lost."""

    accounts: dict[str, Account] = field(default_factory=dict)
    random: Random | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(multi_capture=True, partial_capture=True)

    async def open(self, request: ChargeRequest) -> Opened:
        await stop("the bank is told of a charge")
        self.accounts.setdefault(name_of(request.reference), Account(request.amount.minor))
        return await self._answered(Opened(name_of(request.reference), 16 * "c"))

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        await stop("the bank is asked to charge")
        account = self.accounts[provider_id]
        if account.status == _S.OPEN:
            account.is_asked = True
            if "Declined" in request.card_token:
                account.fixed = _S.DECLINED
            elif "authenticationRequired" in request.card_token and request.return_url:
                account.wanted = "capture" if request.capture else "hold"
            else:
                account.take("capture" if request.capture else "hold")
        return await self._answered(account.told())

    async def capture(self, reference: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        await stop("the bank is asked to capture")
        account = self.accounts[reference]
        is_new = ("capture", key) not in account.moves
        moved = account.move("capture", key, amount.minor, account.held)
        if is_new and moved.state == ProviderMovementState.SUCCEEDED:
            account.captured += amount.minor
            account.held = 0 if is_last else account.held - amount.minor
        return await self._answered(account.told(moved))

    async def refund(self, reference: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        await stop("the bank is asked to refund")
        account = self.accounts[reference]
        is_new = ("refund", key) not in account.moves
        moved = account.move("refund", key, amount.minor, account.captured - account.refunded - account.disputed)
        if is_new and moved.state == ProviderMovementState.SUCCEEDED:
            account.refunded += amount.minor
        return await self._answered(moved)

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        await stop("the bank is asked to reverse")
        account = self.accounts[reference]
        if account.status in (_S.OPEN, _S.ACTION_REQUIRED):
            account.fixed = _S.REVERSED
        account.held = 0
        left = account.captured - account.refunded
        if left and account.disputed:
            refused = ProviderMovement(None, ProviderMovementState.FAILED, _usd(left), "charge_disputed")
            return await self._answered(account.told(refused))
        if left:
            account.moves["refund", "reversal"] = ProviderMovement("mv_r", ProviderMovementState.SUCCEEDED, _usd(left))
            account.refunded = account.captured
        return await self._answered(account.told(account.moves.get(("refund", "reversal"))))

    async def release(self, reference: str, reason: str) -> ProviderCharge:
        await stop("the bank is asked to let go")
        account = self.accounts[reference]
        account.held = 0
        return await self._answered(account.told())

    async def look(self, reference: str) -> ProviderCharge:
        return self.accounts[reference].told()

    def news(self, body: bytes) -> ProviderNews | None:
        raise NotImplementedError("nobody tells by webhook here")

    async def _answered(self, answer: Answer) -> Answer:
        await stop("the bank answers")
        if self.random is not None and self.random.random() < 0.15:
            raise Unavailable("the answer was lost")
        return answer


def name_of(reference: str) -> str:
    """The bank's name for a charge."""
    return f"pi_{reference}"


def _usd(minor: int) -> Money:
    return Money.from_minor(minor, "USD")


@dataclass(frozen=True)
class Till:
    """Orders of one customer: the first is charged for, of the second the money is held, the others are new. Of the third another
    attempt was charged."""

    customer: UUID
    orders: tuple[UUID, ...]
    bank: Bank

    def process(self, random: Random, order_id: UUID, *, capture: bool, attempt: int = 1) -> ProcessPayment:
        return ProcessPayment(
            order_id=order_id,
            attempt=attempt,
            customer_id=self.customer,
            amount=Money(amount=Decimal("12.50")),
            payment_token=random.choice(CARDS),
            ship_to_fingerprint=64 * "a",
            capture=capture,
            return_url="https://shop.example/paid",
        )


async def prepare(database: Database, random: Random) -> Till:
    till = Till(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(5)), Bank())
    for order_id, attempt, capture in zip(till.orders, (1, 1, 2), (True, False, True), strict=False):
        command = till.process(random, order_id, capture=capture, attempt=attempt)
        command = command.model_copy(update={"payment_token": "pm_card_visa"})
        await commands.process_payment(database, till.bank, command, velocity=VELOCITY)
    till.bank.random = Random(random.random())
    return till


def process(till: Till, random: Random) -> Command:
    command = till.process(random, random.choice(till.orders[1:]), capture=random.random() < 0.8)
    return lambda database: commands.process_payment(database, till.bank, command, velocity=VELOCITY)


def capture(till: Till, random: Random) -> Command:
    command = CapturePayment(order_id=random.choice(till.orders))
    return lambda database: commands.capture_payment(database, till.bank, command)


def refund(till: Till, random: Random) -> Command:
    command = RefundPayment(order_id=random.choice(till.orders), reason="test")
    return lambda database: commands.refund_payment(database, till.bank, command)


def capture_part(till: Till, random: Random) -> Command:
    command = CapturePayment(
        order_id=random.choice(till.orders[:3]),
        amount=_usd(random.choice((500, 750))),
        key=random.choice(("parcel-1", "parcel-2", "parcel-3")),
        is_last=random.random() < 0.3,
    )
    return lambda database: commands.capture_payment(database, till.bank, command)


def refund_part(till: Till, random: Random) -> Command:
    command = RefundPayment(
        order_id=random.choice(till.orders[:3]),
        amount=_usd(random.choice((500, 750))),
        key=random.choice(("line-1", "line-2", "line-3")),
        reason="test",
    )
    return lambda database: commands.refund_payment(database, till.bank, command)


def give_back(till: Till, random: Random) -> Command:
    command = GiveBack(
        order_id=random.choice(till.orders[:3]),
        amount=_usd(random.choice((500, 750, 1500))),
        key=random.choice(("line-1", "return-1", "return-2")),
        reason="test",
    )
    return lambda database: commands.give_back(database, till.bank, command)


def release(till: Till, random: Random) -> Command:
    command = ReleaseHold(order_id=random.choice(till.orders[:3]), attempt=1, reason="test")
    return lambda database: commands.release_hold(database, till.bank, command)


def act(till: Till, random: Random) -> Command:
    """The customer does what the bank asks, or not, and comes back to the shop."""
    order_id, confirms = random.choice(till.orders), random.random() < 0.7
    name = name_of(payment_reference(order_id, 1))

    async def confirm(database: Database) -> None:
        await stop("the customer acts")
        if name in till.bank.accounts:
            till.bank.accounts[name].act(confirms=confirms)
        await commands.look_again(database, till.bank, name)

    return confirm


def dispute(till: Till, random: Random) -> Command:
    """The customer has the bank take it back; or the bank decides whose it is. The provider tells of it."""
    name = name_of(payment_reference(random.choice(till.orders[:2]), 1))
    ends = DisputeState.WON if random.random() < 0.5 else DisputeState.LOST

    async def tell(database: Database) -> None:
        await stop("a dispute begins or ends")
        account = till.bank.accounts.get(name)
        if account is None or account.captured == account.refunded or account.is_lost:
            return
        if not account.disputed:
            account.disputed, state = account.captured - account.refunded, DisputeState.OPEN
            account.disputes += 1
        else:
            state = ends
        amount = _usd(account.disputed)
        account.is_lost = state == DisputeState.LOST
        if state == DisputeState.WON:
            account.disputed = 0
        await commands.apply_news(
            database,
            ProviderNews(
                id=f"evt_{name}_{account.disputes}_{state}",
                kind=NewsKind.DISPUTE,
                charge_id=name,
                reference=None,
                amount=amount,
                state=state,
                movement_id=f"dp_{name}_{account.disputes}",
                key=None,
                occurred_at=utc_now(),
            ),
        )

    return tell


def refund_again(till: Till, random: Random) -> Command:
    """Staff try a refund again that may have failed."""
    order_id, key = random.choice(till.orders[:3]), random.choice(("line-1", "return-1", "undo"))

    async def again(database: Database) -> None:
        async with database.reading() as session:
            found = (await session.exec(select(Payment.payment_id).where(Payment.order_id == order_id))).all()
        for payment_id in found:
            await commands.refund_again(database, till.bank, payment_id, key)

    return again


def forget(till: Till, random: Random) -> Command:
    event = OrderForgotten(order_id=random.choice(till.orders), customer_id=till.customer)
    return lambda database: in_transaction(database, lambda work: commands.forget_order(work, event))


COMMANDS: dict[str, Callable[[Till, Random], Command]] = {
    "act": act,
    "process": process,
    "capture": capture,
    "capture_part": capture_part,
    "refund": refund,
    "refund_part": refund_part,
    "give_back": give_back,
    "release": release,
    "dispute": dispute,
    "refund_again": refund_again,
    "forget": forget,
}


def broken(rows: Rows, till: Till) -> Sequence[str]:
    """One row for each order and attempt, whose money moved once under each key: by sums, movements, ledger, events and bank.
    Nobody gets past the velocity."""
    wrong = []
    if doubled := [
        key for key, times in Counter((row["order_id"], row["attempt"]) for row in rows["payments"]).items() if times > 1
    ]:
        wrong.append(f"more than one payment of {doubled}")
    waiting = {row["payment_id"] for row in rows["payments"] if row["status"] == "ACTION_REQUIRED"}
    payment_of = {row["movement_id"]: row["payment_id"] for row in rows["movements"]}
    moved, ledger, told = _Sums(), _Sums(), _Sums()
    for row in rows["movements"]:
        if row["state"] == "SUCCEEDED":
            moved[row["payment_id"], row["kind"]] += row["amount_minor"]
        if row["state"] == "PENDING" and row["payment_id"] not in waiting:
            wrong.append(f"nobody knows what became of {row['kind']} {row['key']}")
    for movement, entries in groupby(sorted(rows["ledger_entries"], key=_movement), _movement):
        parts = list(entries)
        if sum(entry["amount_minor"] for entry in parts):
            wrong.append(f"entries that do not balance: {parts}")
        for entry in parts:
            ledger[payment_of[movement], entry["account"]] += entry["amount_minor"]
    for event in rows["outbox"]:
        kind, data = event["envelope"]["type"], event["envelope"]["data"]
        told[data["payment_id"], kind] += int(Decimal(data["amount"]["amount"]) * 100)
    for payment in rows["payments"]:
        identity, status = payment["payment_id"], payment["status"]
        sums = {name: payment[f"{name}_minor"] for name in ("captured", "refunded", "voided")}
        taken, back, let_go = (moved[identity, kind] for kind in ("capture", "refund", "void"))
        if (sums["captured"], sums["refunded"], sums["voided"]) != (taken, back, let_go):
            wrong.append(f"{status} with {sums}, and {taken}, {back}, {let_go} were moved")
        held = payment["authorized_minor"] - taken - let_go
        if (ledger[identity, "provider"], ledger[identity, "held"]) != (taken - back, held):
            wrong.append(f"{status} with {sums}, and the ledger has {dict(ledger)}")
        if (told[identity, "PaymentProcessed"], told[identity, "RefundProcessed"]) != (taken, back):
            wrong.append(f"{status} with {sums}, and the events say {dict(told)}")
        at_bank = till.bank.accounts.get(payment["provider_id"], Account(fixed=_S.REVERSED))
        if (at_bank.captured, at_bank.refunded, at_bank.held) != (taken, back, held):
            wrong.append(f"{status} with {sums}, and the bank has {at_bank}")
        if at_bank.captured < at_bank.refunded + at_bank.disputed:
            wrong.append(f"the customer has more back than was taken: {at_bank}")
        if status == "DECLINED" and at_bank.status != _S.DECLINED:
            wrong.append(f"{status} here, {at_bank.status} at the bank")
    for lost in (row for row in rows["disputes"] if row["state"] == "LOST"):
        how = f"the bank gave it back: dispute {lost['provider_id']}"
        if lost["amount_minor"] < (settled := sum(row["amount_minor"] for row in rows["debts"] if row["settled_how"] == how)):
            wrong.append(f"{settled} are not owed any more because of a dispute about {lost['amount_minor']}")
        if ("LOST_DISPUTE", lost["provider_id"]) not in {(row["kind"].upper(), row["subject"]) for row in rows["debts"]}:
            wrong.append(f"the dispute {lost['provider_id']} is lost, and is not on the list of what is owed")
    # The attempts of one order are looked at together.
    seen = {row["order_id"] for row in rows["payments"] if not row["review"] and row["status"] not in ("DECLINED", "VOIDED")}
    if len(seen) > ORDERS_AT_ONCE:
        wrong.append(f"{len(seen)} orders at once were not looked at")
    return wrong


_Sums = Counter[tuple[str, str]]


def _movement(entry: Mapping[str, Any]) -> Any:
    return entry["movement_id"]


def restore(till: Till, accounts: dict[str, Account]) -> None:
    till.bank.accounts = deepcopy(accounts)


SUBJECT = Subject(
    "payment",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset(COMMANDS),
    save=lambda till: deepcopy(till.bank.accounts),
    restore=restore,
)
