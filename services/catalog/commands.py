"""What changes the catalogue. Each function is one transaction; the cache forgets what changed right after its commit.

Departments are locked first, then categories, then products, each in the order of their ids: so no two wait for each other, what
a product repeats of its category stays true, and nothing is put into a category that is being deleted.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ARRAY, String, any_, bindparam
from sqlmodel import col

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.statements import locked, sql
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, PriceChanged, ProductCreated, ProductDeleted
from contracts.money import Money
from services.catalog.cache import ProductCache
from services.catalog.model import (
    Category,
    Product,
    category_id_for,
    category_unknown,
    idempotency,
    outbox,
    place,
    unknown_category,
    unknown_product,
)

_IDS = any_(bindparam("ids", type_=ARRAY(String)))
_PRODUCTS = locked(Product, col(Product.product_id) == _IDS)
_CATEGORIES = locked(Category, col(Category.category_id) == _IDS)
_DEPARTMENTS_OF = sql("""
    select distinct parent_id from categories where category_id = any(cast(:ids as text[])) and parent_id is not null
""")
_ADD_CATEGORIES = sql("""
    insert into categories (category_id, name, parent_id)
    select id, name, parent
    from unnest(cast(:ids as text[]), cast(:names as text[]), cast(:parents as text[])) as new (id, name, parent)
    order by id on conflict do nothing returning category_id
""")
_SHOW_PLACE = sql("""
    with inside as (
        select product_id from products where category_id = :category_id or department_id = :category_id
        order by product_id for update
    )
    update products
    set category = coalesce(:category, category), department_id = :department_id, department = :department, version = version + 1
    from inside where products.product_id = inside.product_id returning products.product_id
""")
"""A department has tens of thousands of products: what they repeat of it is changed where they are."""
_INSIDE = sql("""
    select (select count(*) from categories where parent_id = :category_id) as categories,
           (select count(*) from products
            where (category_id = :category_id or department_id = :category_id) and deleted_at is null) as products
""")
# By the database's clock, and not the time at which the transaction began: it may have waited since for one that began later.
_END_PRICES = sql("""
    update price_history set valid_to = clock_timestamp() where product_id = any(cast(:ids as text[])) and valid_to is null
""")
_BEGIN_PRICES = sql("""
    insert into price_history (product_id, amount_minor, currency, valid_from)
    select product_id, amount_minor, currency, clock_timestamp() from products where product_id = any(cast(:ids as text[]))
