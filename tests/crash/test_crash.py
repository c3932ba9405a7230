"""Anything may fail, at any moment, while orders come in: afterwards the books are right, every order has a definite end, and
what customers were told fits together."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console

from audit import AuditSettings, run_audit
from cli.stocking import stock_platform
from data.baskets import read_baskets
from embedded import clock
from testing import faults
from testing.checker import check, summary
from testing.histories import History
from testing.platform_process import PlatformProcess
from testing.proxy import Link
from testing.shop import UNHINDERED, open_shop
from testing.shoppers import Shoppers, deliver_everything
from tests.conftest import eventually

SETTINGS = {**UNHINDERED, "PLACE_WAIT_SECONDS": "3"}
CLIENTS = 4
SHORT = 20
"""So many faults are the mix of `make test`, in which nothing lasts long."""
SHORT_LASTS_S, LONG_LASTS_S = 4.0, 60.0
UNTIL_ORDERS_GO_ON_S = 600.0
UNTIL_ALL_ARE_ANSWERED_S = 600.0
UNTIL_QUIET_S = 300.0


@pytest.fixture
def seed(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    seed = int(request.config.getoption("--seed"))
    print(f"seed {seed}; what happened when, and what clients saw: {tmp_path}")
    return seed


@pytest.fixture
async def links() -> AsyncIterator[dict[str, Link]]:
    async with faults.opened_links() as links:
        yield links


@pytest.fixture
async def platform(tmp_path: Path, links: dict[str, Link]) -> AsyncIterator[PlatformProcess]:
    clocks = {"CLOCK_FILES": str(tmp_path / "clocks")} if clock.library() else {}
    (tmp_path / "clocks").mkdir()
    settings = {**SETTINGS, **faults.settings_of(links), **clocks}
    async with PlatformProcess(tmp_path / "data", settings=settings, split=("order",)) as platform:
        yield platform


@pytest.mark.timeout(0)  # as many faults as one likes; each wait has a limit of its own
async def test_nothing_is_lost_when_parts_fail(
    platform: PlatformProcess, links: dict[str, Link], seed: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    count = int(request.config.getoption("--kills"))
    lasts_s = SHORT_LASTS_S if count <= SHORT else LONG_LASTS_S
    moments = faults.plan(seed, count, list(platform.running.pids), longest_s=lasts_s)
    player = faults.Player(platform, links, tmp_path / "faults.jsonl", clock_files=tmp_path / "clocks")
    player.note({"seed": seed, "planned": [str(moment) for moment in moments]})
    history = History()
    env = platform.running.env
    await stock_platform(env, Console(quiet=True), recorder=history)
    try:
        async with open_shop(env, history) as shop:
            customer = shop.customer("crash")
            await shop.welcome(customer)
            await shop.tell_by_sms(customer, "+491511234567")
            shoppers = Shoppers(shop, customer, read_baskets(), random.Random(seed))
            buying = [asyncio.create_task(shoppers.buy()) for _ in range(CLIENTS)]
            try:
                for number, moment in enumerate(moments):
                    await orders_go_on(shoppers, moment, number)
                    await asyncio.sleep(moment.pause_s)  # a random moment, not a condition: that is the point
                    await player.play(moment)
            finally:
                shoppers.closing.set()
            async with asyncio.timeout(UNTIL_ALL_ARE_ANSWERED_S):
                await asyncio.gather(*buying)
            await deliver_everything(shop)
            await shoppers.look_back()
    finally:
        history.write(tmp_path / "client-history.jsonl")
    report = await run_audit(AuditSettings.model_validate(platform.running.env), wait_s=UNTIL_QUIET_S)
    assert report.violations == []
    broken = check(history.calls)
    print(summary(history.calls, broken))
    assert not broken, "\n".join(map(str, broken))
    assert any(reply.status == 201 for reply in shoppers.placed.values())


async def orders_go_on(shoppers: Shoppers, moment: faults.Moment, number: int) -> None:
    enough = len(shoppers.placed) + moment.after_orders

    async def some_orders() -> bool:
        return len(shoppers.placed) >= enough

    await eventually(some_orders, timeout_s=UNTIL_ORDERS_GO_ON_S, what=f"orders go on before fault {number} ({moment})")
