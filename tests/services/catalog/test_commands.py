"""Changes of the catalogue on a real database: what changed is told once, and what did not is not told."""

import asyncio
import itertools
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from chassis.database import Database
from chassis.store import UnitOfWork
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from services.catalog import commands, queries
from services.catalog.cache import ProductCache
from services.catalog.model import PricePeriod, Product, category_id_for, outbox, slug
from services.catalog.schemas import ImportResult, NewProduct, Price, ProductView
from tests.services.catalog.conftest import load, product


async def stored(database: Database, product_id: str) -> Product:
    async with database.reading() as session:
        return await session.get_one(Product, product_id)


async def events(database: Database) -> list[tuple[str, str]]:
    async with database.reading() as session:
        rows = await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
        return [(row.envelope["type"], row.envelope["subject"]) for row in rows]


async def create(database: Database, cache: ProductCache, new: NewProduct) -> Product:
    return await commands.create_product(database, cache, new.product_id, new.details, new.category_id, new.price)


async def names(database: Database, **filters: object) -> list[str]:
    every = {"q": None, "category": None, "min_price": None, "max_price": None, "currency": "USD", "cursor": None, "limit": 50}
    page = await queries.list_products(database, **{**every, **filters})  # type: ignore[arg-type]
    return [item.name for item in page.items]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GROCERY", "grocery"),
        ("Baked Bread/Buns & Rolls", "baked-bread-buns-rolls"),
        ("Crème fraîche", "creme-fraiche"),
        ("日本", ""),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_category_is_told_from_a_department_by_its_id() -> None:
    assert category_id_for("Cheese", "grocery") == "grocery.cheese"
    assert category_id_for("Grocery Cheese", None) == "grocery-cheese"


async def test_importing_twice_changes_nothing(database: Database, cache: ProductCache) -> None:
    goods = [product("1"), product("2", "Milk", category="Milk"), product("3", "Ham", department="Deli", category="Ham")]
    assert await load(database, cache, *goods) == ImportResult(created=3)
    assert await events(database) == [("ProductCreated", "1"), ("ProductCreated", "2"), ("ProductCreated", "3")]
    assert await load(database, cache, *goods) == ImportResult(unchanged=3)
    assert len(await events(database)) == 3
    assert (await stored(database, "1")).version == 1


