"""I7: stock is adjusted, counted and transferred, each with who and why, and never below what orders were promised."""

import asyncio
import random
from collections.abc import Mapping
from uuid import uuid4

import asyncpg
import pytest
from sqlmodel import col, select

from audit import queries
from audit.books import Books, StockRow
from audit.rules import judge
from audit.verdict import Violation
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.store import StaleVersion
from contracts.errors import ErrorCode, Refusal
from contracts.events import LowStockAlert, StockLevelChanged
from contracts.inventory import MovementKind, StockLine
from services.inventory.commands import reservations, warehousing
from services.inventory.model import Movement, Stock
from tests.conftest import ADMIN
from tests.services.inventory.goods import event_types, events, level, order, release, ship, stock


async def audited(database: Database) -> list[Violation]:
    """What the audit says of these shelves."""
    connection = await asyncpg.connect(database.asyncpg_dsn)
    rows = [StockRow._make(row) for row in await connection.fetch(queries.STOCK)]
    await connection.close()
    assert rows
    return judge(Books(utc_now(), stock=rows)).violations


def key() -> IdempotencyKey:
    return IdempotencyKey("test", str(uuid4()), "")


async def adjust(database: Database, changes: Mapping[str, int], **seen: int) -> list[Stock]:
    return await warehousing.adjust_stock(database, ADMIN, "w1", changes, key(), reason="dropped", seen=seen)


async def count(database: Database, counted: Mapping[str, int], **seen: int) -> list[Stock]:
    return await warehousing.count_stock(database, ADMIN, "w1", counted, key(), reason="inventory day", seen=seen)


async def transfer(database: Database, origin: str, target: str, **quantities: int) -> list[Stock]:
    return await warehousing.transfer_stock(database, ADMIN, origin, target, quantities, key(), reason="sold better there")


async def ledger(database: Database, warehouse_id: str = "w1", product_id: str = "milk") -> list[Movement]:
    """Oldest first, without the first delivery."""
    query = select(Movement).where(Movement.warehouse_id == warehouse_id, Movement.product_id == product_id)
    async with database.reading() as session:
        return list((await session.exec(query.order_by(col(Movement.movement_id)))).all())[1:]


