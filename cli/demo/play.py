"""The demo's acts: customers sign up and order; then goods that are waited for arrive, the warehouse dispatches and the carrier
delivers, until every order has ended."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client import ApiProblem, Person
from cli.demo.baskets import Chosen
from cli.stocking import DEPOTS
from contracts.orders import FINAL_STATUSES
from data.baskets import Basket
from testing.households import purchase_of
from testing.scenarios import Scenario, Seen
from testing.shop import Placed, Purchase, Shop, in_parallel

AT_ONCE = 16
UNTIL_FINAL_S = 300
NOTHING_PLACED = Placed(0, {}, 0.0)


@dataclass
class Played:
    """One basket: what was planned, what was seen, and how the order ended."""

    basket: Basket
    scenario: Scenario
    seen: Seen
    end: str = "still going on"
    order: dict[str, Any] = field(default_factory=dict)
    """As it is at the end; empty if there is none."""

    @property
    def order_id(self) -> str:
        return self.seen.placed.order_id

    @property
    def shown(self) -> tuple[str, str, str]:
        return self.seen.placed.words, self.seen.then, self.end

    @property
    def as_expected(self) -> bool:
        return self.shown == (self.scenario.answer, self.scenario.then, self.scenario.end)


def progress_on(console: Console) -> Progress:
    """One line for each act."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


async def play(shop: Shop, chosen: Sequence[Chosen], progress: Progress, run: str) -> list[Played]:
    """All acts. `run` keeps the orders apart from those of an earlier demo on the same data."""
    customers = await _sign_up(shop, chosen, progress)
    orders = progress.add_task(f"Orders, {AT_ONCE} at a time", total=len(chosen))

    async def order(one: Chosen) -> Played:
        return Played(one.basket, one.scenario, await see(shop, one.scenario, purchase_of(one.basket, customers, run)))

    played = await in_parallel(order, chosen, at_once=AT_ONCE, done=lambda: progress.advance(orders))
    await _until_final(shop, played, progress, run)
    task = progress.add_task("Orders read", total=len(played))

    async def read(one: Played) -> None:
        one.order = await shop.order(one.order_id) if one.order_id else {}

    await in_parallel(read, played, at_once=AT_ONCE, done=lambda: progress.advance(task))
    return played


async def see(shop: Shop, scenario: Scenario, purchase: Purchase) -> Seen:
    """Play a scenario. What goes wrong with the playing itself is part of what was seen: it was not expected."""
    try:
        return await scenario.play(shop, purchase)
    except (ApiProblem, TimeoutError, aiohttp.ClientError, LookupError) as error:
        return Seen(NOTHING_PLACED, f"{type(error).__name__}: {error}")


async def _sign_up(shop: Shop, chosen: Sequence[Chosen], progress: Progress) -> dict[str, Person]:
    customers = {one.basket.household_id: shop.customer(one.basket.household_id) for one in chosen}
    task = progress.add_task("Customers sign up", total=len(customers))
    await in_parallel(Person.sign_up, customers.values(), at_once=8, done=lambda: progress.advance(task))
    task = progress.add_task("… and verify their e-mail", total=len(customers))
    await in_parallel(
        lambda customer: customer.verify(shop.mailbox), customers.values(), at_once=8, done=lambda: progress.advance(task)
    )
    return customers


async def _until_final(shop: Shop, played: Sequence[Played], progress: Progress, run: str) -> None:
    """Again and again what lets orders go on, because a parcel may be booked only when its goods have come."""
    waiting = {one.order_id: one for one in played if one.order_id}
    ours = frozenset(waiting)
    received = progress.add_task("Products received that orders waited for", total=0)
    dispatched = progress.add_task("Parcels dispatched", total=0)
    ended = progress.add_task("Orders at their end", total=len(waiting))
    supplied: set[tuple[str, int]] = set()
    deadline, rounds = time.monotonic() + UNTIL_FINAL_S, 0
    while waiting and time.monotonic() < deadline:
        rounds += 1
        await _receive(shop, ours, supplied, f"{run}-{rounds}", progress, received)
        await _dispatch(shop, ours, progress, dispatched)
        await shop.scan_what_left()
        await shop.carrier.call("POST", "/_control/advance", {"to": "delivered", "all": True})
        await _look(shop, waiting, progress, ended)
        await asyncio.sleep(0.5 if waiting else 0)


async def _receive(
    shop: Shop, ours: frozenset[str], supplied: set[tuple[str, int]], delivery: str, progress: Progress, task: TaskID
) -> None:
    """As many of each product arrive at a depot as our orders wait for. `supplied`: the parcels for which some have arrived."""
    wanted = Counter[str]()
    async for parcel in shop.every(shop.warehouse, "/backorders?"):
        number = (parcel["order_id"], parcel["parcel"])
        if parcel["order_id"] in ours and number not in supplied:
            supplied.add(number)
            wanted.update({line["product_id"]: line["quantity"] for line in parcel["lines"]})
    for product_id, quantity in wanted.items():
        _more(progress, task, 1)
        await shop.receive(next(iter(DEPOTS)), product_id, quantity, f"{delivery}-{product_id}")
        progress.advance(task)


async def _dispatch(shop: Shop, ours: frozenset[str], progress: Progress, task: TaskID) -> None:
    booked = [item async for item in shop.every(shop.warehouse, "/shipments?status=BOOKED") if item["order_id"] in ours]
    parcels = [item["shipment_id"] for item in booked]
    _more(progress, task, len(parcels))
    await in_parallel(shop.hand_over, parcels, at_once=AT_ONCE, done=lambda: progress.advance(task))


async def _look(shop: Shop, waiting: dict[str, Played], progress: Progress, task: TaskID) -> None:
    """Note where the orders are that had not ended, and which of them have."""
    unseen = set(waiting)
    async for order in shop.every(shop.support, "/orders?"):
        one = waiting.get(order["order_id"])
        unseen.discard(order["order_id"])
        if one is not None:
            one.end = " ".join(filter(None, (order["status"], order["code"])))
            if order["status"] in FINAL_STATUSES:
                del waiting[order["order_id"]]
                progress.advance(task)
        if not unseen:
            return


def _more(progress: Progress, task: TaskID, count: int) -> None:
    """There is more to do than was known."""
    progress.update(task, total=(progress.tasks[task].total or 0) + count)
