"""Reservations on a real database: all or nothing, never oversold, undone whenever the undo comes."""

import asyncio
from uuid import UUID, uuid4

import pytest

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import Reservation, ReservationStatus, ReserveInventory
from services.inventory import queries
from services.inventory.commands import reservations, returns
from services.inventory.model import PROMISED_UNITS
from tests.services.inventory.goods import event_types, level, movements, order, release, restock, ship, stock


def sent_again(buy: ReserveInventory) -> ReserveInventory:
    return buy.model_copy(update={"parcel": buy.parcel + 1})


async def test_all_lines_or_none(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=1)
    with pytest.raises(Refusal) as refused:
        await reservations.reserve_inventory(database, order(milk=2, bread=2))
    assert refused.value.code == ErrorCode.OUT_OF_STOCK
    assert refused.value.extra["lines"] == [{"product_id": "bread", "requested": 2, "available": 1}]
    assert await level(database, "w1", "milk") == (5, 0)


async def test_64_buyers_of_50_units_get_exactly_50(database: Database) -> None:
    await stock(database, "w1", milk=50, bread=50)
    # Two products in both orders of lines: without a fixed order of locks this deadlocks.
    buys = [order(milk=1, bread=1) if n % 2 else order(bread=1, milk=1) for n in range(64)]
    results = await asyncio.gather(*[reservations.reserve_inventory(database, buy) for buy in buys], return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert len(refusals) == 14
    assert {refusal.code for refusal in refusals} == {ErrorCode.OUT_OF_STOCK}
    assert len([result for result in results if not isinstance(result, BaseException)]) == 50
    assert await level(database, "w1", "milk") == (50, 50)


async def test_sagas_that_ask_at_one_moment_each_get_what_they_would_get_alone(database: Database) -> None:
    await stock(database, "w1", milk=50, bread=51)
    desk = reservations.Reservations(database, PROMISED_UNITS)
    buys = [order(milk=1, bread=1) for _ in range(64)]
    unknown, elsewhere, too_much = order("w9", milk=1), order(None, bread=1), order(milk=51)
    asked = [buys[0], unknown, *buys, elsewhere, too_much, *buys[:10]]
    replies = await asyncio.gather(*[desk.reserve(buy) for buy in asked], return_exceptions=True)
    told: dict[UUID, set[str]] = {}
    for buy, reply in zip(asked, replies, strict=True):
        assert isinstance(reply, Reservation | Refusal), reply
        told.setdefault(buy.order_id, set()).add(reply.code if isinstance(reply, Refusal) else reply.status)
    assert all(len(answers) == 1 for answers in told.values())  # who asked twice was told the same
    got = [buy for buy in buys if told[buy.order_id] == {ReservationStatus.RESERVED}]
    assert {code for buy in buys if buy not in got for code in told[buy.order_id]} == {ErrorCode.OUT_OF_STOCK}
    assert (told[unknown.order_id], told[too_much.order_id]) == ({ErrorCode.WAREHOUSE_UNKNOWN}, {ErrorCode.OUT_OF_STOCK})
    assert await level(database, "w1", "milk") == (50, 50)
    assert len(got) == 50
    assert (await event_types(database)).count("InventoryReserved") == 51
    assert told[elsewhere.order_id] == {ReservationStatus.RESERVED}
    for buy in (unknown, too_much, *(buy for buy in buys if buy not in got)):
        with pytest.raises(Refusal):  # what was refused has left nothing
            await queries.get_reservation(database, buy.order_id)


async def test_g7_a_limit_holds_for_orders_that_are_reserved_together(database: Database) -> None:
    await stock(database, "w1", milk=50)
    customer = uuid4()
    asked = [reservations.Asked(order(milk=2, customer_id=customer)) for _ in range(4)]
    replies = await reservations.reserve_together(database, asked, 5)
    assert [getattr(reply, "code", "RESERVED") for reply in replies] == ["RESERVED"] * 2 + [ErrorCode.PURCHASE_LIMIT] * 2
    assert await level(database, "w1", "milk") == (50, 4)


async def test_the_same_order_reserves_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await asyncio.gather(*[reservations.reserve_inventory(database, buy) for _ in range(5)])
    assert await level(database, "w1", "milk") == (5, 2)
    assert (await event_types(database)).count("InventoryReserved") == 1


async def test_without_a_warehouse_one_that_has_everything_is_found(database: Database) -> None:
    await stock(database, "w1", milk=5)
    await stock(database, "w2", milk=5, bread=5)
    reservation = await reservations.reserve_inventory(database, order(None, milk=1, bread=1))
    assert reservation.warehouse_id == "w2"


async def test_an_undo_that_overtakes_its_step_forbids_it(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await reservations.release_inventory(database, release(buy))
    with pytest.raises(Refusal) as refused:
        await reservations.reserve_inventory(database, buy)
    assert refused.value.code == ErrorCode.RESERVATION_RELEASED
    assert await level(database, "w1", "milk") == (5, 0)


async def test_release_gives_back_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await reservations.reserve_inventory(database, buy)
    for _ in range(3):
        await reservations.release_inventory(database, release(buy))
    assert await level(database, "w1", "milk") == (5, 0)
    assert (await event_types(database)).count("InventoryReleased") == 1


async def test_shipping_takes_goods_off_the_shelf_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await reservations.reserve_inventory(database, buy)
    for _ in range(2):
        shipped = await reservations.ship_inventory(database, ship(buy))
        assert shipped.status == ReservationStatus.SHIPPED
    assert await level(database, "w1", "milk") == (3, 0)
    assert await movements(database, "milk") == [(5, "test"), (-2, f"order {buy.order_id}")]
    with pytest.raises(Refusal) as refused:
        await reservations.release_inventory(database, release(buy))
    assert refused.value.code == ErrorCode.RESERVATION_SHIPPED
    assert (await reservations.reserve_inventory(database, buy)).status == ReservationStatus.SHIPPED  # a repeated command


async def test_what_was_released_cannot_be_shipped_and_what_was_never_reserved_is_unknown(database: Database) -> None:
    await stock(database, "w1", milk=5)
    released, undone, unheard_of = order(milk=2), order(milk=2), order(milk=2)
    await reservations.reserve_inventory(database, released)
    for buy in (released, undone):
        await reservations.release_inventory(database, release(buy))
        with pytest.raises(Refusal) as refused:
            await reservations.ship_inventory(database, ship(buy))
        assert refused.value.code == ErrorCode.RESERVATION_RELEASED
    for command in (
        reservations.ship_inventory(database, ship(unheard_of)),
        returns.restock_inventory(database, restock(unheard_of)),
    ):
        with pytest.raises(Refusal) as refused:
            await command
        assert refused.value.code == ErrorCode.NOT_FOUND


async def test_s10_what_came_back_is_on_the_shelf_again_once(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    buy = order(milk=2, bread=1)
    await reservations.reserve_inventory(database, buy)
    with pytest.raises(Refusal) as refused:
        await returns.restock_inventory(database, restock(buy))
    assert refused.value.code == ErrorCode.CONFLICT
    await reservations.ship_inventory(database, ship(buy))
    told = await event_types(database)
    for _ in range(3):
        restocked = await returns.restock_inventory(database, restock(buy))
        assert (restocked.status, restocked.warehouse_id) == (ReservationStatus.RESTOCKED, "w1")
    assert await level(database, "w1", "milk") == await level(database, "w1", "bread") == (5, 0)
    assert (await movements(database, "milk"))[1:] == [(-2, f"order {buy.order_id}"), (2, f"return of order {buy.order_id}")]
    news = (await event_types(database))[len(told) :]
    assert news == ["StockLevelChanged", "StockLevelChanged", "InventoryRestocked"]
    # It has left and come back: nothing is left to ship or to release.
    assert (await reservations.ship_inventory(database, ship(buy))).status == ReservationStatus.RESTOCKED
    with pytest.raises(Refusal) as refused:
        await reservations.release_inventory(database, release(buy))
    assert refused.value.code == ErrorCode.RESERVATION_SHIPPED


async def test_s10_what_is_sent_again_is_a_reservation_of_its_own(database: Database) -> None:
    await stock(database, "w1", milk=5)
    first = order(milk=2)
    second = sent_again(first)
    await reservations.reserve_inventory(database, first)
    await reservations.ship_inventory(database, ship(first))
    for _ in range(2):
        reserved = await reservations.reserve_inventory(database, second)
        assert (reserved.parcel, reserved.status) == (2, ReservationStatus.RESERVED)
    assert await level(database, "w1", "milk") == (3, 2)
    await reservations.ship_inventory(database, ship(second))
    assert (await movements(database, "milk"))[1:] == [(-2, f"order {first.order_id}"), (-2, f"order {first.order_id}-2")]
    await returns.restock_inventory(database, restock(first))
    statuses = [(await queries.get_reservation(database, first.order_id, parcel)).status for parcel in (1, 2)]
    assert statuses == [ReservationStatus.RESTOCKED, ReservationStatus.SHIPPED]
    with pytest.raises(Refusal) as refused:
        await queries.get_reservation(database, first.order_id, 3)
    assert refused.value.code == ErrorCode.NOT_FOUND


async def test_g7_a_customer_is_promised_only_so_many_units_of_one_product(database: Database) -> None:
    await stock(database, "w1", milk=100, bread=100)
    customer = uuid4()
    first = order(customer_id=customer, milk=6, bread=10)
    await reservations.reserve_inventory(database, first, limit=10)
    with pytest.raises(Refusal) as refused:
        await reservations.reserve_inventory(database, order(customer_id=customer, milk=5, bread=1), limit=10)
    assert refused.value.code == ErrorCode.PURCHASE_LIMIT
    assert refused.value.extra["lines"] == [
        {"product_id": "milk", "requested": 5, "available": 4},
        {"product_id": "bread", "requested": 1, "available": 0},
    ]
    assert await level(database, "w1", "milk") == (100, 6)
    await reservations.reserve_inventory(database, order(milk=5), limit=10)  # somebody else
    await reservations.reserve_inventory(database, order(customer_id=customer, milk=4), limit=10)
    again = await reservations.reserve_inventory(database, first, limit=10)  # a repeated command
    assert again.status == ReservationStatus.RESERVED
    # What has left does not count, and what was released does not.
    await reservations.ship_inventory(database, ship(first))
    given_up = order(customer_id=customer, milk=6, bread=10)
    await reservations.reserve_inventory(database, given_up, limit=10)
    await reservations.release_inventory(database, release(given_up))
    await reservations.reserve_inventory(database, order(customer_id=customer, milk=6, bread=10), limit=10)
    # A parcel that is sent again has been paid for: it is not refused, but it counts.
    await reservations.reserve_inventory(database, sent_again(first), limit=10)
    with pytest.raises(Refusal, match="bread"):
        await reservations.reserve_inventory(database, order(customer_id=customer, bread=1), limit=10)


async def test_g7_what_is_not_there_is_told_before_what_is_not_allowed(database: Database) -> None:
    await stock(database, "w1", milk=100)
    for place in ("w1", None):
        with pytest.raises(Refusal) as refused:
            await reservations.reserve_inventory(database, order(place, milk=101))
        assert refused.value.code == ErrorCode.OUT_OF_STOCK


async def test_g7_orders_at_once_do_not_get_past_the_limit_of_units(database: Database) -> None:
    places = ["w1", "w2", "w3", "w4", "w5"]  # at one and the same, the stock's own lock would do
    for place in places:
        await stock(database, place, milk=100)
    customer = uuid4()
    buys = [order(places[n % 5], customer_id=customer, milk=3) for n in range(10)]
    results = await asyncio.gather(
        *[reservations.reserve_inventory(database, buy, limit=10) for buy in buys], return_exceptions=True
    )
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert {refusal.code for refusal in refusals} == {ErrorCode.PURCHASE_LIMIT}
    assert len([result for result in results if not isinstance(result, BaseException)]) == 3
    assert sum([(await level(database, place, "milk"))[1] for place in places]) == 9
