"""Who buys too much in a short time is looked at: customer, card and address, in sum and in number (review-1.md, G7)."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import locked
from contracts import payments as contract
from contracts.errors import Refusal
from contracts.money import Money
from contracts.payments import PaymentStatus, ProcessPayment
from services.payment import commands
from services.payment.adapters import StripePayments
from services.payment.model import Payment, Recent, Subject, Velocity
from tests.conftest import changing
from tests.services.payment.conftest import Simulator, assert_books_agree, capture_of, pay, refund_of

VELOCITY = Velocity(timedelta(hours=24), orders=5, total=Money(amount=Decimal(300)))
S = PaymentStatus


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


def of(customer_id: UUID, payment: ProcessPayment) -> ProcessPayment:
    return payment.model_copy(update={"customer_id": customer_id})


async def made_earlier(database: Database, payment: ProcessPayment, age: timedelta) -> None:
    async with changing(database) as work:
        [row] = await work.all(locked(Payment, col(Payment.order_id) == payment.order_id))
        row.created_at = utc_now() - age


class Buying:
    """Payments one after the other, on one database."""

    def __init__(self, database: Database, provider: StripePayments) -> None:
        self._database, self._provider = database, provider

    async def __call__(self, payment: ProcessPayment) -> contract.Payment:
        return await commands.process_payment(self._database, self._provider, payment, velocity=VELOCITY)

    async def undo(self, payment: ProcessPayment) -> None:
        await commands.refund_payment(self._database, self._provider, refund_of(payment))


@pytest.fixture
def buy(database: Database, provider: StripePayments) -> Buying:
    return Buying(database, provider)


@pytest.mark.parametrize(
    ("recent", "amount", "reasons"),
    [
        (Recent(4, 0), usd("300.00"), []),
        (Recent(4, 5_000), usd("250.00"), []),
        (Recent(4, 5_001), usd("250.00"), ["card: more than 300.00 USD within 24 hours"]),
        (Recent(0, 0), usd("300.01"), ["card: more than 300.00 USD within 24 hours"]),
        (Recent(5, 500), usd("1.00"), ["card: more than 5 orders within 24 hours"]),
        (Recent(4, 30_000), Money(amount=Decimal(900), currency="JPY"), []),  # the threshold holds those, whatever they cost
    ],
)
def test_the_rule(recent: Recent, amount: Money, reasons: list[str]) -> None:
    assert VELOCITY.reasons(amount, {Subject.CARD: recent}) == reasons


async def test_g7_of_orders_just_under_the_threshold_the_later_ones_are_held(buy: Buying) -> None:
    customer = uuid4()
    paid = [await buy(of(customer, pay(amount="99.00"))) for _ in range(5)]
    assert [payment.status for payment in paid] == [S.CAPTURED] * 3 + [S.AUTHORIZED] * 2
    assert [payment.review for payment in paid[2:]] == [(), *[("customer: more than 300.00 USD within 24 hours",)] * 2]
    assert (await buy(pay(amount="99.00"))).status == S.CAPTURED  # somebody else's


async def test_g7_many_small_orders_are_held_by_their_number(buy: Buying) -> None:
    customer = uuid4()
    paid = [await buy(of(customer, pay(amount="1.00"))) for _ in range(7)]
    assert [payment.status for payment in paid] == [S.CAPTURED] * 5 + [S.AUTHORIZED] * 2
    assert paid[5].review == ("customer: more than 5 orders within 24 hours",)


async def test_g7_a_card_is_known_again_under_another_name(buy: Buying, database: Database) -> None:
    stolen = {"payment_token": "pm_card_mastercard_stolen"}
    payments = [pay(amount="160.00").model_copy(update=stolen) for _ in range(2)]
    assert (await buy(payments[0])).status == S.CAPTURED
    second = await buy(payments[1])
    assert (second.status, second.review) == (S.AUTHORIZED, ("card: more than 300.00 USD within 24 hours",))
    async with database.reading() as session:
        row = (await session.exec(select(Payment).where(Payment.order_id == payments[1].order_id))).one()
        assert "stolen" not in str(row.model_dump())


async def test_g7_an_address_is_known_again_under_another_name(buy: Buying) -> None:
    there = {"ship_to_fingerprint": 2 * uuid4().hex}
    statuses = [(await buy(pay(amount="160.00").model_copy(update=there))).status for _ in range(2)]
    assert statuses == [S.CAPTURED, S.AUTHORIZED]


async def test_g7_orders_at_once_do_not_get_past_the_limit_together(
    buy: Buying, database: Database, simulator: Simulator
) -> None:
    customer = uuid4()
    payments = [of(customer, pay(amount="99.00")) for _ in range(10)]
    replies = await asyncio.gather(*map(buy, payments))
    assert sorted(payment.status for payment in replies) == [S.AUTHORIZED] * 7 + [S.CAPTURED] * 3
    assert all(bool(payment.review) == (payment.status == S.AUTHORIZED) for payment in replies)
    assert sum((await assert_books_agree(database, simulator)).values()) == 3 * 9_900


async def test_what_shares_card_customer_and_address_crosswise_does_not_deadlock(buy: Buying) -> None:
    customers, cards, places = ([uuid4() for _ in range(3)] for _ in range(3))
    payments = [
        pay(amount="1.00").model_copy(
            update={
                "customer_id": customers[n % 3],
                "payment_token": f"pm_card_visa_{cards[n // 3 % 3]}",
                "ship_to_fingerprint": 2 * places[n // 9 % 3].hex,
            }
        )
        for n in range(27)
    ]
    replies = await asyncio.gather(*map(buy, payments))
    taken = [payment for payment, reply in zip(payments, replies, strict=True) if reply.status == S.CAPTURED]
    for subject in ("customer_id", "payment_token", "ship_to_fingerprint"):
        assert max(sum(getattr(one, subject) == getattr(other, subject) for one in taken) for other in taken) <= 5


async def test_what_was_never_taken_or_is_long_ago_does_not_count(buy: Buying, database: Database) -> None:
    customer = uuid4()
    declined = of(customer, pay("pm_card_visa_chargeDeclined", "299.00"))
    with pytest.raises(Refusal):
        await buy(declined)
    held = of(customer, pay(amount="299.00", capture=False))
    assert (await buy(held)).status == S.AUTHORIZED
    await buy.undo(held)
    old = of(customer, pay(amount="299.00"))
    assert (await buy(old)).status == S.CAPTURED
    await made_earlier(database, old, timedelta(hours=25))
    taken = of(customer, pay(amount="299.00"))
    assert (await buy(taken)).status == S.CAPTURED
    await buy.undo(taken)  # it was captured: that somebody takes it back does not make room
    assert (await buy(of(customer, pay(amount="2.00")))).status == S.AUTHORIZED


async def test_a_repeated_command_is_decided_once(buy: Buying, database: Database, provider: StripePayments) -> None:
    customer = uuid4()
    first, held = of(customer, pay(amount="200.00")), of(customer, pay(amount="200.00"))
    assert (await buy(first)).status == S.CAPTURED
    replies = await asyncio.gather(*[buy(held) for _ in range(5)])
    assert {payment.status for payment in replies} == {S.AUTHORIZED}
    # What made it so is over; what was decided stays, also when the provider has to be asked again.
    lost = of(customer, pay("pm_sim_lost_reply", "50.00")).model_copy(update={"ship_to_fingerprint": held.ship_to_fingerprint})
    with pytest.raises(Unavailable):
        await buy(lost)
    for payment in (first, held):
        await made_earlier(database, payment, timedelta(hours=25))
    assert (await buy(lost)).status == S.AUTHORIZED
    taken = await commands.capture_payment(database, provider, capture_of(held))
    assert (taken.status, (await buy(first)).status) == (S.CAPTURED, S.CAPTURED)
