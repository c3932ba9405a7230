"""The demo's acts: customers sign up, order, the warehouse dispatches, the carrier delivers, until every order has ended."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import ApiProblem, Person
from cli.demo.baskets import Chosen
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
    await _dispatch(shop, played, progress)
    await shop.carrier.call("POST", "/_control/advance", {"to": "delivered", "all": True})
    await _until_final(shop, played, progress)
    return played


async def see(shop: Shop, scenario: Scenario, purchase: Purchase) -> Seen:
    """Play a scenario. What goes wrong with the playing itself is part of what was seen: it was not expected."""
    try:
        return await scenario.play(shop, purchase)
    except (ApiProblem, TimeoutError, aiohttp.ClientError) as error:
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


async def _dispatch(shop: Shop, played: Sequence[Played], progress: Progress) -> None:
    ours = {one.order_id for one in played}
    booked = [item async for item in shop.every(shop.warehouse, "/shipments?status=BOOKED") if item["order_id"] in ours]
    task = progress.add_task("Parcels dispatched", total=len(booked))
    parcels = [item["shipment_id"] for item in booked]
    await in_parallel(shop.hand_over, parcels, at_once=AT_ONCE, done=lambda: progress.advance(task))


async def _until_final(shop: Shop, played: Sequence[Played], progress: Progress) -> None:
    waiting = {one.order_id: one for one in played if one.order_id}
    task = progress.add_task("Orders at their end", total=len(waiting))
    deadline = time.monotonic() + UNTIL_FINAL_S
    while waiting and time.monotonic() < deadline:
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
                break
        await asyncio.sleep(0.5 if waiting else 0)
