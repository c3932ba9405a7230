"""The stock that an order's lines are taken from, or that goods come to: at which warehouses, and its rows, locked in the order
of their keys."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import ARRAY, String, any_, bindparam, func, tuple_
from sqlmodel import col, select

from chassis.statements import locked, prepared, sql
from chassis.store import UnitOfWork
from contracts.inventory import Place, ReserveInventory, StockLine, WhenShort
from services.inventory.model import Reservation, Stock, Warehouse, out_of_stock, place_of
from services.inventory.model.planning import MOST_PARCELS, Available, Plan, distance, planned

_OF_THESE = col(Stock.product_id) == any_(bindparam("products", type_=ARRAY(String)))
_HERE = locked(Stock, (col(Stock.warehouse_id) == bindparam("warehouse")) & _OF_THESE)
_ANYWHERE = locked(Stock, _OF_THESE)
_STOCK = (Stock.warehouse_id, Stock.product_id, Stock.on_hand, Stock.reserved)
_LEVEL = ("warehouse_id", "product_id", "on_hand", "reserved")
_PLACE = (Warehouse.country, Warehouse.region, Warehouse.postal_code)
AVAILABLE = prepared(
    select(*map(col, (*_STOCK, *_PLACE))).join(Warehouse, col(Warehouse.warehouse_id) == col(Stock.warehouse_id)).where(_OF_THESE)
)
_PLACES = prepared(
    select(*map(col, (Warehouse.warehouse_id, *_PLACE))).where(
        col(Warehouse.warehouse_id) == any_(bindparam("warehouses", type_=ARRAY(String)))
    )
)
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
_AT_THESE = locked(
    Stock,
    (col(Stock.warehouse_id) == any_(bindparam("warehouses", type_=ARRAY(String))))
    & (col(Stock.product_id) == any_(bindparam("products", type_=ARRAY(String)))),
)
_ADD_MISSING = sql("""
    insert into stock (warehouse_id, product_id, on_hand, reserved, low_stock_threshold)
    select warehouse_id, product_id, 0, 0, 0
    from unnest(cast(:warehouses as text[])) as warehouse_id, unnest(cast(:products as text[])) as product_id
    order by warehouse_id, product_id
    on conflict do nothing
