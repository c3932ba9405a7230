"""What the tests of reservations put on the shelf and order, and how they read what came of it."""

from typing import TypeVar
from uuid import UUID, uuid4

from sqlmodel import col, select

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.events import Event
from contracts.inventory import (
    ReceiveReturn,
    ReleaseInventory,
    ReserveInventory,
    RestockInventory,
    ReturnedLine,
    ShipInventory,
    StockLine,
)
from services.inventory.commands import warehousing
from services.inventory.model import Movement, Stock, outbox
from tests.conftest import ADMIN

Told = TypeVar("Told", bound=Event)


async def stock(database: Database, warehouse_id: str, **levels: int) -> None:
    await warehousing.put_warehouse(database, ADMIN, warehouse_id, warehouse_id)
    lines = [StockLine(product_id=product, quantity=quantity) for product, quantity in levels.items()]
    key = IdempotencyKey("test", str(uuid4()), "")
    await warehousing.receive_stock(database, ADMIN, warehouse_id, lines, key, reference="test")


def order(warehouse_id: str | None = "w1", *, customer_id: UUID | None = None, **lines: int) -> ReserveInventory:
    return ReserveInventory(
        order_id=uuid4(),
        customer_id=customer_id or uuid4(),
        warehouse_id=warehouse_id,
        lines=tuple(StockLine(product_id=product, quantity=quantity) for product, quantity in lines.items()),
    )


def release(buy: ReserveInventory) -> ReleaseInventory:
    return ReleaseInventory(order_id=buy.order_id, parcel=buy.parcel, reason="cancelled")


def ship(buy: ReserveInventory) -> ShipInventory:
    return ShipInventory(order_id=buy.order_id, parcel=buy.parcel)


def restock(buy: ReserveInventory) -> RestockInventory:
    return RestockInventory(order_id=buy.order_id, parcel=buy.parcel, reason="returned")


def back(buy: ReserveInventory, number: int = 1, warehouse_id: str = "w1", **lines: tuple[int, int]) -> ReceiveReturn:
    """A return of an order: of each product how many are good, and how many damaged."""
    returned = [ReturnedLine(product_id=product, good=good, damaged=damaged) for product, (good, damaged) in lines.items()]
    return ReceiveReturn(order_id=buy.order_id, number=number, warehouse_id=warehouse_id, lines=tuple(returned))


async def level(database: Database, warehouse_id: str, product_id: str) -> tuple[int, int]:
    """On hand, and how many of them are reserved."""
    async with database.reading() as session:
        item = await session.get_one(Stock, (warehouse_id, product_id))
        return item.on_hand, item.reserved


async def movements(database: Database, product_id: str) -> list[tuple[int, str | None]]:
    """Change and reference of each, oldest first."""
    async with database.reading() as session:
        query = select(Movement).where(Movement.product_id == product_id).order_by(col(Movement.movement_id))
        return [(row.change, row.reference) for row in (await session.exec(query)).all()]


async def event_types(database: Database) -> list[str]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [row.envelope["type"] for row in rows]


async def events(database: Database, kind: type[Told]) -> list[Told]:
    """All of one kind, in the order in which they were told."""
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [kind.model_validate(row.envelope["data"]) for row in rows if row.envelope["type"] == kind.__name__]
