"""What the shop earns and gives back is counted when it is in the ledger, and once."""

from prometheus_client import REGISTRY

from chassis.database import Database
from services.payment import commands
from services.payment.adapters import StripePayments
from tests.services.payment.conftest import capture_of, pay, persist, refund_of


def amount(movement: str, currency: str) -> float:
    labels = {"movement": movement, "currency": currency}
    return REGISTRY.get_sample_value("payments_amount_total", labels) or 0.0


async def test_money_is_counted_once_however_often_a_command_is_repeated(database: Database, provider: StripePayments) -> None:
    movements = ("authorized", "captured", "refunded", "voided")
    before = {name: amount(name, "CHF") for name in movements}
    taken, held = pay(amount="12.50", currency="CHF"), pay(amount="7.00", currency="CHF", capture=False)
    for _ in range(3):
        await persist(lambda: commands.process_payment(database, provider, taken))
        await persist(lambda: commands.process_payment(database, provider, held))
    assert {name: amount(name, "CHF") - before[name] for name in movements} == {
        "authorized": 7.0, "captured": 12.5, "refunded": 0.0, "voided": 0.0,
    }  # fmt: skip
    for _ in range(3):
        await persist(lambda: commands.capture_payment(database, provider, capture_of(held)))
        await persist(lambda: commands.refund_payment(database, provider, refund_of(taken)))
    assert {name: amount(name, "CHF") - before[name] for name in movements} == {
        "authorized": 7.0, "captured": 19.5, "refunded": 12.5, "voided": 0.0,
    }  # fmt: skip
