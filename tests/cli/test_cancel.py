"""`commerce cancel`: all services, the providers and the audit agree on an order of which some units were cancelled."""

from uuid import UUID, uuid4

import pytest

from audit import command
from contracts.orders import OrderStatus
from contracts.parcels import ParcelStatus
from services.order.commands import find_order
from services.order.model import Order
from tests.audit.conftest import Shop
from tests.cli.conftest import Command
from tests.cli.test_orders import at_rest, env_of, reaches

WHY = ("--reason", "one is enough", "--by", "ann")


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAUSE_S", 0.05)


async def record(shop: Shop, order_id: UUID) -> Order:
    found = await find_order(shop.databases["order"], order_id)
    assert found
    return found


async def test_some_units_are_cancelled_and_all_books_agree(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    for _ in range(2):  # the same for the same reason: once
        done = await commerce(env_of(shop), "cancel", order_id, "--line", "1:1", *WHY)
        assert done.exit_code == 0, done.output
        assert "Cancelled: 1 of Milk. Refunded 3.00 USD. The order is CONFIRMED." in done.output
    order = await record(shop, order_id)
    share = order.order_lines[0].share_of(1, 1).total
    assert [parcel.status for parcel in order.told_parcels] == [ParcelStatus.CANCELLED, ParcelStatus.BOOKED]
    assert (order.refunded.minor, order.cancelled_units) == (share, {1: 1})
    assert (await at_rest(shop)).violations == []
    too_many = await commerce(env_of(shop), "cancel", order_id, "--line", "1:2", *WHY)
    assert (too_many.exit_code, "conflict: So many units cannot be cancelled." in too_many.output) == (1, True)
    await shop.dispatch(order_id, 2)
    await reaches(shop, order_id, OrderStatus.SHIPPED)
    left = await commerce(env_of(shop), "cancel", order_id, "--line", "1:1", "--reason", "late", "--by", "ann")
    assert (left.exit_code, "already_dispatched" in left.output) == (1, True)


async def test_all_of_an_order_is_cancelled(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    done = await commerce(env_of(shop), "cancel", order_id, *WHY)
    assert done.exit_code == 0, done.output
    assert (await record(shop, order_id)).status == OrderStatus.CANCELLED
    assert (await at_rest(shop)).violations == []


async def test_what_cannot_be_asked_is_told(shop: Shop, commerce: Command) -> None:
    for wrong in ("1", "1:", "1:x", "0:1", "1:0", ":"):
        refused = await commerce(env_of(shop), "cancel", uuid4(), "--line", wrong, *WHY)
        assert (refused.exit_code, "lines.0." in refused.output) == (1, True), refused.output
    unknown = await commerce(env_of(shop), "cancel", uuid4(), "--line", "1:1", *WHY)
    assert (unknown.exit_code, "No workflow" in unknown.output) == (1, True)