async def test_i7_what_is_found_or_lost_is_adjusted(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    levels = await adjust(database, {"milk": -2, "bread": 1, "figs": 3})  # there were no figs before
    assert [(item.product_id, item.on_hand) for item in levels] == [("milk", 3), ("bread", 6), ("figs", 3)]
    [line] = await ledger(database)
    assert (line.change, line.kind, line.reason, line.actor) == (-2, MovementKind.ADJUSTMENT, "dropped", ADMIN.subject)
    told = (await events(database, StockLevelChanged))[-3]
    assert (told.product_id, told.on_hand, told.change) == ("milk", 3, -2)
    assert (told.kind, told.reason, told.actor) == (MovementKind.ADJUSTMENT, "dropped", ADMIN.subject)


async def test_i7_what_is_counted_is_on_hand(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    before = await event_types(database)
    levels = await count(database, {"milk": 7, "bread": 5})
    assert [(item.product_id, item.on_hand, item.version) for item in levels] == [("milk", 7, 3), ("bread", 5, 2)]
    assert [(line.change, line.kind) for line in await ledger(database)] == [(2, MovementKind.COUNT)]
    # That somebody counted, and found what was expected, is remembered too. It is no news.
    assert [(line.change, line.kind) for line in await ledger(database, product_id="bread")] == [(0, MovementKind.COUNT)]
    assert (await event_types(database))[len(before) :] == ["StockLevelChanged"]


async def test_i7_what_is_transferred_leaves_the_one_and_arrives_at_the_other(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    await stock(database, "w2", bread=1)
    levels = await transfer(database, "w1", "w2", milk=2, bread=5)
    assert [(item.warehouse_id, item.product_id, item.on_hand) for item in levels] == [
        ("w1", "milk", 3),
        ("w1", "bread", 0),
        ("w2", "milk", 2),
        ("w2", "bread", 6),
    ]
    [left] = await ledger(database, "w1", "bread")
    [came] = await ledger(database, "w2", "bread")
    assert (left.change, left.kind, left.other_warehouse_id) == (-5, MovementKind.TRANSFER, "w2")
    assert (came.change, came.kind, came.other_warehouse_id) == (5, MovementKind.TRANSFER, "w1")
    assert left.reason == came.reason == "sold better there"
    told = [(event.warehouse_id, event.product_id, event.change) for event in (await events(database, StockLevelChanged))[-4:]]
    assert told == [("w1", "milk", -2), ("w1", "bread", -5), ("w2", "milk", 2), ("w2", "bread", 5)]


async def test_i7_nothing_goes_below_what_is_promised(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    await stock(database, "w2", milk=1)
    await reservations.reserve_inventory(database, order(milk=4, bread=4))
    before = await event_types(database)
    for attempt in (
        adjust(database, {"milk": -2, "bread": -2, "figs": -1}),
        count(database, {"milk": 3, "bread": 3, "figs": 1}),
        transfer(database, "w1", "w2", milk=2, bread=2, figs=1),
    ):
        with pytest.raises(Refusal) as refused:
            await attempt
        assert refused.value.code == ErrorCode.STOCK_PROMISED
        lines = {line["product_id"]: (line["on_hand"], line["reserved"]) for line in refused.value.extra["lines"]}
        assert lines in ({"milk": (5, 4), "bread": (5, 4), "figs": (0, 0)}, {"milk": (5, 4), "bread": (5, 4)})
    assert await level(database, "w1", "milk") == await level(database, "w1", "bread") == (5, 4)
    assert await level(database, "w2", "milk") == (1, 0)
    assert await event_types(database) == before
    await count(database, {"milk": 4, "bread": 4})  # all of it is promised: right so


async def test_i7_what_makes_stock_low_alerts(database: Database) -> None:
    await stock(database, "w1", milk=5)
    more = [StockLine(product_id="milk", quantity=1)]
    await warehousing.receive_stock(database, ADMIN, "w1", more, key(), reference="d2", low_stock_threshold=3)
    await adjust(database, {"milk": -2})
    assert await events(database, LowStockAlert) == []
    await adjust(database, {"milk": -1})
    await count(database, {"milk": 2})  # it was low before
    assert [alert.available for alert in await events(database, LowStockAlert)] == [3]


async def test_i7_a_count_does_not_overwrite_what_changed_since_it_was_taken(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    [seen] = await count(database, {"milk": 5})
    await reservations.reserve_inventory(database, order(milk=1))
    for attempt in (
        count(database, {"bread": 4, "milk": 4}, milk=seen.version),
        adjust(database, {"bread": 1, "milk": -1}, milk=seen.version),
    ):
        with pytest.raises(StaleVersion) as refused:
            await attempt
        assert isinstance(refused.value.aggregate, Stock)
        assert (refused.value.aggregate.product_id, refused.value.aggregate.reserved) == ("milk", 1)
    assert await level(database, "w1", "bread") == (5, 0)
    assert await level(database, "w1", "milk") == (5, 1)
    await count(database, {"bread": 4, "milk": 4}, milk=seen.version + 1)
    assert await level(database, "w1", "milk") == (4, 1)


@pytest.mark.parametrize("seed", range(3))
async def test_i7_all_that_changes_stock_at_once_adds_up(database: Database, seed: int) -> None:
    """Transfers in all directions, counts, adjustments, receipts and orders: nobody waits in a circle, and the ledger, the events
    and the shelves agree."""
    chance = random.Random(seed)
    places, products = ("w1", "w2", "w3"), ("milk", "bread", "figs")
    refused: set[ErrorCode] = set()
    for place in places:
        await stock(database, place, milk=20, bread=20)

    def some() -> dict[str, int]:
        return {product: chance.randint(1, 9) for product in chance.sample(products, chance.randint(1, 3))}

    async def somebody() -> None:
        for _ in range(6):
            here, there = chance.sample(places, 2)
            buy = order(here, customer_id=uuid4(), **some())
            try:
                match chance.randrange(5):
                    case 0:
                        await warehousing.transfer_stock(database, ADMIN, here, there, some(), key(), reason="needed there")
                    case 1:
                        await warehousing.count_stock(database, ADMIN, here, some(), key(), reason="counted")
                    case 2:
                        changes = {product: chance.choice((-1, 1)) * units for product, units in some().items()}
                        await warehousing.adjust_stock(database, ADMIN, here, changes, key(), reason="found and lost")
                    case 3:
                        await stock(database, here, **some())
                    case _:
                        await reservations.reserve_inventory(database, buy)
                        if chance.random() < 0.5:
                            await reservations.release_inventory(database, release(buy))
                        else:
                            await reservations.ship_inventory(database, ship(buy))
            except Refusal as refusal:
                refused.add(refusal.code)

    await asyncio.gather(*[somebody() for _ in range(8)])
    assert refused <= {ErrorCode.OUT_OF_STOCK, ErrorCode.STOCK_PROMISED}
    async with database.reading() as session:
        shelves = (await session.exec(select(Stock))).all()
        lines = (await session.exec(select(Movement))).all()
    told = await events(database, StockLevelChanged)
    for shelf in shelves:
        mine = [line for line in lines if (line.warehouse_id, line.product_id) == (shelf.warehouse_id, shelf.product_id)]
        news = [event for event in told if (event.warehouse_id, event.product_id) == (shelf.warehouse_id, shelf.product_id)]
        assert sum(line.change for line in mine) == sum(event.change for event in news) == shelf.on_hand
        assert shelf.reserved == 0
        # The events tell of each level in turn.
        level_after = 0
        for event in news:
            level_after += event.change
            assert event.on_hand == level_after
    assert await audited(database) == []
