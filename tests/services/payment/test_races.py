"""Charges, captures and refunds of one order at once, in every order: the provider's books and ours end up alike."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import col

from chassis.clients import Unavailable
from chassis.database import Database
from chassis.statements import locked
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.payments import PaymentStatus, ProcessPayment
from services.payment import commands
from services.payment.adapters import StripePayments
from services.payment.model import Payment
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Opened,
    PaymentProvider,
    ProviderCharge,
    ProviderMovement,
    ProviderNews,
)
from tests.conftest import changing, eventually
from tests.services.payment.conftest import (
    Simulator,
    assert_books_agree,
    capture_of,
    event_types,
    pay,
    persist,
    refund_of,
)

STEPS = 3
"""Of a command: up to the call of the provider, the call itself, what follows it. An undo that meets what nobody has an answer to
asks more often."""
ORDERS = [tuple(n in first for n in range(2 * STEPS)) for first in combinations(range(2 * STEPS), STEPS)]
"""Every order in which the steps of two commands can follow each other."""
_WAITING = text("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
Command = Callable[[PaymentProvider], Awaitable[Any]]
Kind = Callable[[Database, ProcessPayment], Command]
Answer = TypeVar("Answer")


class Stepped:
    """A command that goes on one step at a time: it halts before it calls the (real) provider, and before it hears the answer."""

    def __init__(self, provider: PaymentProvider, command: Command) -> None:
        self._provider, self._command = provider, command
        self._go, self._halted = asyncio.Semaphore(0), asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def step(self) -> None:
        """Go on to the next halt, or to the end; nothing if it has ended."""
        if self._task is not None and self._task.done():
            return
        self._halted.clear()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        else:
            self._go.release()
        await self._halted.wait()

    async def finish(self) -> Any:
        """What the command returned or raised, after as many more steps as it takes."""
        assert self._task is not None
        while not self._task.done():
            await self.step()
        return await self._task

    async def kill(self) -> None:
        """End it where it halts."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> Any:
        try:
            return await self._command(self)
        except (Refusal, Unavailable) as error:
            return error
        finally:
            self._halted.set()

    async def _through(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._halt()
        try:
            return await call()
        finally:
            await self._halt()

    async def _halt(self) -> None:
        self._halted.set()
        await self._go.acquire()

    @property
    def capabilities(self) -> Capabilities:
        return self._provider.capabilities

    async def open(self, request: ChargeRequest) -> Opened:
        return await self._provider.open(request)  # moves no money

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        return await self._through(partial(self._provider.charge, provider_id, request))

    async def capture(self, reference: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        return await self._through(partial(self._provider.capture, reference, amount=amount, key=key, is_last=is_last))

    async def reverse(self, reference: str, reason: str) -> ProviderCharge:
        return await self._through(partial(self._provider.reverse, reference, reason))

    async def refund(self, reference: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        return await self._through(partial(self._provider.refund, reference, amount=amount, key=key, reason=reason))

    async def release(self, reference: str, reason: str) -> ProviderCharge:
        return await self._through(partial(self._provider.release, reference, reason))

    async def look(self, reference: str) -> ProviderCharge:
        return await self._through(partial(self._provider.look, reference))

    def news(self, body: bytes) -> ProviderNews | None:
        return self._provider.news(body)


def charging(database: Database, payment: ProcessPayment) -> Command:
    return lambda provider: commands.process_payment(database, provider, payment)


def capturing(database: Database, payment: ProcessPayment) -> Command:
    return lambda provider: commands.capture_payment(database, provider, capture_of(payment))


def refunding(database: Database, payment: ProcessPayment) -> Command:
    return lambda provider: commands.refund_payment(database, provider, refund_of(payment))


async def interleave(provider: PaymentProvider, order: Sequence[bool], one: Command, other: Command) -> tuple[Any, Any]:
    """Run two commands, their steps in this order (True: a step of the first)."""
    first, second = Stepped(provider, one), Stepped(provider, other)
    for is_first in order:
        await (first if is_first else second).step()
    return await first.finish(), await second.finish()


@pytest.mark.parametrize(
    "token", ["pm_card_visa", "pm_card_riskLevelElevated", "pm_card_visa_chargeDeclined", "pm_sim_lost_reply", "pm_sim_flaky"]
)
async def test_a_refund_and_a_charge_in_every_order(
    database: Database, provider: StripePayments, simulator: Simulator, token: str
) -> None:
    for order in ORDERS:
        payment = pay(token)
        charged, refunded = await interleave(provider, order, charging(database, payment), refunding(database, payment))
        assert not isinstance(refunded, Exception), order
        assert refunded.status in (PaymentStatus.VOIDED, PaymentStatus.REFUNDED, PaymentStatus.DECLINED)
        if isinstance(charged, Unavailable):
            charged = await persist(partial(charging(database, payment), provider))
            assert isinstance(charged, Refusal)
        if isinstance(charged, Refusal):
            assert charged.code in (ErrorCode.PAYMENT_REVERSED, ErrorCode.PAYMENT_DECLINED)
        assert (await event_types(database, payment.order_id)).count("PaymentProcessed") <= 1
    net = await assert_books_agree(database, simulator)
    assert list(net.values()) == [0] * len(ORDERS)


async def test_a_refund_and_a_capture_in_every_order(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    for order in ORDERS:
        payment = pay(capture=False)
        await commands.process_payment(database, provider, payment)
        captured, refunded = await interleave(provider, order, capturing(database, payment), refunding(database, payment))
        assert refunded.status in (PaymentStatus.VOIDED, PaymentStatus.REFUNDED), order
        if isinstance(captured, Exception):
            assert isinstance(captured, Refusal)
            assert captured.code == ErrorCode.PAYMENT_REVERSED
    net = await assert_books_agree(database, simulator)
    assert list(net.values()) == [0] * len(ORDERS)


async def test_i4_whoever_works_on_a_payment_locks_its_row(database: Database, provider: StripePayments) -> None:
    payment = pay(capture=False)
    await commands.process_payment(database, provider, payment)

    async def is_waited_for() -> bool:
        async with database.reading() as session:
            return bool((await session.execute(_WAITING)).scalar_one())

    for command, status in (
        (charging, PaymentStatus.AUTHORIZED),
        (capturing, PaymentStatus.CAPTURED),
        (refunding, PaymentStatus.REFUNDED),
    ):
        async with changing(database) as work:
            assert await work.one(locked(Payment, col(Payment.order_id) == payment.order_id))
            waiting = asyncio.ensure_future(command(database, payment)(provider))
            await eventually(is_waited_for, what=f"a lock that {command.__name__} waits for")
        assert (await waiting).status == status


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_process_that_dies_around_the_charge_leaves_nothing_charged_twice(
    database: Database, provider: StripePayments, simulator: Simulator, steps: int
) -> None:
    retried, undone = pay(), pay()
    for payment in (retried, undone):
        dying = Stepped(provider, charging(database, payment))
        for _ in range(steps):
            await dying.step()
        await dying.kill()
    assert (await commands.process_payment(database, provider, retried)).status == PaymentStatus.CAPTURED
    await commands.refund_payment(database, provider, refund_of(undone))
    net = await assert_books_agree(database, simulator)
    assert net == {f"{retried.order_id}-1": 1250, f"{undone.order_id}-1": 0}


async def test_many_commands_for_one_order_at_once(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        payment = pay(
            chance.choice(
                [
                    "pm_card_visa",
                    "pm_card_visa",
                    "pm_card_riskLevelElevated",
                    "pm_card_visa_chargeDeclined",
                    "pm_sim_lost_reply",
                    "pm_sim_flaky",
                ]
            )
        )
        await simulator.faults(lose_replies_next=chance.randrange(3), fail_next=chance.randrange(3))
        wanted = [charging, charging, capturing, refunding, *chance.choices([charging, capturing, refunding], k=3)]
        chance.shuffle(wanted)
        await asyncio.gather(*[_some_time(database, provider, payment, what, chance.randrange(200)) for what in wanted])
        net = await assert_books_agree(database, simulator)
        assert net[f"{payment.order_id}-1"] == 0, f"seed {seed}"
        events = await event_types(database, payment.order_id)
        assert all(events.count(kind) <= 1 for kind in set(events)), f"seed {seed}"


async def _some_time(database: Database, provider: PaymentProvider, payment: ProcessPayment, what: Kind, turns: int) -> None:
    """One caller: it starts some turns of the event loop later, and repeats until it has a definite answer."""
    for _ in range(turns):
        await asyncio.sleep(0)
    if what is capturing:
        await persist(partial(charging(database, payment), provider))
    await persist(partial(what(database, payment), provider))


@dataclass(frozen=True)
class Act:
    """One command for one of a few orders; `together`: at the same time as the one before."""

    order: int
    what: Kind
    together: bool
    lost_replies: int
    failures: int


acts = st.builds(
    Act,
    order=st.integers(0, 2),
    what=st.sampled_from([charging, capturing, refunding]),
    together=st.booleans(),
    lost_replies=st.integers(0, 1),
    failures=st.integers(0, 1),
)
tokens = st.sampled_from(
    [
        "pm_card_visa",
        "pm_card_mastercard",
        "pm_card_riskLevelElevated",
        "pm_card_chargeDeclinedExpiredCard",
        "pm_sim_lost_reply",
        "pm_sim_flaky",
    ]
)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cards=st.lists(tokens, min_size=3, max_size=3), script=st.lists(acts, max_size=10))
async def test_the_provider_s_money_is_our_ledger_after_everything(
    database: Database, provider: StripePayments, simulator: Simulator, cards: list[str], script: list[Act]
) -> None:
    orders = [pay(card) for card in cards]

    groups: list[list[Act]] = []
    for act in script:
        if act.together and groups:
            groups[-1].append(act)
        else:
            groups.append([act])
    unanswered: list[tuple[Act, ProcessPayment]] = []
    for group in groups:
        await simulator.faults(
            lose_replies_next=sum(act.lost_replies for act in group), fail_next=sum(act.failures for act in group)
        )
        calls = [act.what(database, orders[act.order])(provider) for act in group]
        for act, result in zip(group, await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(result, Unavailable):
                unanswered.append((act, orders[act.order]))
            elif isinstance(result, BaseException) and not isinstance(result, Refusal):
                raise result
    # Whoever had no answer asks again until there is one, a charge before its capture.
    await simulator.heal()
    for act, payment in unanswered:
        if act.what is capturing:
            await persist(partial(charging(database, payment), provider))
        await persist(partial(act.what(database, payment), provider))
    net = await assert_books_agree(database, simulator)
    for act in script:
        if act.what is refunding:
            assert net[f"{orders[act.order].order_id}-1"] == 0
