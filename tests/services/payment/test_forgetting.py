"""Forgetting a customer: nobody can tell any more which card and which address paid an order; the money stays."""

from uuid import uuid4

from sqlmodel import select

from chassis.database import Database
from chassis.store import UnitOfWork, in_transaction
from contracts.events import OrderForgotten
from services.payment import commands
from services.payment.adapters import HttpBank, StripePayments, Transfers
from services.payment.model import Debt, DebtKind, Movement, Payment, creditor_reference
from tests.personal import found_in
from tests.services.payment.conftest import OPENED, BankSimulator, movements_of, pay, refund_of

ZOES = "DE02120300000000202051"


async def test_card_and_address_are_blanked_and_the_money_stays(database: Database, provider: StripePayments) -> None:
    command, of_another = pay(), pay()
    paid = await commands.process_payment(database, provider, command)
    await commands.process_payment(database, provider, of_another)
    assert await found_in(database.url, [command.payment_token]) == []
    assert await found_in(database.url, [command.ship_to_fingerprint]) != []
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    for _ in range(2):
        await in_transaction(database, lambda work: commands.forget_order(work, event))
    async with database.reading() as session:
        rows = {row.order_id: row for row in (await session.exec(select(Payment))).all()}
    row = rows[command.order_id]
    assert (row.card_fingerprint, row.address_fingerprint) == (None, None)
    assert (row.customer_id, row.reply()) == (command.customer_id, paid)
    assert await found_in(database.url, [command.ship_to_fingerprint]) == []
    assert rows[of_another.order_id].address_fingerprint == of_another.ship_to_fingerprint
    refunded = await commands.refund_payment(database, provider, refund_of(command))
    assert refunded.refunded == command.amount


async def test_why_money_moved_is_blanked(database: Database, provider: StripePayments) -> None:
    command = pay()
    await commands.process_payment(database, provider, command)
    why = refund_of(command).model_copy(update={"reason": "Zoe of Elm Street is unhappy"})
    await commands.refund_payment(database, provider, why)
    assert await found_in(database.url, ["Elm Street"]) != []
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    await in_transaction(database, lambda work: commands.forget_order(work, event))
    assert await found_in(database.url, ["Elm Street"]) == []
    assert [row.amount for row in await movements_of(database, command.order_id)] == 2 * [command.amount]


async def test_who_transferred_the_money_is_blanked(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    command = pay("bank_transfer")
    await commands.process_payment(database, transfers, command)
    await bank_simulator.pay("12.50", text=f"{creditor_reference(f'{command.order_id}-1')} Elm Street", name="Zoe", iban=ZOES)
    await commands.take_bookings(database, bank)
    await commands.tell_payments(database, transfers)
    await commands.refund_payment(database, transfers, refund_of(command))
    await commands.send_orders(database, bank)
    assert await found_in(database.url, ["Zoe"]) != []
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    await in_transaction(database, lambda work: commands.forget_order(work, event))
    assert await found_in(database.url, ["Zoe", ZOES, "Elm Street"]) == []
    assert [row.amount for row in await movements_of(database, command.order_id)] == 2 * [command.amount]


async def test_how_somebody_settled_a_debt_is_blanked(database: Database, provider: StripePayments) -> None:
    command = pay()
    await commands.process_payment(database, provider, command)

    async def owe(work: UnitOfWork) -> None:
        debt = Debt(
            kind=DebtKind.FAILED_REFUND, subject="x", order_id=command.order_id, amount_minor=1, currency="USD", why="closed"
        )
        debt.settled_by_hand("paid to Zoe of Elm Street in cash", uuid4())
        work.add(debt)

    await in_transaction(database, owe)
    assert await found_in(database.url, ["Elm Street"]) != []
    event = OrderForgotten(order_id=command.order_id, customer_id=command.customer_id)
    await in_transaction(database, lambda work: commands.forget_order(work, event))
    assert await found_in(database.url, ["Elm Street"]) == []
    async with database.reading() as session:
        [debt] = (await session.exec(select(Debt))).all()
    assert debt.settled_by is not None
    assert debt.settled_at is not None


def test_whatever_is_added_to_a_payment_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {
        *("payment_id", "order_id", "attempt", "customer_id", "review", "amount_minor", "refunded_minor", "currency", "status"),
        *("provider_reference", "provider_id", "decline_code", "decline_reason", "created_at", "updated_at", "version"),
        *("authorized_minor", "captured_minor", "voided_minor", "held_until", "undo_asked_at", "action"),
    }
    blanked = {"card_fingerprint", "address_fingerprint"}
    assert set(Payment.model_fields) == kept | blanked
    row = Payment.asked(pay(), OPENED)
    before = row.model_dump()
    row.forget_person()
    assert {name for name in before if before[name] != row.model_dump()[name]} == blanked
    kept = {
        *("movement_id", "payment_id", "kind", "key", "amount_minor", "currency", "state", "is_last", "provider_id", "failure"),
        *("asked_at", "accepted_at", "settled_at", "version"),
    }
    assert set(Movement.model_fields) == kept | {"purpose"}
