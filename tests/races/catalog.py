"""The catalogue's commands, and what always holds of products, their prices and their places."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.money import Money
from services.catalog import commands
from services.catalog.cache import ProductCache
from tests.races.machine import Command, Rows, Subject, stop

CATEGORIES = ("dairy.milk", "dairy.cheese", "bakery.bread")
PRODUCTS = ("p1", "p2", "p3")


class NoCache(ProductCache):
    """Keeps nothing: what is raced for is the database."""

    def __init__(self) -> None:
        pass

    async def drop(self, product_ids: Sequence[str]) -> None:
        await stop("the cache is told")


CACHE = NoCache()


@dataclass(frozen=True)
class Shelves:
    """Two departments with three categories, and two products; the third is new."""


def price(random: Random) -> Money:
    return Money(amount=Decimal(random.choice(("1.00", "2.00"))))


def details(random: Random) -> dict[str, object]:
    return {"name": random.choice(("Milk", "Cream")), "weight_grams": random.choice((100, 200))}


async def prepare(database: Database, random: Random) -> Shelves:
    for department, categories in (("Dairy", ("Milk", "Cheese")), ("Bakery", ("Bread",))):
        parent = await commands.create_category(database, department)
        for name in categories:
            await commands.create_category(database, name, parent.category_id)
    for product_id in PRODUCTS[:2]:
        category = random.choice(CATEGORIES[:2])
        await commands.create_product(database, CACHE, product_id, details(random), category, price(random))
    if random.random() < 0.3:
        await commands.delete_product(database, CACHE, PRODUCTS[1])
    return Shelves()


def create(shelves: Shelves, random: Random) -> Command:
    arguments = (random.choice(PRODUCTS[1:]), details(random), random.choice(CATEGORIES), price(random))
    key = random.choice((None, IdempotencyKey("race", "a", str(arguments))))
    return lambda database: commands.create_product(database, CACHE, *arguments, key)


def change(shelves: Shelves, random: Random) -> Command:
    arguments = (random.choice(PRODUCTS), details(random), random.choice((None, *CATEGORIES)), random.choice((None, 1, 2)))
    return lambda database: commands.change_product(database, CACHE, *arguments)


def set_price(shelves: Shelves, random: Random) -> Command:
    arguments = (random.choice(PRODUCTS), price(random), random.choice((None, 1, 2)))
    return lambda database: commands.set_price(database, CACHE, *arguments)


def delete(shelves: Shelves, random: Random) -> Command:
    arguments = (random.choice(PRODUCTS), random.choice((None, 1, 2)))
    return lambda database: commands.delete_product(database, CACHE, *arguments)


def import_(shelves: Shelves, random: Random) -> Command:
    rows = [
        commands.ImportRow(
            product_id, details(random), random.choice(("Dairy", "New")), random.choice(("Milk", "Tea")), price(random)
        )
        for product_id in random.sample(PRODUCTS, 2)
    ]
    return lambda database: commands.import_products(database, CACHE, rows)


def create_category(shelves: Shelves, random: Random) -> Command:
    name, parent = random.choice((("Tea", "dairy"), ("Tea", "new"), ("New", None), ("Milk", "dairy")))
    return lambda database: commands.create_category(database, name, parent)


def change_category(shelves: Shelves, random: Random) -> Command:
    category, name, parent = random.choice(
        (
            ("dairy", "Fresh", None),
            ("dairy.milk", "Milk", "bakery"),
            ("dairy.milk", "Drinks", "dairy"),
            ("bakery.bread", "Bread", "dairy"),
        )
    )
    version = random.choice((None, 1))
    return lambda database: commands.change_category(database, CACHE, category, name, parent, version)


def delete_category(shelves: Shelves, random: Random) -> Command:
    category, version = random.choice((*CATEGORIES, "bakery")), random.choice((None, 1))
    return lambda database: commands.delete_category(database, category, version)


COMMANDS: dict[str, Callable[[Shelves, Random], Command]] = {
    "create": create,
    "change": change,
    "set price": set_price,
    "delete": delete,
    "import": import_,
    "create category": create_category,
    "change category": change_category,
    "delete category": delete_category,
}


def broken(rows: Rows, shelves: Shelves) -> Sequence[str]:
    """What is on sale is in a category that there is, by its present name, and has one price, which is the last that was told."""
    wrong = []
    categories = {row["category_id"]: row for row in rows["categories"]}
    wrong += [f"{row['category_id']} is nowhere" for row in categories.values() if row["parent_id"] not in (None, *categories)]
    now = defaultdict(list)
    for period in rows["price_history"]:
        if period["valid_to"] is None:
            now[period["product_id"]].append(period["amount_minor"])
    told: dict[str, int | None] = {}
    counts: Counter[str] = Counter()
    for event in rows["outbox"]:
        kind, data = event["envelope"]["type"], event["envelope"]["data"]
        counts[kind] += 1
        price_now = data.get("price") or data.get("new_price")
        if price_now:
            told[data["product_id"]] = int(Decimal(price_now["amount"]) * 100)
        elif kind == "ProductDeleted":
            told[data["product_id"]] = None
    for product in rows["products"]:
        identity, on_sale = product["product_id"], product["deleted_at"] is None
        expected = [product["amount_minor"]] if on_sale else []
        if now[identity] != expected:
            wrong.append(f"{identity} costs {expected}, and {now[identity]} by its history")
        if told.get(identity) != (product["amount_minor"] if on_sale else None):
            wrong.append(f"{identity} costs {expected}, and {told.get(identity)} by the events")
        if not on_sale:
            continue
        category, department = categories.get(product["category_id"]), categories.get(product["department_id"])
        if category is None or department is None:
            wrong.append(f"{identity} is in {product['category_id']}, which is gone")
        elif (category["name"], department["name"], category["parent_id"]) != (
            product["category"],
            product["department"],
            product["department_id"],
        ):
            wrong.append(f"{identity} is in {product['category']} of {product['department']}, which is not what they are")
    return wrong


SUBJECT = Subject("catalog", prepare, COMMANDS, broken)