async def test_an_import_tells_only_of_what_changed(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"), product("2"), product("3"))
    again = [product("1", price="1.99"), product("2", "Better cheese"), product("3"), product("4")]
    assert await load(database, cache, *again) == ImportResult(created=1, updated=2, unchanged=1)
    assert (await events(database))[3:] == [("PriceChanged", "1"), ("ProductUpdated", "2"), ("ProductCreated", "4")]
    assert [(await stored(database, key)).version for key in "1234"] == [2, 2, 1, 1]
    assert (await stored(database, "1")).price == Money(amount=Decimal("1.99"))
    assert (await stored(database, "2")).name == "Better cheese"


async def test_an_import_does_not_bring_back_what_was_deleted_but_staff_can(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"))
    await commands.delete_product(database, cache, "1")
    assert await load(database, cache, product("1")) == ImportResult(skipped=1)
    assert await names(database) == []
    new = NewProduct(
        product_id="1", name="Brie", category_id="grocery.cheese", weight_grams=200, price=Money(amount=Decimal("5.00"))
    )
    view = await create(database, cache, new)
    assert (view.name, view.brand, view.version) == ("Brie", None, 3)
    assert await names(database) == ["Brie"]
    assert [kind for kind, _ in await events(database)] == ["ProductCreated", "ProductDeleted", "ProductCreated"]


async def test_imports_at_the_same_time_create_each_product_once(database: Database, cache: ProductCache) -> None:
    goods = [product(str(n)) for n in range(50)]
    results = await asyncio.gather(*[load(database, cache, *(goods if n % 2 else goods[::-1])) for n in range(6)])
    assert sum(result.created for result in results) == 50
    assert sum(result.unchanged for result in results) == 250
    assert len(await events(database)) == 50


async def test_of_two_who_change_what_they_saw_one_is_refused(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"))
    patches = [commands.change_product(database, cache, "1", {"name": f"Cheese {n}"}, None, 1) for n in range(4)]
    results = await asyncio.gather(*patches, return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert [refusal.code for refusal in refusals] == [ErrorCode.STALE_VERSION] * 3
    assert refusals[0].extra == {"current_version": 2}
    (winner,) = [result for result in results if isinstance(result, Product)]
    assert (await stored(database, "1")).name == winner.name
    assert len(await events(database)) == 2


async def test_a_change_that_changes_nothing_is_not_told(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"))
    await commands.set_price(database, cache, "1", Money(amount=Decimal("2.090")))
    view = await commands.change_product(database, cache, "1", {"brand": "National"}, "grocery.cheese")
    assert view.version == 1
    assert len(await events(database)) == 1


@pytest.mark.parametrize(("amount", "currency", "minor"), [("12.50", "USD", 1250), ("300", "JPY", 300), ("1.234", "KWD", 1234)])
async def test_i8_prices_are_kept_in_minor_units(
    database: Database, cache: ProductCache, amount: str, currency: str, minor: int
) -> None:
    price = Money(amount=Decimal(amount), currency=currency)
    await load(database, cache, product("1").model_copy(update={"price": price}))
    assert (await stored(database, "1")).price == price
    for table in ("products", "price_history"):
        async with database.reading() as session:
            kept = await session.execute(text(f"select amount_minor, currency from {table}"))
            assert kept.all() == [(minor, currency)]
    assert [item.price for item in (await queries.look_up_products(database, ["1"])).products] == [price]


async def test_i8_price_limits_count_in_the_smallest_coin_of_their_currency(database: Database, cache: ProductCache) -> None:
    for key, amount, currency in (("dollars", "3.00", "USD"), ("yen", "300", "JPY"), ("dinars", "0.300", "KWD")):
        priced = product(key, key).model_copy(update={"price": Money(amount=Decimal(amount), currency=currency)})
        await load(database, cache, priced)
    for currency, within, below, above in (
        ("USD", "3.00", "2.999", "3.001"),
        ("JPY", "300", "299.9", "300.1"),
        ("KWD", "0.3", "0.299", "0.301"),
    ):
        for limit, cheaper, dearer in ((within, 1, 1), (below, 0, 1), (above, 1, 0)):
            assert len(await names(database, max_price=Decimal(limit), currency=currency)) == cheaper
            assert len(await names(database, min_price=Decimal(limit), currency=currency)) == dearer


async def test_a_price_has_the_digits_of_its_currency(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"))
    for amount, currency in [("3", "USD"), ("300", "JPY"), ("1.125", "KWD")]:
        price = Money(amount=Decimal(amount), currency=currency)
        view = await commands.set_price(database, cache, "1", price)
        found = await queries.get_product(database, cache, "1")
        assert ProductView.model_validate_json(found.json) == ProductView.of(view)
        assert str(view.price.amount) == {"USD": "3.00", "JPY": "300", "KWD": "1.125"}[currency]


async def test_a_renamed_or_moved_category_shows_in_its_products(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"), product("2", "Ham", department="Deli", category="Meat"))
    assert await names(database, q="fromage") == []
    await commands.change_category(database, cache, "grocery.cheese", "Fromage", "deli")
    moved = await stored(database, "1")
    assert (moved.category, moved.department_id, moved.department, moved.version) == ("Fromage", "deli", "Deli", 2)
    assert await names(database, q="fromage") == ["Cream Cheese, 8 oz"]
    assert await names(database, category="grocery") == []
    await commands.change_category(database, cache, "deli", "Delicatessen", None)
    assert {(await stored(database, key)).department for key in "12"} == {"Delicatessen"}
    # An import names the category as it was made, and finds it where it is now.
    assert await load(database, cache, product("1")) == ImportResult(unchanged=1)


async def test_a_renamed_category_shows_in_products_that_come_and_change_meanwhile(
    database: Database, cache: ProductCache
) -> None:
    await load(database, cache, *[product(str(n)) for n in range(5)])
    for turn in range(4):
        await asyncio.gather(
            commands.change_category(database, cache, "grocery.cheese", f"Cheese {turn}", "grocery"),
            commands.change_category(database, cache, "grocery", f"Grocery {turn}", None),
            load(database, cache, *[product(f"{turn}-{n}") for n in range(5)], product("0", f"Brie {turn}")),
            create(
                database,
                cache,
                NewProduct(
                    product_id=f"new {turn}".replace(" ", "-"),
                    name="Brie",
                    category_id="grocery.cheese",
                    weight_grams=200,
                    price=Money(amount=Decimal("5.00")),
                ),
            ),
            commands.set_price(database, cache, "1", Money(amount=Decimal(turn + 1))),
        )
        async with database.reading() as session:
            shown = await session.execute(text("select distinct category, department from products"))
            assert shown.all() == [(f"Cheese {turn}", f"Grocery {turn}")]


async def test_imports_at_once_that_put_the_same_products_elsewhere_create_each_once(
    database: Database, cache: ProductCache
) -> None:
    await load(database, cache, *[product(f"first {n}".replace(" ", "-"), category=f"Category {n}") for n in range(2)])
    for turn in range(3):
        one, other = [[product(f"{turn}-{n}", category=f"Category {kind}") for n in range(20)] for kind in range(2)]
        results = await asyncio.gather(load(database, cache, *one), load(database, cache, *other))
        assert sorted((result.created, result.updated) for result in results) == [(0, 20), (20, 0)]


async def test_i8_an_import_of_a_thousand_products_is_a_few_statements(
    database: Database, cache: ProductCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    execute = UnitOfWork._statement

    async def counted(work: UnitOfWork, statement: str, *arguments: Any) -> Any:
        statements.append(statement)
        return await execute(work, statement, *arguments)

    monkeypatch.setattr(UnitOfWork, "_statement", counted)
    goods = [product(f"p{n}", category=f"Category {n % 50}") for n in range(1000)]
    for wanted, expected in (
        (goods, ImportResult(created=1000)),
        (goods, ImportResult(unchanged=1000)),
        (
            [each.model_copy(update={"price": Money(amount=Decimal(5)), "name": "New"}) for each in goods],
            ImportResult(updated=1000),
        ),
    ):
        statements.clear()
        assert await load(database, cache, *wanted) == expected
        assert len(statements) <= 8
    assert {(await stored(database, f"p{n}")).version for n in (0, 500, 999)} == {2}


async def test_imports_at_once_that_name_new_categories_make_each_once(database: Database, cache: ProductCache) -> None:
    goods = [product(str(n), department=f"Department {n % 3}", category=f"Category {n}") for n in range(20)]
    results = await asyncio.gather(*[load(database, cache, *(goods if n % 2 else goods[::-1])) for n in range(4)])
    assert sum(result.created for result in results) == 20
    assert len((await queries.list_categories(database, None, 100)).items) == 3 + 20


async def test_a_category_in_use_stays(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1"))
    for category_id in ("grocery", "grocery.cheese"):
        with pytest.raises(Refusal) as refused:
            await commands.delete_category(database, category_id)
        assert refused.value.code == ErrorCode.CATEGORY_IN_USE
    await commands.delete_product(database, cache, "1")
    await commands.delete_category(database, "grocery.cheese")
    await commands.delete_category(database, "grocery")
    assert (await queries.list_categories(database, None, 50)).items == []


async def test_no_product_gets_into_a_category_while_that_is_deleted(database: Database, cache: ProductCache) -> None:
    await commands.create_category(database, "Grocery")
    for attempt in range(5):
        await commands.create_category(database, "Cheese", "grocery")
        new = NewProduct(
            product_id=f"p{attempt}",
            name="Brie",
            category_id="grocery.cheese",
            weight_grams=200,
            price=Money(amount=Decimal("5.00")),
        )
        results = await asyncio.gather(
            create(database, cache, new),
            commands.delete_category(database, "grocery.cheese"),
            return_exceptions=True,
        )
        assert [isinstance(result, Refusal) for result in results].count(True) == 1
        if not isinstance(results[0], Refusal):
            await commands.delete_product(database, cache, new.product_id)
            await commands.delete_category(database, "grocery.cheese")


async def test_levels_of_the_tree(database: Database, cache: ProductCache) -> None:
    await commands.create_category(database, "Grocery")
    await commands.create_category(database, "Cheese", "grocery")
    refusals = {
        ErrorCode.CATEGORY_UNKNOWN: [
            commands.create_category(database, "Soft", "grocery.cheese"),
            commands.create_category(database, "Soft", "nowhere"),
            commands.change_category(database, cache, "grocery.cheese", "x", "grocery.cheese"),
        ],
        ErrorCode.CONFLICT: [
            commands.create_category(database, "GROCERY"),
            commands.change_category(database, cache, "grocery", "Grocery", "grocery"),
            commands.change_category(database, cache, "grocery.cheese", "Cheese", None),
        ],
    }
    for code, attempts in refusals.items():
        for attempt in attempts:
            with pytest.raises(Refusal) as refused:
                await attempt
            assert refused.value.code == code


async def test_search(database: Database, cache: ProductCache) -> None:
    await load(
        database,
        cache,
        product("1", "Vanilla Ice Cream", category="Frozen"),
        product("2", "Chocolate Ice Cream", category="Frozen"),
        product("3", "Cones", category="Ice Cream Extras", brand="Private"),
        product("4", "Dinners/Entrees Beef", category="Frozen", price="9.99"),
    )
    assert await names(database, q="ice cream") == ["Vanilla Ice Cream", "Chocolate Ice Cream", "Cones"]  # the name counts more
    assert await names(database, q='"ice cream" -chocolate -cones') == ["Vanilla Ice Cream"]
    assert await names(database, q="entree") == ["Dinners/Entrees Beef"]
    assert await names(database, q="dinners/entrees") == ["Dinners/Entrees Beef"]
    assert await names(database, q="private") == ["Cones"]
    assert await names(database, q="frozen", max_price=Decimal(3)) == ["Vanilla Ice Cream", "Chocolate Ice Cream"]
    assert await names(database, min_price=Decimal("9.99")) == ["Dinners/Entrees Beef"]
    assert await names(database, min_price=Decimal(1), currency="EUR") == []
    assert await names(database, category="grocery.ice-cream-extras") == ["Cones"]
    assert len(await names(database, category="grocery")) == 4
    assert await names(database, q="the") == []
    assert await names(database, q="'' & | ! : * ( <-> \\") == []


async def test_pages_of_a_search_neither_skip_nor_repeat(database: Database, cache: ProductCache) -> None:
    goods = [product(str(n), "Milk " * (1 + n % 3), category="Milk" if n % 2 else "Cheese") for n in range(30)]
    await load(database, cache, *goods)
    for q in (None, "milk"):
        seen: list[str] = []
        cursor = None
        while True:
            page = await queries.list_products(
                database, q=q, category=None, min_price=None, max_price=None, currency="USD", cursor=cursor, limit=7
            )
            seen += [item.product_id for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == 30
        assert set(seen) == {str(n) for n in range(30)}


def test_prices_that_cannot_be_paid_are_refused() -> None:
    from pydantic import TypeAdapter, ValidationError

    price = TypeAdapter(Price)
    assert price.validate_python({"amount": "1.250", "currency": "USD"}).minor == 125
    for amount, currency in [("0", "USD"), ("-1", "USD"), ("1.005", "USD"), ("1.5", "JPY"), ("NaN", "USD"), ("1", "usd")]:
        with pytest.raises(ValidationError):
            price.validate_python({"amount": amount, "currency": currency})


async def prices_of(database: Database, product_id: str) -> list[tuple[str, bool]]:
    """Each price that it ever had, oldest first, and whether that is over. Each begins when the one before ends, or later."""
    query = select(PricePeriod).where(PricePeriod.product_id == product_id).order_by(col(PricePeriod.valid_from))
    async with database.reading() as session:
        periods = (await session.exec(query)).all()
    for one, following in itertools.pairwise(periods):
        assert one.valid_to is not None
        assert one.valid_from < one.valid_to <= following.valid_from
    prices = [Money.from_minor(period.amount_minor, period.currency) for period in periods]
    return [(str(price), period.valid_to is not None) for price, period in zip(prices, periods, strict=True)]


async def test_g8_every_price_that_a_product_had_is_kept(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1", price="2.00"), product("2", price="1.00"))
    await load(database, cache, product("1", price="3.00"), product("2", "Renamed", price="1.00"))
    await commands.set_price(database, cache, "1", Price(amount=Decimal("4.00")))
    await commands.set_price(database, cache, "1", Price(amount=Decimal("4.00")))
    await commands.change_product(database, cache, "1", {"name": "Gouda"})
    assert await prices_of(database, "1") == [("2.00 USD", True), ("3.00 USD", True), ("4.00 USD", False)]
    assert await prices_of(database, "2") == [("1.00 USD", False)]
    await commands.delete_product(database, cache, "1")
    back = NewProduct(
        product_id="1", name="Brie", weight_grams=200, category_id="grocery.cheese", price=Price(amount=Decimal("5.00"))
    )
    await create(database, cache, back)
    assert await prices_of(database, "1") == [
        ("2.00 USD", True), ("3.00 USD", True), ("4.00 USD", True), ("5.00 USD", False),
    ]  # fmt: skip


async def test_changes_of_a_price_at_once_leave_one_current_price(database: Database, cache: ProductCache) -> None:
    await load(database, cache, product("1", price="1.00"))
    await asyncio.gather(*[commands.set_price(database, cache, "1", Price(amount=Decimal(n))) for n in range(2, 12)])
    *past, current = await prices_of(database, "1")
    assert len(past) == 10
    assert all(is_over for _, is_over in past)
    assert current == (str((await stored(database, "1")).price), False)
