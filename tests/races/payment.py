"""Payment's commands, a bank between their transactions, and what always holds of money."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from chassis.clients import Unavailable
from chassis.database import Database
from chassis.store import in_transaction
from contracts.events import OrderForgotten
from contracts.money import Money
from contracts.payments import CapturePayment, ProcessPayment, RefundPayment
from services.payment import commands
from services.payment.model import Velocity
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderStatus,
)
from tests.races.machine import Command, Rows, Subject, seeded_uuid, stop

ORDERS_AT_ONCE = 3
"""So many payments of a customer are taken without a person looking at them."""
VELOCITY = Velocity(timedelta(hours=24), orders=ORDERS_AT_ONCE, total=Money(amount=Decimal(100_000)))
_S = ProviderStatus


@dataclass
class Bank(PaymentProvider):
    """What a provider promises, without a network. Now and then an answer is lost."""

    charges: dict[str, ProviderCharge] = field(default_factory=dict)
    random: Random | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(multi_capture=False, partial_capture=False)

    async def fingerprint(self, card_token: str) -> str:
        return 64 * "c"

    async def charge(self, request: ChargeRequest) -> ProviderCharge:
        await stop("the bank is asked to charge")
        status = _S.DECLINED if "declined" in request.card_token else _S.CAPTURED if request.capture else _S.AUTHORIZED
        decline = Decline("card_declined", "no") if status == _S.DECLINED else None
        charge = self.charges.setdefault(request.reference, ProviderCharge(status, "ch_1", request.amount, decline))
        return await self._answer(charge)

    async def capture(self, reference: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        await stop("the bank is asked to capture")
        charge = self.charges[reference]
        if charge.status == _S.AUTHORIZED:
            charge = self.charges[reference] = replace(charge, status=_S.CAPTURED)
        return await self._answer(charge)

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        await stop("the bank is asked to reverse")
        charge = self.charges.setdefault(reference, ProviderCharge(_S.REVERSED))
        reversed_ = {_S.CAPTURED: _S.REFUNDED, _S.AUTHORIZED: _S.VOIDED}
        charge = self.charges[reference] = replace(charge, status=reversed_.get(charge.status, charge.status))
        return await self._answer(charge)

    async def refund(self, reference: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        raise NotImplementedError  # no command of these races gives back a part

    async def look(self, reference: str) -> ProviderCharge | None:
        return self.charges.get(reference)

    async def _answer(self, charge: ProviderCharge) -> ProviderCharge:
        await stop("the bank answers")
        if self.random is not None and self.random.random() < 0.15:
            raise Unavailable("the answer was lost")
        return charge


@dataclass(frozen=True)
class Till:
    """Orders of one customer: the first is charged for, of the second the money is held, and the others are new."""

    customer: UUID
    orders: tuple[UUID, ...]
    bank: Bank

    def process(self, random: Random, order_id: UUID, *, capture: bool) -> ProcessPayment:
        return ProcessPayment(
            order_id=order_id,
            customer_id=self.customer,
            amount=Money(amount=Decimal("12.50")),
            payment_token=random.choice(("tok_visa", "tok_visa", "tok_declined")),
            ship_to_fingerprint=64 * "a",
            capture=capture,
        )


async def prepare(database: Database, random: Random) -> Till:
    till = Till(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(5)), Bank())
    for order_id, capture in zip(till.orders, (True, False), strict=False):
        command = till.process(random, order_id, capture=capture).model_copy(update={"payment_token": "tok_visa"})
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


def forget(till: Till, random: Random) -> Command:
    event = OrderForgotten(order_id=random.choice(till.orders), customer_id=till.customer)
    return lambda database: in_transaction(database, lambda work: commands.forget_order(work, event))


COMMANDS: dict[str, Callable[[Till, Random], Command]] = {
    "process": process,
    "capture": capture,
    "refund": refund,
    "forget": forget,
}

_TAKEN = {"CAPTURED": (1, 0), "REFUNDED": (1, 1)}
"""How often the money of a payment was captured and refunded, by its status."""


def broken(rows: Rows, till: Till) -> Sequence[str]:
    """One row for each order, whose money moved once: by ledger, events and bank. Nobody gets past the velocity."""
    wrong = []
    moved = Counter((row["payment_id"], row["kind"].upper()) for row in rows["transactions"])
    told: Counter[tuple[str, str]] = Counter()
    given_back: Counter[str] = Counter()
    for event in rows["outbox"]:
        kind, data = event["envelope"]["type"], event["envelope"]["data"]
        told[data["payment_id"], kind] += 1
        if kind == "RefundProcessed":
            given_back[data["payment_id"]] += int(Decimal(data["amount"]["amount"]) * 100)
    if doubled := [
        key for key, times in Counter((row["order_id"], row["attempt"]) for row in rows["payments"]).items() if times > 1
    ]:
        wrong.append(f"more than one payment of {doubled}")
    for payment in rows["payments"]:
        identity, status = payment["payment_id"], payment["status"]
        captures, refunds = _TAKEN.get(status, (0, 0))
        if (moved[identity, "CAPTURE"], moved[identity, "REFUND"]) != (captures, refunds):
            wrong.append(f"{status}, and the ledger has {dict(moved)}")
        if payment["refunded_minor"] != refunds * payment["amount_minor"]:
            wrong.append(f"{status}, and {payment['refunded_minor']} were refunded")
        if told[identity, "PaymentProcessed"] != captures or given_back[identity] != payment["refunded_minor"]:
            wrong.append(f"{status}, and the events say {dict(told)}")
        if any(times > 1 for (of, _), times in told.items() if of == identity):
            wrong.append(f"an event was told twice: {dict(told)}")
        at_bank = till.bank.charges.get(payment["provider_reference"])
        known = "VOIDED" if at_bank is None or at_bank.status == _S.REVERSED else at_bank.status.upper()
        if known != status:
            wrong.append(f"{status} here, {known} at the bank")
    seen = [row for row in rows["payments"] if not row["review"] and row["status"] not in ("DECLINED", "VOIDED")]
    if len(seen) > ORDERS_AT_ONCE:
        wrong.append(f"{len(seen)} payments at once were not looked at")
    return wrong


def restore(till: Till, charges: dict[str, ProviderCharge]) -> None:
    till.bank.charges = dict(charges)


SUBJECT = Subject(
    "payment",
    prepare,
    COMMANDS,
    broken,
    loose=frozenset(COMMANDS),
    save=lambda till: dict(till.bank.charges),
    restore=restore,
)
