"""A platform of its own with customers ready to order: for the recorder of histories and the journeys of the test suite."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from temporalio.client import Client, WorkflowHandle

from cli.operators import history_codec
from cli.stocking import stock_platform
from contracts.ids import order_workflow_id
from contracts.orders import OrderState
from data.baskets import Basket, read_baskets, write_baskets
from embedded.platform import Platform
from temporal.client import TemporalSettings, connect
from testing import scenarios
from testing.histories import History
from testing.households import purchase_of
from testing.scenarios import Play
from testing.shop import NO_RATE_LIMITS, UNTIL_S, Purchase, Shop, in_parallel, open_shop, until

SETTINGS = {
    **NO_RATE_LIMITS,
    "REVIEW_THRESHOLD": "1000000",
    "PAY_AGAIN_SECONDS": "30",
    "ACTION_SECONDS": "60",
    "REVIEW_DEADLINE_SECONDS": "30",  # within which an operator decides by commands that take seconds on a busy machine
    "PLACE_WAIT_SECONDS": "20",
}
MOST_LINES = 2
"""Small baskets make small files."""


@dataclass
class Stage:
    """What a branch is played on."""

    platform: Platform
    shop: Shop
    temporal: Client
    purchases: list[Purchase]
    history: History
    """What all clients of the shop saw."""

    def next_purchase(self) -> Purchase:
        return self.purchases.pop()

    def saga(self, order_id: str) -> WorkflowHandle[Any, OrderState]:
        return self.temporal.get_workflow_handle(order_workflow_id(UUID(order_id)), result_type=OrderState)

    async def placed(self, play: Play = scenarios.just_order) -> str:
        """The id of a new order that goes through a scenario."""
        return (await play(self.shop, self.next_purchase())).placed.order_id

    async def delivered(self, order_id: str) -> str:
        """Dispatch and deliver it; returns once its saga has ended."""
        await self.shop.dispatch(order_id)
        await self.shop.deliver(order_id)
        await self.ended(order_id)
        return order_id

    async def ended(self, order_id: str) -> str:
        """Returns once its saga has ended."""
        async with asyncio.timeout(UNTIL_S):
            await self.saga(order_id).result()
        return order_id

    async def tells(self, order_id: str, words: str) -> str:
        """Returns once the timeline says so. Raises TimeoutError."""

        async def told() -> bool:
            return any(words in entry["what"] for entry in await self.saga(order_id).query("timeline"))

        await until(told, f"order {order_id} to tell: {words}", UNTIL_S)
        return order_id

    async def cancel(self, order_id: str) -> None:
        """As an operator does, through Temporal itself."""
        await self.saga(order_id).execute_update("cancel", {"reason": "changed my mind"})


@asynccontextmanager
async def open_stage(
    folder: Path, count: int, console: Console, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """A fresh platform in `folder`, stocked for so many small baskets of different households, who have signed up."""
    baskets = small_baskets(count)
    write_baskets(folder / "baskets.csv", baskets)
    history = History()
    async with (
        Platform(folder / "platform", settings={**SETTINGS, **(settings or {})}) as platform,
        open_shop(platform.env, history) as shop,
    ):
        await stock_platform(platform.env, console, folder / "baskets.csv", history)
        async with history_codec(platform.env) as codec:
            temporal = await connect(TemporalSettings(temporal_address=platform.env["TEMPORAL_ADDRESS"]), codec)
            yield Stage(platform, shop, temporal, await _purchases(shop, baskets), history)


def small_baskets(count: int) -> list[Basket]:
    """So many baskets of ours with few lines, of different households."""
    found = {basket.household_id: basket for basket in read_baskets() if len(basket.lines) <= MOST_LINES}
    return list(found.values())[:count]


async def _purchases(shop: Shop, baskets: Sequence[Basket]) -> list[Purchase]:
    """The baskets, each ready to be ordered by its household, which has signed up."""
    customers = {basket.household_id: shop.customer(basket.household_id) for basket in baskets}
    await in_parallel(shop.welcome, customers.values(), at_once=8)
    return [purchase_of(basket, customers, "stage") for basket in baskets]