""")
"""In the order of their keys, so that two who add the same never wait for each other."""
ShelfKey = tuple[str, str]
"""Warehouse and product."""
Shelves = Mapping[str, Mapping[str, Stock]]
"""Stock by warehouse and product."""


class Overtaken(Exception):
    """Others were faster: what was there when we looked is not any more, now that its stock is locked; or somebody will have to
    wait, which is only decided with all stock locked."""


async def chosen(work: UnitOfWork, command: ReserveInventory, *, hold_all: bool) -> tuple[Plan, Shelves]:
    """From where an order's lines come, and that stock, locked.

    All warehouses are looked at in one statement, so that "out of stock" is true of all of them at one moment. Locked is only the
    stock that is chosen. Who was overtaken there, or has to do with less than all, locks the stock of all before it chooses
    (`hold_all`): so whoever brings goods either came before, and they are seen, or sees who waits. A warehouse that got its first
    stock of a product meanwhile is not locked then, since that would be out of turn: who needs it begins anew.
    Refusal: out_of_stock. Raises Overtaken.
    """
    products = [line.product_id for line in command.lines]
    if hold_all:
        if command.warehouse_id:
            found = await work.all(_HERE, warehouse=command.warehouse_id, products=products)
        else:
            found = await work.all(_ANYWHERE, products=products)
        held = by_warehouse(found)
        plan = _planned(command, held, await _places(work, command, held))
        if plan.short and any(
            row["on_hand"] > row["reserved"]
            and command.warehouse_id in (None, row["warehouse_id"])
            and row["product_id"] not in held.get(row["warehouse_id"], {})
            for row in await work.rows(AVAILABLE, products=products)
        ):
            raise Overtaken
        _require_enough(command, plan)
        return plan, held
    rows = [row for row in await work.rows(AVAILABLE, products=products) if command.warehouse_id in (None, row["warehouse_id"])]
    seen = by_warehouse([Stock.model_construct(**{name: row[name] for name in _LEVEL}) for row in rows])
    places = {row["warehouse_id"]: place_of(row["country"], row["region"], row["postal_code"]) for row in rows}
    plan = _planned(command, seen, places)
    _require_enough(command, plan)
    if plan.short:
        raise Overtaken
    stock = await stock_at_all(work, ((part.warehouse_id, part.lines) for part in plan.parts))
    for part in plan.parts:
        here = stock.get(part.warehouse_id, {})
        if any(line.product_id not in here or here[line.product_id].available < line.quantity for line in part.lines):
            raise Overtaken
    return plan, stock


async def _places(work: UnitOfWork, command: ReserveInventory, held: Shelves) -> dict[str, Place | None]:
    if command.ship_to is None:
        return {}
    rows = await work.rows(_PLACES, warehouses=sorted(held))
    return {row["warehouse_id"]: place_of(row["country"], row["region"], row["postal_code"]) for row in rows}


def _planned(command: ReserveInventory, stock: Shelves, places: Mapping[str, Place | None]) -> Plan:
    return planned(
        command.lines,
        available(stock),
        may_split=command.may_split,
        rest_waits=command.when_short in (WhenShort.WAIT, WhenShort.ASK),
        distances={warehouse: distance(places.get(warehouse), command.ship_to) for warehouse in stock},
        most=MOST_PARCELS + 1 - command.parcel,
    )


def _require_enough(command: ReserveInventory, plan: Plan) -> None:
    """Refusal: out_of_stock, if less than all will not do, or if it is nothing."""
    refuses = command.when_short == WhenShort.REFUSE or (command.when_short == WhenShort.DROP and not plan.parts)
    if plan.short and refuses:
        raise out_of_stock(plan.short)


def available(stock: Shelves) -> Available:
    """What can be promised of it."""
    return {name: {product: item.available for product, item in shelf.items()} for name, shelf in stock.items()}


async def stock_of(work: UnitOfWork, *reservations: Reservation) -> dict[str, dict[str, Stock]]:
    """The stock that reservations are promised from, locked, by warehouse and product."""
    return await stock_at_all(work, ((one.warehouse_id or "", one.stock_lines) for one in reservations))


async def stock_at(work: UnitOfWork, warehouse_id: str, lines: Sequence[StockLine]) -> dict[str, Stock]:
    """The stock of the lines at a warehouse, locked, by product."""
    stock = await work.all(_HERE, warehouse=warehouse_id, products=[line.product_id for line in lines])
    return {item.product_id: item for item in stock}


async def stock_at_all(work: UnitOfWork, wanted: Iterable[tuple[str, Sequence[StockLine]]]) -> dict[str, dict[str, Stock]]:
    """The stock of lines at warehouses, locked, by warehouse and product."""
    places = sorted({(warehouse, line.product_id) for warehouse, lines in wanted for line in lines})
    if not places:
        return {}
    warehouses, products = map(list, zip(*places, strict=True))
    if warehouses[0] == warehouses[-1]:
        return by_warehouse(await work.all(_HERE, warehouse=warehouses[0], products=products))
    return by_warehouse(await work.all(_AT_PLACES, warehouses=warehouses, products=products))


async def stock_added(work: UnitOfWork, warehouses: Collection[str], products: Collection[str]) -> dict[ShelfKey, Stock]:
    """The stock of the products at each of the warehouses, locked; added where there was none."""
    where = {"warehouses": list(warehouses), "products": list(products)}
    await work.rows(_ADD_MISSING, **where)
    return {(item.warehouse_id, item.product_id): item for item in await work.all(_AT_THESE, **where)}


def by_warehouse(stock: Sequence[Stock]) -> dict[str, dict[str, Stock]]:
    """By warehouse and product."""
    found: dict[str, dict[str, Stock]] = {}
    for item in stock:
        found.setdefault(item.warehouse_id, {})[item.product_id] = item
    return found
