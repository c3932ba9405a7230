"""Commands about one reservation race on a real database: its stock is given back or shipped, once, and never both."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from uuid import uuid4

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import Reservation, ReservationStatus
from services.inventory import queries
from services.inventory.commands import reservations, returns
from tests.services.inventory.goods import event_types, level, movements, order, release, restock, ship, stock

ORDERS = 30
UNITS = 1000


async def answers(racing: Sequence[Awaitable[Reservation]]) -> list[Reservation | Refusal]:
    """What each was told; anything but a reply or a refusal (a deadlock, above all) fails the test."""
    told = await asyncio.gather(*racing, return_exceptions=True)
    for answer in told:
        if not isinstance(answer, Reservation | Refusal):
            raise answer
    return [answer for answer in told if isinstance(answer, Reservation | Refusal)]


async def test_i1_many_releases_at_once_give_back_once(database: Database) -> None:
    await stock(database, "w1", milk=UNITS)
    kept = order(milk=100)
    await reservations.reserve_inventory(database, kept)
    buys = [order(milk=1) for _ in range(ORDERS)]
    for buy in buys:
        await reservations.reserve_inventory(database, buy)
    told = await answers([reservations.release_inventory(database, release(buy)) for buy in buys for _ in range(4)])
    assert {answer.status for answer in told if isinstance(answer, Reservation)} == {ReservationStatus.RELEASED}
    assert await level(database, "w1", "milk") == (UNITS, 100)
    assert (await event_types(database)).count("InventoryReleased") == ORDERS


async def test_i1_a_release_that_meets_a_shipment_never_frees_stock_twice(database: Database) -> None:
    await stock(database, "w1", milk=UNITS)
    kept = order(milk=100)
    await reservations.reserve_inventory(database, kept)
    buys = [order(milk=1) for _ in range(ORDERS)]
    for buy in buys:
        await reservations.reserve_inventory(database, buy)
    racing = []
    for number, buy in enumerate(buys):
        pair = [reservations.release_inventory(database, release(buy)), reservations.ship_inventory(database, ship(buy))]
        racing += [reservations.release_inventory(database, release(buy)), *(pair if number % 2 else reversed(pair))]
    refusals = {answer.code for answer in await answers(racing) if isinstance(answer, Refusal)}
    assert refusals <= {ErrorCode.RESERVATION_SHIPPED, ErrorCode.RESERVATION_RELEASED}
    types = await event_types(database)
    shipped = types.count("StockLevelChanged") - 1  # the first is the delivery
    assert shipped + types.count("InventoryReleased") == ORDERS
    assert await level(database, "w1", "milk") == (UNITS - shipped, 100)


async def test_i1_a_release_that_meets_its_own_reservation_leaves_nothing_reserved(database: Database) -> None:
    await stock(database, "w1", milk=UNITS)
    buys = [order(milk=1) for _ in range(ORDERS)]
    racing = []
    for number, buy in enumerate(buys):
        pair = [reservations.reserve_inventory(database, buy), reservations.release_inventory(database, release(buy))]
        racing += [*(pair if number % 2 else reversed(pair)), reservations.reserve_inventory(database, buy)]
    refusals = {answer.code for answer in await answers(racing) if isinstance(answer, Refusal)}
    assert refusals <= {ErrorCode.RESERVATION_RELEASED}
    types = await event_types(database)
    assert types.count("InventoryReserved") == types.count("InventoryReleased")
    assert await level(database, "w1", "milk") == (UNITS, 0)


async def test_i1_i2_every_command_about_one_reservation_at_once(database: Database) -> None:
    """Whoever comes first, the shelf has what was delivered, less what left, and nothing more is reserved than what is open."""
    await stock(database, "w1", milk=UNITS)
    await stock(database, "w2", milk=UNITS)
    customer = uuid4()
    buys = [order(("w1", "w2", None)[number % 3], customer_id=customer, milk=1 + number % 3) for number in range(ORDERS)]
    racing = []
    for buy in buys:
        racing += [reservations.reserve_inventory(database, buy, limit=UNITS) for _ in range(2)]
        racing += [reservations.ship_inventory(database, ship(buy)), reservations.release_inventory(database, release(buy))]
        racing += [returns.restock_inventory(database, restock(buy))]
    random.Random(1).shuffle(racing)
    await answers(racing)
    open_, gone = 0, 0
    for buy in buys:
        reservation = await queries.get_reservation(database, buy.order_id, 1)
        units = sum(line.quantity for line in reservation.lines)
        open_ += units if reservation.status == ReservationStatus.RESERVED else 0
        gone += units if reservation.status == ReservationStatus.SHIPPED else 0
    levels = [await level(database, place, "milk") for place in ("w1", "w2")]
    assert sum(on_hand for on_hand, _ in levels) == 2 * UNITS - gone
    assert sum(reserved for _, reserved in levels) == open_
    assert sum([change for change, _ in await movements(database, "milk")]) == 2 * UNITS - gone