""")

P = ParamSpec("P")
Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A product as an import brings it: department and category by name."""

    product_id: str
    details: Mapping[str, Any]
    department: str
    category: str
    price: Money

    @property
    def department_id(self) -> str:
        return category_id_for(self.department, None)

    @property
    def category_id(self) -> str:
        return category_id_for(self.category, self.department_id)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: how many products of each. `skipped` were deleted earlier."""

    created: int
    updated: int
    unchanged: int
    skipped: int


def product_transaction(
    change: Callable[Concatenate[UnitOfWork, str, P], Awaitable[Reply]],
) -> Callable[Concatenate[Database, ProductCache, str, P], Awaitable[Reply]]:
    """Makes a function a command on one product, which the cache forgets right after the commit."""
    in_database = transaction(change)

    @wraps(change)
    async def run(database: Database, cache: ProductCache, product_id: str, /, *args: P.args, **kwargs: P.kwargs) -> Reply:
        reply = await in_database(database, product_id, *args, **kwargs)
        await cache.drop([product_id])
        return reply

    return run


@product_transaction
async def create_product(
    work: UnitOfWork,
    product_id: str,
    details: Mapping[str, Any],
    category_id: str,
    price: Money,
    key: IdempotencyKey | None = None,
) -> Product:
    """Put a product on sale, or a deleted one again. Refusals: product_exists, category_unknown, idempotency_key_reused."""
    earlier = await idempotency.earlier_reply(work, key)
    if earlier is not None:
        return Product.model_validate(earlier)
    fields = {**details, **await _place(work, category_id)}
    product, is_new = await work.get_or_add(Product.new(product_id, fields, price))
    await _publish(work, product.created() if is_new else product.restore(fields, price))
    await idempotency.remember(work, key, product.model_dump(mode="json"))
    return product


@product_transaction
async def change_product(
    work: UnitOfWork,
    product_id: str,
    details: Mapping[str, Any],
    category_id: str | None = None,
    version: int | None = None,
) -> Product:
    """Change these details of a product, and its category if one is named.

    Refusals: not_found, stale_version, category_unknown."""
    fields = {**details, **(await _place(work, category_id) if category_id is not None else {})}
    product = await _on_sale(work, product_id, version)
    await _publish(work, product.change(fields))
    return product


@product_transaction
async def set_price(work: UnitOfWork, product_id: str, price: Money, version: int | None = None) -> Product:
    """Sell a product at this price from now on. Refusals: not_found, stale_version."""
    product = await _on_sale(work, product_id, version)
    await _publish(work, product.set_price(price))
    return product


@product_transaction
async def delete_product(work: UnitOfWork, product_id: str, version: int | None = None) -> None:
    """Take a product off sale. Refusals: not_found, stale_version."""
    product = await _on_sale(work, product_id, version)
    await _publish(work, product.delete())


async def import_products(
    database: Database, cache: ProductCache, rows: Sequence[ImportRow], key: IdempotencyKey | None = None
) -> Imported:
    """Create products, or bring them to what is said here, with the categories that they need; all or nothing.

    Refusal: idempotency_key_reused.
    """
    try:
        result, changed = await _import(database, rows, key)
    except AlreadyThere:  # somebody else has created one of these products meanwhile; now it is found
        result, changed = await _import(database, rows, key)
    await cache.drop(changed)
    return result


@transaction
async def _import(work: UnitOfWork, rows: Sequence[ImportRow], key: IdempotencyKey | None) -> tuple[Imported, list[str]]:
    """What it did, and which products it created or changed."""
    earlier = await idempotency.earlier_reply(work, key)
    if earlier is not None:
        return Imported(**earlier), []
    places = await _make_places(work, rows)
    stored = {product.product_id: product for product in await work.all(_PRODUCTS, ids=[row.product_id for row in rows])}
    created: list[str] = []
    updated: list[str] = []
    skipped = 0
    events: list[Event] = []
    for row in sorted(rows, key=lambda row: row.product_id):  # so that two imports of new products do not wait for each other
        fields = {**row.details, **places[row.category_id]}
        product = stored.get(row.product_id)
        if product is None:
            product = Product.new(row.product_id, fields, row.price)
            work.add(product)
            created.append(row.product_id)
            events.append(product.created())
        elif product.deleted_at is not None:
            skipped += 1
        elif changes := [event for event in (product.change(fields), product.set_price(row.price)) if event]:
            updated.append(row.product_id)
            events.extend(changes)
    await _publish(work, *events)
    unchanged = len(rows) - len(created) - len(updated) - skipped
    result = Imported(created=len(created), updated=len(updated), unchanged=unchanged, skipped=skipped)
    await idempotency.remember(work, key, asdict(result))
    return result, [*created, *updated]


@transaction
async def create_category(
    work: UnitOfWork, name: str, parent_id: str | None = None, key: IdempotencyKey | None = None
) -> Category:
    """Add a department or a category. Refusals: conflict (it exists), category_unknown (the parent), idempotency_key_reused."""
    earlier = await idempotency.earlier_reply(work, key)
    if earlier is not None:
        return Category.model_validate(earlier)
    if parent_id is not None:
        _require_department(await work.get(Category, parent_id), parent_id)
    category, is_new = await work.get_or_add(Category.new(name, parent_id))
    if not is_new:
        raise Refusal(ErrorCode.CONFLICT, f"There is a category {category.category_id} already.")
    await idempotency.remember(work, key, category.model_dump())
    return category


async def change_category(
    database: Database,
    cache: ProductCache,
    category_id: str,
    name: str,
    parent_id: str | None,
    version: int | None = None,
) -> Category:
    """Rename a category, or move it to another department; its products show that.

    Refusals: not_found, stale_version, conflict (its level cannot change), category_unknown (the department)."""
    category, product_ids = await _change_category(database, category_id, name, parent_id, version)
    await cache.drop(product_ids)
    return category


@transaction
async def _change_category(
    work: UnitOfWork, category_id: str, name: str, parent_id: str | None, version: int | None
) -> tuple[Category, list[str]]:
    """The category, and which products show the change."""
    parent = await work.get(Category, parent_id) if parent_id is not None else None
    category = await _existing(work, category_id, version)
    department = category if parent_id is None else _require_department(parent, parent_id)
    if not category.move(name, parent_id):
        return category, []
    shown = await work.rows(
        _SHOW_PLACE,
        category_id=category_id,
        category=None if category.is_department else category.name,
        department_id=department.category_id,
        department=department.name,
    )
    return category, [row["product_id"] for row in shown]


@transaction
async def delete_category(work: UnitOfWork, category_id: str, version: int | None = None) -> None:
    """Remove a category that nothing is in. Refusals: not_found, stale_version, category_in_use."""
    category = await _existing(work, category_id, version)
    [inside] = await work.rows(_INSIDE, category_id=category_id)
    if any(inside.values()):
        raise Refusal(
            ErrorCode.CATEGORY_IN_USE, "Something is still in this category; move or delete that first.", extra=dict(inside)
        )
    await work.delete(category)


async def _on_sale(work: UnitOfWork, product_id: str, version: int | None) -> Product:
    product = await work.get(Product, product_id)
    if product is None:
        raise unknown_product()
    product.require_on_sale()
    product.require_version(version)
    return product


async def _publish(work: UnitOfWork, *changes: Event | None) -> None:
    """Add the events, and what they say of prices to the price history."""
    events = [event for event in changes if event is not None]
    outbox.add(work, *events)
    if over := [event.product_id for event in events if isinstance(event, PriceChanged | ProductDeleted)]:
        await work.rows(_END_PRICES, ids=over)
    if begun := [event.product_id for event in events if isinstance(event, ProductCreated | PriceChanged)]:
        await work.rows(_BEGIN_PRICES, ids=begun)


async def _categories(work: UnitOfWork, category_ids: Iterable[str], department_ids: Iterable[str] = ()) -> dict[str, Category]:
    """Those of these that there are, with the departments that the categories are in; locked."""
    ids = list(category_ids)
    departments = {row["parent_id"] for row in await work.rows(_DEPARTMENTS_OF, ids=ids)} | set(department_ids)
    found = [*await work.all(_CATEGORIES, ids=list(departments)), *await work.all(_CATEGORIES, ids=ids)]
    moved_to = {category.parent_id for category in found if category.parent_id is not None} - departments
    if moved_to:  # while we waited; that somebody waits for us meanwhile is too rare to be avoided, and only costs time
        found += await work.all(_CATEGORIES, ids=list(moved_to))
    return {category.category_id: category for category in found}


async def _existing(work: UnitOfWork, category_id: str, version: int | None) -> Category:
    category = await work.get(Category, category_id)
    if category is None:
        raise unknown_category()
    category.require_version(version)
    return category


def _require_department(department: Category | None, category_id: str) -> Category:
    if department is None or not department.is_department:
        raise category_unknown(category_id)
    return department


async def _place(work: UnitOfWork, category_id: str) -> dict[str, str]:
    found = await _categories(work, [category_id])
    category = found.get(category_id)
    if category is None or category.parent_id is None:
        raise category_unknown(category_id)
    return place(category, found[category.parent_id])


async def _make_places(work: UnitOfWork, rows: Iterable[ImportRow]) -> dict[str, dict[str, str]]:
    """The place of each category named in `rows`, by the category's id; makes the categories that are missing."""
    departments = {row.department_id: Category.new(row.department, None) for row in rows}
    categories = {row.category_id: Category.new(row.category, row.department_id) for row in rows}
    # Which categories an import needs shows only while it reads them, and two would read them in different orders.
    await work.lock("categories of an import")
    found = await _categories(work, categories, departments)
    missing = [category for category_id, category in (departments | categories).items() if category_id not in found]
    if missing:
        added = await work.rows(
            _ADD_CATEGORIES,
            ids=[category.category_id for category in missing],
            names=[category.name for category in missing],
            parents=[category.parent_id for category in missing],
        )
        if len(added) < len(missing):  # somebody else has added some of them meanwhile
            found = await _categories(work, categories, departments)
        else:
            found |= {category.category_id: category for category in missing}
    # Staff may have moved a category since it was made: what counts is where it is now.
    return {
        category_id: place(category, found[category.parent_id])
        for category_id, category in found.items()
        if category.parent_id is not None
    }
