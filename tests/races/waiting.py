"""Inventory's commands where parcels wait for goods: they are planned, filled, split and released while goods come and go."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.inventory import ReleaseInventory, ReserveInventory, SplitReservation, StockLine, WhenShort
from services.inventory.commands import announcing, reservations, waiting, warehousing
from tests.conftest import ADMIN
from tests.races import inventory
from tests.races.inventory import PRODUCTS, WAREHOUSES, Shop, lines
from tests.races.machine import Command, Rows, Subject, seeded_uuid


async def prepare(database: Database, random: Random) -> Shop:
    """Two warehouses with next to nothing, and four orders, each of which wants more than there is."""
    shop = Shop(seeded_uuid(random), tuple(seeded_uuid(random) for _ in range(6)))
    for warehouse in WAREHOUSES:
        await warehousing.put_warehouse(database, ADMIN, warehouse, warehouse)
        goods = [StockLine(product_id=product, quantity=random.randint(1, 2)) for product in PRODUCTS]
        await warehousing.receive_stock(
            database, ADMIN, warehouse, goods, IdempotencyKey("prepare", warehouse, ""), reference="test"
        )
    for order_id in shop.orders[:4]:
        waits = {"order_id": order_id, "when_short": WhenShort.WAIT}
        await reservations.reserve_inventory(database, wanted(shop, random).model_copy(update=waits))
    key = IdempotencyKey("prepare", "announced", "")
    await announcing.announce_receipt(database, ADMIN, "w1", "milk", 2, utc_now().date(), key, reference="test")
    return shop


def wanted(shop: Shop, random: Random) -> ReserveInventory:
    return ReserveInventory(
        order_id=random.choice(shop.orders[3:]),
        customer_id=shop.customer,
        lines=tuple(line.model_copy(update={"quantity": line.quantity + 1}) for line in lines(random)),
        warehouse_id=random.choice((None, None, None, "w1")),
        may_split=random.random() < 0.7,
        when_short=random.choice((WhenShort.WAIT, WhenShort.WAIT, WhenShort.DROP)),
    )


def reserve(shop: Shop, random: Random) -> Command:
    command = wanted(shop, random)
    return lambda database: reservations.reserve_inventory(database, command)


def release(shop: Shop, random: Random) -> Command:
    command = ReleaseInventory(order_id=shop.order(random), planned=random.random() < 0.7, reason="test")
    return lambda database: reservations.release_inventory(database, command)


def split(shop: Shop, random: Random) -> Command:
    """From the last number, since two plans of one order never race: the saga asks for one after the other. Of orders that wait
    as well as of those that were promised their goods."""
    [line, *_] = lines(random)
    goods = (line.model_copy(update={"quantity": 1}),)
    parcel = random.choice((1, 1, 2))
    command = SplitReservation(order_id=shop.order(random), parcel=parcel, into=random.choice((9, 9, 10)), lines=goods)
    return lambda database: reservations.split_reservation(database, command)


def receive(shop: Shop, random: Random) -> Command:
    warehouse, goods = random.choice((*WAREHOUSES, "w2")), lines(random)
    key = IdempotencyKey("race", random.choice("abcd"), f"{warehouse} {goods}")
    return lambda database: warehousing.receive_stock(database, ADMIN, warehouse, goods, key, reference="race")


def count(shop: Shop, random: Random) -> Command:
    warehouse, counted = random.choice(WAREHOUSES), {line.product_id: random.randint(2, 6) for line in lines(random)}
    key = IdempotencyKey("race", random.choice("ef"), f"{warehouse} {counted}")
    return lambda database: warehousing.count_stock(database, ADMIN, warehouse, counted, key, reason="race")


def look_after(shop: Shop, random: Random) -> Command:
    return waiting.look_after_waiting


def broken(rows: Rows, shop: Shop) -> Sequence[str]:
    """What holds of stock; and nobody waits who was told that the goods are there, or was never short of any."""
    wrong = list(inventory.broken(rows, shop))
    told = {
        (event["envelope"]["data"]["order_id"], event["envelope"]["data"]["parcel"])
        for event in rows["outbox"]
        if event["envelope"]["type"] == "BackorderFilled"
    }
    for reservation in rows["reservations"]:
        if reservation["status"] == "AWAITED" and (reservation["order_id"], reservation["parcel"]) in told:
            wrong.append(f"parcel {reservation['parcel']} of {reservation['order_id']} was filled, and waits")
        if reservation["status"] != "AWAITED" and reservation["expected_on"]:
            wrong.append(f"parcel {reservation['parcel']} of {reservation['order_id']} waits no more, and is expected")
    return wrong


COMMANDS = {
    "plan": reserve,
    "release the plan": release,
    "split": split,
    "bring": receive,
    "find": count,
    "look after who waits": look_after,
}
PASSING_OVER = frozenset({"bring", "find", "release the plan", "look after who waits"})
"""Whoever makes goods available passes over parcels that others work on at that moment: the job finds them later."""
SUBJECT: Subject[Shop] = replace(inventory.SUBJECT, prepare=prepare, commands=COMMANDS, broken=broken, loose=PASSING_OVER)
