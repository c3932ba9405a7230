"""Reservations on a real database: all or nothing, never oversold, undone whenever the undo comes."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.errors import ErrorCode, Refusal
from contracts.inventory import (
    HoldReservation,
    ReleaseInventory,
    ReservationStatus,
    ReserveInventory,
    ShipInventory,
    StockLine,
)
from services.inventory import commands
from services.inventory.model import Reservation, Stock, outbox
from services.inventory.schemas import ReceiptLine, ReceiptRequest, WarehouseView

DAY = timedelta(days=1)


async def stock(database: Database, warehouse_id: str, **levels: int) -> None:
    await commands.add_warehouse(database, WarehouseView(warehouse_id=warehouse_id, name=warehouse_id))
    lines = [ReceiptLine(product_id=product, quantity=quantity) for product, quantity in levels.items()]
    receipt = ReceiptRequest(warehouse_id=warehouse_id, reference="test", lines=lines)
    await commands.receive_stock(database, receipt, IdempotencyKey("test", str(uuid4()), ""))


async def level(database: Database, warehouse_id: str, product_id: str) -> tuple[int, int]:
    async with database.reading() as session:
        item = await session.get_one(Stock, (warehouse_id, product_id))
        return item.on_hand, item.reserved


async def expire(database: Database, buy: ReserveInventory) -> None:
    async with database.transaction() as session:
        reservation = await session.get_one(Reservation, buy.order_id)
        reservation.expires_at = utc_now() - timedelta(seconds=1)
    assert await commands.expire_reservations(database) == 1


async def event_types(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope["type"] for row in rows]


def order(warehouse_id: str | None = "w1", **lines: int) -> ReserveInventory:
    return ReserveInventory(
        order_id=uuid4(),
        customer_id=uuid4(),
        warehouse_id=warehouse_id,
        lines=tuple(StockLine(product_id=product, quantity=quantity) for product, quantity in lines.items()),
    )


async def test_all_lines_or_none(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=1)
    with pytest.raises(Refusal) as refused:
        await commands.reserve_inventory(database, order(milk=2, bread=2))
    assert refused.value.code == ErrorCode.OUT_OF_STOCK
    assert refused.value.extra["lines"] == [{"product_id": "bread", "requested": 2, "available": 1}]
    assert await level(database, "w1", "milk") == (5, 0)


async def test_64_buyers_of_50_units_get_exactly_50(database: Database) -> None:
    await stock(database, "w1", milk=50, bread=50)
    # Two products in both orders of lines: without a fixed order of locks this deadlocks.
    buys = [order(milk=1, bread=1) if n % 2 else order(bread=1, milk=1) for n in range(64)]
    results = await asyncio.gather(*[commands.reserve_inventory(database, buy) for buy in buys], return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert len(refusals) == 14
    assert {refusal.code for refusal in refusals} == {ErrorCode.OUT_OF_STOCK}
    assert len([result for result in results if not isinstance(result, BaseException)]) == 50
    assert await level(database, "w1", "milk") == (50, 50)


async def test_the_same_order_reserves_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await asyncio.gather(*[commands.reserve_inventory(database, buy) for _ in range(5)])
    assert await level(database, "w1", "milk") == (5, 2)
    assert (await event_types(database)).count("InventoryReserved") == 1


async def test_without_a_warehouse_one_that_has_everything_is_found(database: Database) -> None:
    await stock(database, "w1", milk=5)
    await stock(database, "w2", milk=5, bread=5)
    reservation = await commands.reserve_inventory(database, order(None, milk=1, bread=1))
    assert reservation.warehouse_id == "w2"


async def test_an_undo_that_overtakes_its_step_forbids_it(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await commands.release_inventory(database, ReleaseInventory(order_id=buy.order_id, reason="cancelled"))
    with pytest.raises(Refusal) as refused:
        await commands.reserve_inventory(database, buy)
    assert refused.value.code == ErrorCode.RESERVATION_RELEASED
    assert await level(database, "w1", "milk") == (5, 0)


async def test_release_gives_back_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await commands.reserve_inventory(database, buy)
    for _ in range(3):
        await commands.release_inventory(database, ReleaseInventory(order_id=buy.order_id, reason="cancelled"))
    assert await level(database, "w1", "milk") == (5, 0)
    assert (await event_types(database)).count("InventoryReleased") == 1


async def test_shipping_takes_goods_off_the_shelf_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    await commands.reserve_inventory(database, buy)
    await commands.hold_reservation(database, HoldReservation(order_id=buy.order_id))
    for _ in range(2):
        await commands.ship_inventory(database, ShipInventory(order_id=buy.order_id))
    assert await level(database, "w1", "milk") == (3, 0)
    with pytest.raises(Refusal) as refused:
        await commands.release_inventory(database, ReleaseInventory(order_id=buy.order_id, reason="late"))
    assert refused.value.code == ErrorCode.RESERVATION_SHIPPED


async def test_a_reservation_expires_unless_it_is_held(database: Database) -> None:
    await stock(database, "w1", milk=5)
    forgotten, held = order(milk=1), order(milk=2)
    for buy in (forgotten, held):
        await commands.reserve_inventory(database, buy)
    await commands.hold_reservation(database, HoldReservation(order_id=held.order_id))
    await expire(database, forgotten)
    assert await level(database, "w1", "milk") == (5, 2)
    # A saga that comes late gets its stock again, if it is still there.
    again = await commands.hold_reservation(database, HoldReservation(order_id=forgotten.order_id))
    assert again.status == ReservationStatus.HELD
    assert await level(database, "w1", "milk") == (5, 3)


def buying(customer_id: UUID, **lines: int) -> ReserveInventory:
    return order("w1", **lines).model_copy(update={"customer_id": customer_id})


async def test_g7_a_customer_holds_only_so_many_unpaid_units_of_one_product(database: Database) -> None:
    await stock(database, "w1", milk=100, bread=100)
    customer = uuid4()
    first = buying(customer, milk=6, bread=10)
    await commands.reserve_inventory(database, first, limit=10)
    with pytest.raises(Refusal) as refused:
        await commands.reserve_inventory(database, buying(customer, milk=5, bread=1), limit=10)
    assert refused.value.code == ErrorCode.PURCHASE_LIMIT
    assert refused.value.extra["lines"] == [
        {"product_id": "milk", "requested": 5, "available": 4},
        {"product_id": "bread", "requested": 1, "available": 0},
    ]
    assert await level(database, "w1", "milk") == (100, 6)
    await commands.reserve_inventory(database, buying(uuid4(), milk=5), limit=10)  # somebody else
    await commands.reserve_inventory(database, buying(customer, milk=4), limit=10)
    again = await commands.reserve_inventory(database, first, limit=10)  # a repeated command
    assert again.status == ReservationStatus.RESERVED
    # Held for a review is not paid; held for good is.
    await commands.hold_reservation(database, HoldReservation(order_id=first.order_id, until=utc_now() + DAY), limit=10)
    with pytest.raises(Refusal, match="milk"):
        await commands.reserve_inventory(database, buying(customer, milk=1), limit=10)
    await commands.hold_reservation(database, HoldReservation(order_id=first.order_id), limit=10)
    await commands.reserve_inventory(database, buying(customer, milk=6, bread=10), limit=10)


async def test_g7_orders_at_once_do_not_get_past_the_limit_of_units(database: Database) -> None:
    places = ["w1", "w2", "w3", "w4", "w5"]  # at one and the same, the stock's own lock would do
    for place in places:
        await stock(database, place, milk=100)
    customer = uuid4()
    buys = [order(places[n % 5], milk=3).model_copy(update={"customer_id": customer}) for n in range(10)]
    results = await asyncio.gather(*[commands.reserve_inventory(database, buy, limit=10) for buy in buys], return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert {refusal.code for refusal in refusals} == {ErrorCode.PURCHASE_LIMIT}
    assert len([result for result in results if not isinstance(result, BaseException)]) == 3
    assert sum([(await level(database, place, "milk"))[1] for place in places]) == 9


async def test_g7_a_reservation_that_had_expired_does_not_come_back_past_the_limit(database: Database) -> None:
    await stock(database, "w1", milk=100)
    customer = uuid4()
    late, later = buying(customer, milk=8), buying(customer, milk=8)
    await commands.reserve_inventory(database, late, limit=10)
    await expire(database, late)
    await commands.reserve_inventory(database, later, limit=10)
    with pytest.raises(Refusal) as refused:
        await commands.hold_reservation(database, HoldReservation(order_id=late.order_id, until=utc_now() + DAY), limit=10)
    assert refused.value.code == ErrorCode.PURCHASE_LIMIT
    assert await level(database, "w1", "milk") == (100, 8)
    # Paid meanwhile, it may have them.
    await commands.hold_reservation(database, HoldReservation(order_id=late.order_id), limit=10)
    assert await level(database, "w1", "milk") == (100, 16)
