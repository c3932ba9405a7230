"""Whatever happens to payments at the Stripe simulator, in whatever order: its sums agree with each other, and with a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tests.simulators.stripe_client import Reply, Stripe

pytestmark = pytest.mark.asyncio

CARDS = {
    "pm_card_visa": "pays",
    "pm_card_riskLevelElevated": "pays",
    "pm_card_authenticationRequired": "asks",
    "pm_card_visa_chargeDeclined": "declines",
    "pm_sim_refund_refused": "pays",
}
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
AT_ONCE, STEPS = 4, 120


@dataclass
class Payment:
    """What we think of a payment."""

    id: str
    amount: int
    held: bool
    many: bool
    card: str
    status: str = "requires_confirmation"
    capturable: int = 0
    received: int = 0
    refunded: int = 0
    disputed: int = 0
    captures: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    disputes: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.received - self.refunded - self.disputed

    def pay(self) -> None:
        self.status = "requires_capture" if self.held else "succeeded"
        self.capturable, self.received = (self.amount, 0) if self.held else (0, self.amount)

    def let_go(self) -> None:
        self.status, self.capturable = "succeeded" if self.captures else "canceled", 0


class Walk:
    def __init__(self, stripe: Stripe, seed: int) -> None:
        self.stripe, self.random = stripe, Random(seed)
        self.payments: list[Payment] = []
        self.trail: list[str] = []
        self.done: Counter[str] = Counter()

    async def step(self) -> None:
        if len(self.payments) < AT_ONCE or self.random.random() < 0.15:
            await self.open()
        payment = self.random.choice(self.payments[-AT_ONCE:])
        ready = payment.status in OPEN
        steps: dict[Callable[[Payment], Awaitable[bool]], bool] = {
            self.confirm: ready,
            self.answer: payment.status == "requires_action",
            self.capture: payment.capturable > 0,
            self.end: (ready or payment.capturable > 0) and self.random.random() < 0.2,
            self.refund: payment.left > 0,
            self.fail_a_refund: bool(payment.refunds),
            self.dispute: payment.left > 0,
            self.decide: bool(payment.disputes),
        }
        likely = [step for step, is_likely in steps.items() if is_likely]
        step = self.random.choice(likely if likely and self.random.random() < 0.8 else [*steps])
        self.trail.append(f"{step.__name__} {payment}")
        self.done[step.__name__] += await step(payment)
        await self.agrees(payment)

    async def post(self, payment: Payment, path: str, **params: Any) -> Reply:
        given = {name: value for name, value in params.items() if value is not None}
        return await self.stripe.try_post(f"/v1/payment_intents/{payment.id}/{path}", **given)

    async def ask(self, path: str, **body: Any) -> tuple[int, Any]:
        response = await self.stripe.http.post(f"/_{path}", json=body)
        return response.status_code, response.json()

    def part(self, of: int) -> int | None:
        """None: all of it. Sometimes it is too much."""
        return self.random.choice([None, 1, of // 7 + 1, of // 3 + 1, of, of + 1])

    # ── What may happen: each says whether it was possible ───────────────────────────────────────────────────────────────

    async def open(self) -> None:
        held, many, card = self.random.random() < 0.6, self.random.random() < 0.8, self.random.choice([*CARDS])
        payment: dict[str, Any] = {"amount": self.random.randint(1, 100_000), "currency": "eur", "payment_method": card}
        options = {"card": {"request_multicapture": "if_available" if many else "never"}}
        method = "manual" if held else "automatic"
        intent = await self.stripe.post("/v1/payment_intents", **payment, capture_method=method, payment_method_options=options)
        self.payments.append(Payment(intent["id"], intent["amount"], held, many and held, card))

    async def confirm(self, payment: Payment) -> bool:
        card = self.random.choice([None, *CARDS])
        reply = await self.post(payment, "confirm", payment_method=card)
        if payment.status not in OPEN or (payment.status == "requires_payment_method" and card is None):
            assert reply.refusal == (400, "payment_intent_unexpected_state")
            return False
        payment.card = card or payment.card
        does = CARDS[payment.card]
        assert reply.status == (402 if does == "declines" else 200)
        if does == "pays":
            payment.pay()
        else:
            payment.status = "requires_action" if does == "asks" else "requires_payment_method"
        return True

    async def answer(self, payment: Payment) -> bool:
        confirms = self.random.random() < 0.7
        status, _ = await self.ask(f"control/3ds/{payment.id}", result="confirm" if confirms else "refuse")
        possible = payment.status == "requires_action"
        assert status == (200 if possible else 400)
        if possible and confirms:
            payment.pay()
        elif possible:
            payment.status = "requires_payment_method"
        return possible

    async def capture(self, payment: Payment) -> bool:
        amount = self.part(payment.capturable) if self.random.random() < 0.9 else 0
        final = self.random.choice([False, False, False, True, None])
        reply = await self.post(payment, "capture", amount_to_capture=amount, final_capture=final)
        wanted = payment.capturable if amount is None else amount
        releases = not wanted and payment.captures and final is not False
        fits = payment.status == "requires_capture" and (0 < wanted <= payment.capturable or releases)
        if not fits or (final is False and not payment.many):
            assert reply.status == 400
            return False
        assert reply.status == 200, reply.body
        payment.received += wanted
        payment.captures += bool(wanted)
        last = final is not False or wanted == payment.capturable
        payment.capturable -= payment.capturable if last else wanted
        payment.status = "succeeded" if last else "requires_capture"
        return True

    async def end(self, payment: Payment) -> bool:
        """It is cancelled, or the hold expires."""
        possible = payment.status in (*OPEN, "requires_capture")
        if self.random.random() < 0.5:
            possible = payment.status == "requires_capture"
            assert (await self.ask(f"dashboard/charges/{payment.id}/expire"))[0] == 200
        else:
            assert (await self.post(payment, "cancel")).status == (200 if possible else 400)
        if possible:
            payment.let_go()
        return possible

    async def refund(self, payment: Payment) -> bool:
        amount = self.part(payment.left)
        given: dict[str, Any] = {} if amount is None else {"amount": amount}
        if self.random.random() < 0.3:
            status, refund = await self.ask(f"dashboard/charges/{payment.id}/refunds", **given)
        else:
            reply = await self.stripe.try_post("/v1/refunds", payment_intent=payment.id, **given)
            status, refund = reply.status, reply.body
        wanted = payment.received - payment.refunded if amount is None else amount
        if not 0 < wanted <= payment.left:
            assert status in (400, 422)
            return False
        assert status == 200, refund
        if payment.card == "pm_sim_refund_refused":
            assert refund["status"] == "failed"
            return False
        payment.refunded += wanted
        payment.refunds[refund["id"]] = wanted
        return True

    async def fail_a_refund(self, payment: Payment) -> bool:
        if not payment.refunds:
            return False
        refund, amount = payment.refunds.popitem()
        assert (await self.ask(f"dashboard/refunds/{refund}/fail"))[0] == 200
        payment.refunded -= amount
        return True

    async def dispute(self, payment: Payment) -> bool:
        amount = self.part(payment.left)
        given: dict[str, Any] = {} if amount is None else {"amount": amount}
        status, dispute = await self.ask(f"dashboard/charges/{payment.id}/disputes", **given)
        wanted = payment.left if amount is None else amount
        if not 0 < wanted <= payment.left:
            assert status in (400, 422)
            return False
        payment.disputed += wanted
        payment.disputes[dispute["id"]] = wanted
        return True

    async def decide(self, payment: Payment) -> bool:
        if not payment.disputes:
            return False
        won = self.random.random() < 0.5
        dispute, amount = payment.disputes.popitem()
        assert (await self.ask(f"dashboard/disputes/{dispute}/{'win' if won else 'lose'}"))[0] == 200
        payment.disputed -= amount if won else 0
        return True

    # ── What holds all the time ──────────────────────────────────────────────────────────────────────────────────────────

    async def agrees(self, payment: Payment) -> None:
        shown = await self.stripe.look({"id": payment.id}, "latest_charge")
        assert shown["status"] == payment.status
        assert (shown["amount_capturable"], shown["amount_received"]) == (payment.capturable, payment.received)
        assert payment.capturable + payment.received <= payment.amount
        charge = shown["latest_charge"]
        if charge is None or charge["status"] == "failed":
            assert (payment.capturable, payment.received) == (0, 0)
            return
        assert (charge["amount_captured"], charge["amount_refunded"]) == (payment.received, payment.refunded)
        assert payment.refunded + payment.disputed <= payment.received

    async def all_agrees(self) -> None:
        """The balance has moved by what the payments say, each source by its own."""
        moved: Counter[str] = Counter()
        by_source: Counter[str] = Counter()
        for row in await self.stripe.all("/v1/balance_transactions"):
            moved[row["type"]] += row["amount"]
            by_source[row["source"]] += row["amount"]
        assert moved["charge"] == sum(payment.received for payment in self.payments)
        assert -moved["refund"] - moved["refund_failure"] == sum(payment.refunded for payment in self.payments)
        assert -moved["adjustment"] == sum(payment.disputed for payment in self.payments)
        for charge in await self.stripe.all("/v1/charges"):
            assert by_source[charge["id"]] == charge["amount_captured"]
        for refund in await self.stripe.all("/v1/refunds"):
            assert -by_source[refund["id"]] == (refund["amount"] if refund["status"] != "failed" else 0)
        sums = await self.stripe.sums()
        assert (sums["captured"], sums["disputed"]) == (moved["charge"], -moved["adjustment"])
        assert sums["refunded"] == -moved["refund"] - moved["refund_failure"]
        held = [payment for payment in self.payments if payment.held]
        assert sums["authorized"] - sums["voided"] == sum(payment.capturable + payment.received for payment in held)


@pytest.mark.parametrize("seed", range(4))
async def test_the_books_agree_whatever_happens(stripe: Stripe, seed: int) -> None:
    walk = Walk(stripe, seed)
    try:
        for _ in range(STEPS):
            await walk.step()
        for payment in walk.payments:
            await walk.agrees(payment)
        await walk.all_agrees()
    except AssertionError as error:
        error.add_note("\n".join(walk.trail[-30:]))
        raise
    assert min(walk.done.values()) >= 1, walk.done  # each step was possible at least once
