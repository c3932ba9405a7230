"""Whatever happens to payments at the Stripe simulator, in whatever order: its sums agree with each other, and with a model."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from simulators.stripe.app import create_app
from tests.simulators.stripe_client import KEY, Reply, Stripe

CARDS = {
    "pm_card_visa": "pays",
    "pm_card_riskLevelElevated": "pays",
    "pm_card_authenticationRequired": "asks",
    "pm_card_visa_chargeDeclined": "declines",
    "pm_sim_refund_refused": "pays",
}
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
WHICH, SUM, PART = st.integers(0, 11), st.integers(300, 600), st.sampled_from([None, 1, 40, 100, 200, 400])
MOST = 4
"""Payments at a time: the fewer, the more happens to each."""


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


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner, self.stack = asyncio.Runner(), AsyncExitStack()
        self.payments: list[Payment] = []
        self.touched: Payment | None = None
        self.runner.run(self._open())

    async def _open(self) -> None:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        app = create_app(Path(folder), KEY)
        http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://simulator", headers={"Authorization": f"Bearer {KEY}"}
        )
        await self.stack.enter_async_context(app.running())
        self.stripe = Stripe(await self.stack.enter_async_context(http))

    def teardown(self) -> None:
        try:
            self.runner.run(self._all_agrees())
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()

    def post(self, path: str, **params: Any) -> Reply:
        return self.runner.run(self.stripe.try_post(path, **params))

    def ask(self, path: str, **body: Any) -> httpx2.Response:
        return self.runner.run(self.stripe.http.post(f"/_{path}", json=body))

    def pick(self, which: int) -> Payment:
        self.touched = self.payments[which % len(self.payments)]
        return self.touched

    # ── What may happen ──────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize()
    def some_are_under_way(self) -> None:
        for number, held in enumerate((True, False)):
            self.a_payment("pm_card_visa", 500, held=held, many=True)
            self.it_is_confirmed(number)

    @precondition(lambda self: len(self.payments) < MOST)
    @rule(card=st.sampled_from(sorted(CARDS)), amount=SUM, held=st.booleans(), many=st.booleans())
    def a_payment(self, card: str, amount: int, held: bool, many: bool) -> None:
        options = {"card": {"request_multicapture": "if_available" if many else "never"}}
        method = "manual" if held else "automatic"
        reply = self.post(
            "/v1/payment_intents",
            amount=amount,
            currency="eur",
            payment_method=card,
            capture_method=method,
            payment_method_options=options,
        )
        self.payments.append(Payment(reply.body["id"], amount, held, many and held, card))

    @rule(which=WHICH, card=st.sampled_from([None, *sorted(CARDS)]))
    def it_is_confirmed(self, which: int, card: str | None = None) -> None:
        payment = self.pick(which)
        reply = self.post(f"/v1/payment_intents/{payment.id}/confirm", **({"payment_method": card} if card else {}))
        if payment.status not in OPEN or (payment.status == "requires_payment_method" and card is None):
            assert reply.refusal == (400, "payment_intent_unexpected_state")
            return
        payment.card = card or payment.card
        does = CARDS[payment.card]
        assert reply.status == (402 if does == "declines" else 200)
        if does == "pays":
            payment.pay()
        else:
            payment.status = "requires_action" if does == "asks" else "requires_payment_method"

    @rule(which=WHICH, confirms=st.booleans())
    def the_customer_answers(self, which: int, confirms: bool) -> None:
        payment = self.pick(which)
        reply = self.ask(f"control/3ds/{payment.id}", result="confirm" if confirms else "refuse")
        assert reply.status_code == (200 if payment.status == "requires_action" else 400)
        if payment.status == "requires_action":
            if confirms:
                payment.pay()
            else:
                payment.status = "requires_payment_method"

    @rule(which=WHICH, amount=st.one_of(PART, st.just(0)), final=st.sampled_from([False, False, False, True, None]))
    def it_is_captured(self, which: int, amount: int | None, final: bool | None) -> None:
        payment = self.pick(which)
        params = {"amount_to_capture": amount, "final_capture": final}
        given = {name: value for name, value in params.items() if value is not None}
        reply = self.post(f"/v1/payment_intents/{payment.id}/capture", **given)
        wanted = payment.capturable if amount is None else amount
        releases = not wanted and payment.captures and final is not False
        fits = payment.status == "requires_capture" and (0 < wanted <= payment.capturable or releases)
        if not fits or (final is False and not payment.many):
            assert reply.status == 400
            return
        assert reply.status == 200, reply.body
        payment.received += wanted
        payment.captures += bool(wanted)
        last = final is not False or wanted == payment.capturable
        payment.capturable -= payment.capturable if last else wanted
        payment.status = "succeeded" if last else "requires_capture"

    @rule(which=WHICH, by_itself=st.booleans())
    def it_ends(self, which: int, by_itself: bool) -> None:
        payment = self.pick(which)
        if by_itself:
            assert self.ask(f"dashboard/charges/{payment.id}/expire").status_code == 200
            possible = payment.status == "requires_capture"
        else:
            possible = payment.status in (*OPEN, "requires_capture")
            reply = self.post(f"/v1/payment_intents/{payment.id}/cancel")
            assert reply.status == (200 if possible else 400)
        if possible:
            payment.let_go()

    @rule(which=WHICH, amount=PART, by_hand=st.booleans())
    def it_is_refunded(self, which: int, amount: int | None, by_hand: bool) -> None:
        payment = self.pick(which)
        params = {} if amount is None else {"amount": amount}
        if by_hand:
            response = self.ask(f"dashboard/charges/{payment.id}/refunds", **params)
            status, refund = response.status_code, response.json()
        else:
            reply = self.post("/v1/refunds", payment_intent=payment.id, **params)
            status, refund = reply.status, reply.body
        wanted = payment.received - payment.refunded if amount is None else amount
        if not 0 < wanted <= payment.left:
            assert status == 400
            return
        assert status == 200, refund
        if payment.card == "pm_sim_refund_refused":
            assert refund["status"] == "failed"
            return
        payment.refunded += wanted
        payment.refunds[refund["id"]] = wanted

    @precondition(lambda self: any(payment.refunds for payment in self.payments))
    @rule(which=WHICH)
    def a_refund_fails(self, which: int) -> None:
        having = [payment for payment in self.payments if payment.refunds]
        self.touched = payment = having[which % len(having)]
        refund, amount = payment.refunds.popitem()
        assert self.ask(f"dashboard/refunds/{refund}/fail").status_code == 200
        payment.refunded -= amount

    @rule(which=WHICH, amount=PART)
    def it_is_disputed(self, which: int, amount: int | None) -> None:
        payment = self.pick(which)
        response = self.ask(f"dashboard/charges/{payment.id}/disputes", **({} if amount is None else {"amount": amount}))
        wanted = payment.left if amount is None else amount
        assert response.status_code == (200 if 0 < wanted <= payment.left else 400)
        if response.status_code == 200:
            payment.disputed += wanted
            payment.disputes[response.json()["id"]] = wanted

    @precondition(lambda self: any(payment.disputes for payment in self.payments))
    @rule(which=WHICH, won=st.booleans())
    def a_dispute_is_decided(self, which: int, won: bool) -> None:
        having = [payment for payment in self.payments if payment.disputes]
        self.touched = payment = having[which % len(having)]
        dispute, amount = payment.disputes.popitem()
        assert self.ask(f"dashboard/disputes/{dispute}/{'win' if won else 'lose'}").status_code == 200
        payment.disputed -= amount if won else 0

    # ── What holds all the time ──────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_payment_is_what_we_think(self) -> None:
        if self.touched is not None:
            self.runner.run(self._agrees(self.touched))

    async def _agrees(self, payment: Payment) -> None:
        shown = await self.stripe.get(f"/v1/payment_intents/{payment.id}", expand=["latest_charge"])
        assert shown["status"] == payment.status
        assert (shown["amount_capturable"], shown["amount_received"]) == (payment.capturable, payment.received)
        assert payment.capturable + payment.received <= payment.amount
        charge = shown["latest_charge"]
        if charge is None or charge["status"] == "failed":
            assert (payment.capturable, payment.received) == (0, 0)
            return
        assert (charge["amount_captured"], charge["amount_refunded"]) == (payment.received, payment.refunded)
        assert payment.refunded + payment.disputed <= payment.received

    async def _all_agrees(self) -> None:
        """The balance has moved by what the payments say, each source by its own."""
        for payment in self.payments:
            await self._agrees(payment)
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
        sums = await self.stripe.sums() or Counter()
        assert (sums["captured"], sums["refunded"]) == (moved["charge"], -moved["refund"] - moved["refund_failure"])
        held = [payment for payment in self.payments if payment.held and (payment.capturable or payment.received)]
        assert sums["authorized"] - sums["voided"] == sum(payment.capturable + payment.received for payment in held)


def test_the_books_agree_whatever_happens() -> None:
    run_state_machine_as_test(Books, settings=settings(max_examples=40, stateful_step_count=40))
