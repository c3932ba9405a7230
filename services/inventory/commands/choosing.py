"""The stock that an order's lines are taken from: at which warehouse, and its rows, locked in the order of their keys."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ARRAY, String, any_, bindparam, func, tuple_
from sqlmodel import col, select

from chassis.statements import locked, prepared
from chassis.store import UnitOfWork
from contracts.inventory import ReserveInventory, StockLine
from services.inventory.model import Reservation, Stock, missing_lines, out_of_stock

_OF_THESE = col(Stock.product_id) == any_(bindparam("products", type_=ARRAY(String)))
_HERE = locked(Stock, (col(Stock.warehouse_id) == bindparam("warehouse")) & _OF_THESE)
_ANYWHERE = locked(Stock, _OF_THESE)
AVAILABLE = prepared(select(*map(col, (Stock.warehouse_id, Stock.product_id, Stock.on_hand, Stock.reserved))).where(_OF_THESE))
_AT_PLACES = locked(
    Stock,
    tuple_(col(Stock.warehouse_id), col(Stock.product_id)).in_(
        select(
            func.unnest(bindparam("warehouses", type_=ARRAY(String))),
            func.unnest(bindparam("products", type_=ARRAY(String))),
        )
    ),
)
"""At the n-th warehouse the n-th product."""


class Overtaken(Exception):
    """Others were faster: the warehouse that had every line when we looked has not any more, now that its stock is locked."""


async def chosen(work: UnitOfWork, lines: Sequence[StockLine], *, hold_all: bool) -> tuple[str, dict[str, Stock]]:
    """A warehouse that has every line, and its stock of them, locked.

    All warehouses are looked at in one statement, so that "out of stock" is true of all of them at one moment. Locked is only the
    stock of the one that is chosen. Who was overtaken there locks the stock of all before it chooses (`hold_all`). A warehouse
    that got its first stock of a product meanwhile is not locked then, since that would be out of turn: who needs it begins anew.
    Refusal: out_of_stock, measured at the warehouse that lacks fewest lines. Raises Overtaken.
    """
    products = [line.product_id for line in lines]
    if hold_all:
        held = by_warehouse(await work.all(_ANYWHERE, products=products))
        if any(not missing_lines(lines, stock) for stock in held.values()):
            warehouse_id = best(lines, held)
            return warehouse_id, held[warehouse_id]
    seen = [Stock.model_construct(**dict(row)) for row in await work.rows(AVAILABLE, products=products)]
    warehouse_id = best(lines, by_warehouse(seen))
    stock = {} if hold_all else await stock_at(work, warehouse_id, lines)
    if missing_lines(lines, stock):
        raise Overtaken
    return warehouse_id, stock


async def stock_of(work: UnitOfWork, reservation: Reservation) -> dict[str, Stock]:
    """The stock that a reservation is promised from, locked, by product."""
    return await stock_at(work, reservation.warehouse_id or "", reservation.stock_lines)


async def stock_at(work: UnitOfWork, warehouse_id: str, lines: Sequence[StockLine]) -> dict[str, Stock]:
    """The stock of the lines at a warehouse, locked, by product."""
    stock = await work.all(_HERE, warehouse=warehouse_id, products=[line.product_id for line in lines])
    return {item.product_id: item for item in stock}


async def stock_of_all(work: UnitOfWork, commands: Sequence[ReserveInventory]) -> dict[str, dict[str, Stock]]:
    """The stock of the lines of all, locked, by warehouse and product."""
    places = sorted({(command.warehouse_id, line.product_id) for command in commands for line in command.lines})
    if not places:
        return {}
    warehouses, products = map(list, zip(*places, strict=True))
    return by_warehouse(await work.all(_AT_PLACES, warehouses=warehouses, products=products))


def by_warehouse(stock: Sequence[Stock]) -> dict[str, dict[str, Stock]]:
    """By warehouse and product."""
    found: dict[str, dict[str, Stock]] = {}
    for item in stock:
        found.setdefault(item.warehouse_id, {})[item.product_id] = item
    return found


def best(lines: Sequence[StockLine], found: Mapping[str, Mapping[str, Stock]]) -> str:
    """The warehouse that has every line. Refusal: out_of_stock, measured at the one that lacks fewest lines."""
    short, warehouse_id = min(
        ((missing_lines(lines, stock), warehouse_id) for warehouse_id, stock in found.items()),
        key=lambda option: (len(option[0]), option[1]),
        default=(missing_lines(lines, {}), ""),
    )
    if short:
        raise out_of_stock(short)
    return warehouse_id
