"""Six hours without the card processor or the carrier: no order is lost, nothing is charged or bought twice, and each customer
knows how it ends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from audit.books import ChargeRow
from contracts.orders import CancelReply, OrderStatus
from services.shipping.model import LabelRefund, Package
from testing.sagas import place_order, skipping_time
from tests.conftest import Databases, eventually
from tests.contract.parties import WAREHOUSE
from tests.outage.conftest import Plot, Shop, open_shop, playing

PLOTS = {
    "cards": Plot("cards"),
    "cards, the charge's answer lost": Plot("cards", cut_off=True),
    "cards, and its customer cancels": Plot("cards", cut_off=True),
    "cards, when it is approved": Plot("cards", order={"needs_review": True}),
    "carrier": Plot("carrier"),
    "carrier, the label's answer lost": Plot("carrier", cut_off=True),
    "carrier, with a tariff": Plot("carrier", tariff=True),
    "carrier, the label's answer lost, with a tariff": Plot("carrier", cut_off=True, tariff=True),
    "carrier, and its customer cancels": Plot("carrier", cut_off=True),
}
CANCELLED = {name for name in PLOTS if "cancels" in name}


@dataclass
class Played:
    """One order seven hours later, and what the companies have in their books of it."""

    status: OrderStatus
    placed_at: datetime
    tried: list[tuple[str, datetime]]
    reply: CancelReply | None
    """To its customer, who wanted it cancelled."""
    charges: list[ChargeRow]
    labels: list[dict[str, Any]]
    packages: list[Package]
    told: list[str]
    """The types of the order's events."""

    @property
    def lasted(self) -> timedelta:
        """From the first try to the last one that was not answered."""
        return self.tried[-1][1] - self.placed_at


async def play(env: WorkflowEnvironment, shop: Shop, name: str) -> Played:
    plot = PLOTS[name]
    order = place_order(warehouse_id=WAREHOUSE, **plot.order)
    order = order.model_copy(update={"payment_token": f"pm_card_visa_{order.order_id.hex[:8]}"})
    reply = None
    async with playing(env, shop, plot, order) as (saga, calls):
        with env.with_time_skipping_disabled():
            await saga.start()
        if order.needs_review:
            await saga.reaches(OrderStatus.IN_REVIEW)
            calls.goes_away()
            await saga.update("approve", {"by": "ann", "reason": "known customer"})

        async def is_in_vain() -> bool:
            return len(calls.tried) > 3

        await eventually(is_in_vain, what=f"{name}: the company to be away")
        if name in CANCELLED:
            await saga.waits(1)
            cancelling = asyncio.create_task(
                saga.handle.execute_update("cancel", {"reason": "too slow"}, result_type=CancelReply)
            )
            await saga.says("wants to cancel")
            await saga.waits(6)
            reply = CancelReply.model_validate(await cancelling)
        else:
            await saga.waits(7)
        state = await saga.state()
    books = await shop.books(order.order_id, order.placed_at + timedelta(hours=8))
    return Played(state.status, order.placed_at, calls.tried, reply, *books, await shop.told(order.order_id))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, Played]]:
    """All plots at the same time."""
    async with open_shop(databases, tmp_path_factory.mktemp("outage")) as shop, skipping_time() as env:
        async with asyncio.TaskGroup() as group:
            playing = {name: group.create_task(play(env, shop, name)) for name in PLOTS}
        yield {name: task.result() for name, task in playing.items()}


@pytest.mark.parametrize("name", PLOTS)
async def test_each_order_comes_to_what_its_customer_wants(played: Mapping[str, Played], name: str) -> None:
    order = played[name]
    assert order.status == (OrderStatus.CANCELLED if name in CANCELLED else OrderStatus.CONFIRMED)


@pytest.mark.parametrize("name", PLOTS)
async def test_each_is_charged_once_and_gets_that_back_once(played: Mapping[str, Played], name: str) -> None:
    [charge] = played[name].charges
    back = 2340 if name in CANCELLED else 0
    assert (charge.amount, charge.captured, charge.refunded) == (2340, 2340, back)


@pytest.mark.parametrize("name", PLOTS)
async def test_each_parcel_has_one_label(played: Mapping[str, Played], name: str) -> None:
    order = played[name]
    sold = [label["tracking_code"] for label in order.labels]
    if name == "carrier, with a tariff":
        assert (sold, [package.carrier for package in order.packages]) == ([], ["tariff"])
    elif name == "cards, and its customer cancels":
        assert (sold, order.packages) == ([], [])
    else:
        assert sold == [package.tracking_number for package in order.packages]
        assert [package.carrier for package in order.packages] == ["easypost"]


@pytest.mark.parametrize("name", PLOTS)
async def test_who_is_away_is_asked_until_it_is_back(played: Mapping[str, Played], name: str) -> None:
    order = played[name]
    if name == "carrier, with a tariff":
        assert timedelta(minutes=1) < order.lasted < timedelta(minutes=10)
    elif name == "carrier, and its customer cancels":
        assert order.lasted < timedelta(hours=2)  # nothing of a cancellation waits for the carrier
    else:
        assert order.lasted > timedelta(hours=5)


@pytest.mark.parametrize("name", PLOTS)
async def test_each_customer_is_told_once_that_it_takes_longer_and_how_it_ends(played: Mapping[str, Played], name: str) -> None:
    order = played[name]
    is_told = order.told.count("OrderHeldUp")
    if name == "cards, when it is approved":
        assert is_told == 0  # its customer knows that it is looked at
    elif name == "carrier, with a tariff":
        assert is_told <= 1
    else:
        assert is_told == 1
    assert order.told[-1] == ("OrderCancelled" if name in CANCELLED else "OrderConfirmed")


async def test_who_cancels_meanwhile_has_the_money_and_the_shop_that_of_the_label(played: Mapping[str, Played]) -> None:
    for name in CANCELLED:
        reply = played[name].reply
        assert reply is not None
        assert (reply.status, reply.refunded.minor) == (OrderStatus.CANCELLED, 2340)
    order = played["carrier, and its customer cancels"]
    assert [package.refund for package in order.packages] == [LabelRefund.SUBMITTED]
    assert [label["refund_status"] for label in order.labels] == ["submitted"]
