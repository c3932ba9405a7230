"""Inventory's commands, and what always holds of stock and reservations."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.errors import Refusal
from contracts.inventory import (
    ReceiveReturn,
    ReleaseInventory,
    ReserveInventory,
    RestockInventory,
    ReturnedLine,
    ShipInventory,
    StockLine,
)
from services.inventory.commands import reservations, returns, warehousing
from tests.conftest import ADMIN
from tests.races.machine import Command, Rows, Subject, seeded_uuid

WAREHOUSES = ("w1", "w2")
PRODUCTS = ("bread", "milk")


@dataclass(frozen=True)
class Shop:
    """Two warehouses with a little of two products, and five orders of one customer: the first is reserved, the second perhaps
    shipped, and the others are new."""

    customer: UUID
    orders: tuple[UUID, ...]

    def order(self, random: Random) -> UUID:
        return random.choice(self.orders)

    def reserve(self, random: Random) -> ReserveInventory:
        return ReserveInventory(
            order_id=random.choice(self.orders[1:]),
            customer_id=self.customer,
            lines=lines(random),
            warehouse_id=random.choice((None, None, *WAREHOUSES)),
        )


def lines(random: Random) -> tuple[StockLine, ...]:
    products = random.sample(PRODUCTS, random.choice((1, 2)))
    return tuple(StockLine(product_id=product, quantity=random.randint(1, 3)) for product in products)


async def prepare(database: Database, random: Random) -> Shop:
    shop = Shop(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(5)))
    for warehouse in WAREHOUSES:
        await warehousing.put_warehouse(database, ADMIN, warehouse, warehouse)
        levels = [StockLine(product_id=product, quantity=random.randint(2, 6)) for product in PRODUCTS]
        key = IdempotencyKey("prepare", warehouse, "")
        await warehousing.receive_stock(database, ADMIN, warehouse, levels, key, reference="test", low_stock_threshold=2)
    first, second, *_ = shop.orders
    for order_id in (first, second):
        line = StockLine(product_id=random.choice(PRODUCTS), quantity=1)
        command = ReserveInventory(
            order_id=order_id, customer_id=shop.customer, lines=(line,), warehouse_id=random.choice(WAREHOUSES)
        )
        await reservations.reserve_inventory(database, command)
    if random.random() < 0.4:
        await reservations.ship_inventory(database, ShipInventory(order_id=second))
    return shop


def reserve(shop: Shop, random: Random) -> Command:
    command = shop.reserve(random)
    limit = random.choice((4, 100))
    return lambda database: reservations.reserve_inventory(database, command, limit=limit)


def reserve_together(shop: Shop, random: Random) -> Command:
    """What sagas ask for at one moment; sometimes one of them twice."""
    wanted = [shop.reserve(random).model_copy(update={"warehouse_id": random.choice((*WAREHOUSES, "w9"))}) for _ in range(3)]
    asked = [reservations.Asked(command) for command in (*wanted, random.choice(wanted))]
    limit = random.choice((4, 100))

    async def reserve_all(database: Database) -> list[object]:
        replies = await reservations.reserve_together(database, asked, limit)
        return [reply.code if isinstance(reply, Refusal) else reply for reply in replies]

    return reserve_all


def release(shop: Shop, random: Random) -> Command:
    command = ReleaseInventory(order_id=shop.order(random), reason="test")
    return lambda database: reservations.release_inventory(database, command)


def ship(shop: Shop, random: Random) -> Command:
    command = ShipInventory(order_id=shop.order(random))
    return lambda database: reservations.ship_inventory(database, command)


def restock(shop: Shop, random: Random) -> Command:
    command = RestockInventory(order_id=shop.order(random), reason="test")
    return lambda database: returns.restock_inventory(database, command)


def receive_return(shop: Shop, random: Random) -> Command:
    """Of an order that has perhaps been sent, or is being sent, or comes back whole."""
    back = tuple(
        ReturnedLine(product_id=product, good=random.randint(0, 1), damaged=random.randint(0, 1))
        for product in random.sample(PRODUCTS, random.choice((1, 2)))
    )
    command = ReceiveReturn(
        order_id=random.choice(shop.orders[:2]),
        number=random.choice((1, 1, 2)),
        warehouse_id=random.choice((*WAREHOUSES, "w3")),
        lines=back,
    )
    return lambda database: returns.receive_return(database, command)


def put(shop: Shop, random: Random) -> Command:
    warehouse, name = random.choice((*WAREHOUSES, "w3")), f"name {random.randint(1, 2)}"
    return lambda database: warehousing.put_warehouse(database, ADMIN, warehouse, name)


def receive(shop: Shop, random: Random) -> Command:
    warehouse, goods = random.choice((*WAREHOUSES, "w3")), (*lines(random), StockLine(product_id="new", quantity=1))
    key = IdempotencyKey("race", random.choice("ab"), f"{warehouse} {goods}")
    return lambda database: warehousing.receive_stock(database, ADMIN, warehouse, goods, key, reference="race")


def adjust(shop: Shop, random: Random) -> Command:
    warehouse, changes = random.choice(WAREHOUSES), {line.product_id: random.choice((-2, -1, 1)) for line in lines(random)}
    key = IdempotencyKey("race", random.choice("cd"), f"{warehouse} {changes}")
    return lambda database: warehousing.adjust_stock(database, ADMIN, warehouse, changes, key, reason="race")


def count(shop: Shop, random: Random) -> Command:
    warehouse, counted = random.choice(WAREHOUSES), {line.product_id: random.randint(0, 6) for line in lines(random)}
    key = IdempotencyKey("race", random.choice("ef"), f"{warehouse} {counted}")
    return lambda database: warehousing.count_stock(database, ADMIN, warehouse, counted, key, reason="race")


def transfer(shop: Shop, random: Random) -> Command:
    (source, target), quantities = random.sample(WAREHOUSES, 2), {line.product_id: line.quantity for line in lines(random)}
    key = IdempotencyKey("race", random.choice("gh"), f"{source} {quantities}")
    return lambda database: warehousing.transfer_stock(database, ADMIN, source, target, quantities, key, reason="race")


COMMANDS: dict[str, Callable[[Shop, Random], Command]] = {
    "reserve": reserve,
    "reserve together": reserve_together,
    "release": release,
    "ship": ship,
    "restock": restock,
    "receive return": receive_return,
    "put warehouse": put,
    "receive": receive,
    "adjust": adjust,
    "count": count,
    "transfer": transfer,
}


def broken(rows: Rows, shop: Shop) -> Sequence[str]:
    """Never negative; what is reserved is the open reservations'; what is there is the ledger's sum, and the events'."""
    wrong = []
    promised: Counter[tuple[str, str]] = Counter()
    for reservation in rows["reservations"]:
        if reservation["status"] == "RESERVED":
            for line in reservation["lines"]:
                promised[reservation["warehouse_id"], line["product_id"]] += line["quantity"]
    moved: Counter[tuple[str, str]] = Counter()
    for movement in rows["stock_movements"]:
        moved[movement["warehouse_id"], movement["product_id"]] += movement["change"]
    told_there: Counter[tuple[str, str]] = Counter()
    told_reserved: Counter[tuple[str, str]] = Counter()
    ends: Counter[tuple[str, str, int]] = Counter()
    last_level: dict[tuple[str, str], int] = {}
    for event in rows["outbox"]:
        kind, data = event["envelope"]["type"], event["envelope"]["data"]
        if kind == "StockLevelChanged":
            place = data["warehouse_id"], data["product_id"]
            told_there[place] += data["change"]
            last_level[place] = data["on_hand"]
        elif kind in ("InventoryReserved", "InventoryReleased", "InventoryRestocked", "BackorderFilled"):
            ends[kind, data["order_id"], data["parcel"]] += 1
            sign = {"InventoryReserved": 1, "BackorderFilled": 1, "InventoryReleased": -1}.get(kind, 0)
            for line in data["lines"]:
                told_reserved[data["warehouse_id"], line["product_id"]] += sign * line["quantity"]
    for reservation in rows["reservations"]:
        if reservation["status"] in ("SHIPPED", "RESTOCKED"):
            for line in reservation["lines"]:
                told_reserved[reservation["warehouse_id"], line["product_id"]] -= line["quantity"]
    for stock in rows["stock"]:
        place = stock["warehouse_id"], stock["product_id"]
        if not 0 <= stock["reserved"] <= stock["on_hand"]:
            wrong.append(f"{place}: {stock['reserved']} of {stock['on_hand']} are reserved")
        if stock["reserved"] != promised[place]:
            wrong.append(f"{place}: {stock['reserved']} are reserved, and {promised[place]} promised")
        if stock["reserved"] != told_reserved[place]:
            wrong.append(f"{place}: {stock['reserved']} are reserved, and {told_reserved[place]} by the events")
        if stock["on_hand"] != moved[place]:
            wrong.append(f"{place}: {stock['on_hand']} are there, and {moved[place]} by the ledger")
        if (stock["on_hand"], stock["on_hand"]) != (told_there[place], last_level.get(place, 0)):
            wrong.append(f"{place}: {stock['on_hand']} are there, and {told_there[place]} by the events")
    wrong += [f"more of {product} came back to {order} than it was sent" for order, product in _too_much_back(rows)]
    wrong += [f"{kind} of {order} was told {times} times" for (kind, order, _), times in ends.items() if times > 1]
    return wrong


def _too_much_back(rows: Rows) -> Sequence[tuple[str, str]]:
    """Orders and products of which more units came back by returns than were shipped and did not come back whole."""
    out: Counter[tuple[str, str]] = Counter()
    for reservation in rows["reservations"]:
        if reservation["status"] == "SHIPPED":
            for line in reservation["lines"]:
                out[reservation["order_id"], line["product_id"]] += line["quantity"]
    for received in rows["received_returns"]:
        for line in received["lines"]:
            out[received["order_id"], line["product_id"]] -= line["good"] + line["damaged"]
    return [key for key, units in out.items() if units < 0]


SUBJECT = Subject("inventory", prepare, COMMANDS, broken)
