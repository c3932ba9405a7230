"""What changes the catalogue. Each function is one transaction; the cache forgets what changed right after its commit.

Edits by staff are few: those that create, move or import go one after the other (`_EDITS`), the others lock the product's row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, String, any_, func, literal, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import Database, lock
from chassis.idempotency import IdempotencyKey
from contracts.errors import ErrorCode, Refusal
from contracts.events import Event, PriceChanged, ProductCreated, ProductDeleted
from contracts.money import Money
from services.catalog.cache import ProductCache
from services.catalog.model import (
    Category,
    PricePeriod,
    Product,
    category_id_for,
    category_unknown,
    idempotency,
    metadata,
    outbox,
    place,
)

_EDITS = "catalog edits"


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A product as an import brings it: department and category by name."""

    product_id: str
    details: Mapping[str, Any]
    department: str
    category: str
    price: Money

    @property
    def category_id(self) -> str:
        return category_id_for(self.category, category_id_for(self.department, None))


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: how many products of each. `skipped` were deleted earlier."""

    created: int
    updated: int
    unchanged: int
    skipped: int


async def create_product(
    database: Database,
    cache: ProductCache,
    product_id: str,
    details: Mapping[str, Any],
    category_id: str,
    price: Money,
    key: IdempotencyKey | None = None,
) -> Product:
    """Put a product on sale, or a deleted one again. Refusals: product_exists, category_unknown, idempotency_key_reused."""
    async with database.transaction() as session:
        earlier = await idempotency.earlier_reply(session, key)
        if earlier is not None:
            return Product.model_validate(earlier)
        await lock(session, _EDITS)
        fields = {**details, **await _place(session, category_id)}
        product = await session.get(Product, product_id, with_for_update=True)
        if product is None:
            product = Product.new(product_id, fields, price)
            session.add(product)
            event = product.created()
        else:
            event = product.restore(fields, price)
        await _publish(session, event)
        await idempotency.remember(session, key, product.model_dump(mode="json"))
    await cache.drop([product_id])
    return product


async def change_product(
    database: Database,
    cache: ProductCache,
    product_id: str,
    details: Mapping[str, Any],
    category_id: str | None = None,
    version: int | None = None,
) -> Product:
    """Change these details of a product, and its category if one is named.

    Refusals: not_found, stale_version, category_unknown."""
    async with database.transaction() as session:
        fields = dict(details)
        if category_id is not None:
            await lock(session, _EDITS)
            fields |= await _place(session, category_id)
        product = await _on_sale(session, product_id, version)
        await _publish(session, product.change(fields))
    await cache.drop([product_id])
    return product


async def set_price(
    database: Database, cache: ProductCache, product_id: str, price: Money, version: int | None = None
) -> Product:
    """Sell a product at this price from now on. Refusals: not_found, stale_version."""
    async with database.transaction() as session:
        product = await _on_sale(session, product_id, version)
        await _publish(session, product.set_price(price))
    await cache.drop([product_id])
    return product


async def delete_product(database: Database, cache: ProductCache, product_id: str, version: int | None = None) -> None:
    """Take a product off sale. Refusals: not_found, stale_version."""
    async with database.transaction() as session:
        product = await _on_sale(session, product_id, version)
        await _publish(session, product.delete())
    await cache.drop([product_id])


async def import_products(
    database: Database, cache: ProductCache, rows: Sequence[ImportRow], key: IdempotencyKey | None = None
) -> Imported:
    """Create what is missing, change what differs, leave the rest; doing it again changes nothing. In all, a few statements.

    Refusal: idempotency_key_reused.
    """
    async with database.transaction() as session:
        earlier = await idempotency.earlier_reply(session, key)
        if earlier is not None:
            return Imported(**earlier)
        await lock(session, _EDITS)
        places = await _make_places(session, rows)
        one_of = col(Product.product_id).in_([row.product_id for row in rows])
        query = select(Product).where(one_of).order_by(Product.product_id).with_for_update()
        stored = {product.product_id: product for product in await session.exec(query)}
        session.expunge_all()  # the changed ones are written together below; the session would write them one by one

        written: list[Product] = []
        events: list[Event] = []
        created = skipped = 0
        for row in rows:
            fields = {**row.details, **places[row.category_id]}
            product = stored.get(row.product_id)
            if product is None:
                product = Product.new(row.product_id, fields, row.price)
                written.append(product)
                events.append(product.created())
                created += 1
            elif product.deleted_at is not None:
                skipped += 1
            elif changes := [event for event in (product.change(fields), product.set_price(row.price)) if event]:
                product.version += 1
                written.append(product)
                events.extend(changes)
        if written:
            upsert = insert(metadata.tables[Product.__tablename__])
            replace = {name: upsert.excluded[name] for name in Product.model_fields}
            await session.execute(
                upsert.on_conflict_do_update(index_elements=["product_id"], set_=replace),
                [product.model_dump() for product in written],
            )
        await _publish(session, *events)
        updated = len(written) - created
        unchanged = len(rows) - created - updated - skipped
        result = Imported(created=created, updated=updated, unchanged=unchanged, skipped=skipped)
        await idempotency.remember(session, key, asdict(result))
    await cache.drop([product.product_id for product in written])
    return result


async def create_category(
    database: Database, name: str, parent_id: str | None = None, key: IdempotencyKey | None = None
) -> Category:
    """Add a department or a category. Refusals: conflict (it exists), category_unknown (the parent), idempotency_key_reused."""
    async with database.transaction() as session:
        earlier = await idempotency.earlier_reply(session, key)
        if earlier is not None:
            return Category.model_validate(earlier)
        await lock(session, _EDITS)
        if parent_id is not None:
            await _department(session, parent_id)
        category = Category(category_id=category_id_for(name, parent_id), name=name, parent_id=parent_id)
        if await session.get(Category, category.category_id) is not None:
            raise Refusal(ErrorCode.CONFLICT, f"There is a category {category.category_id} already.")
        session.add(category)
        await idempotency.remember(session, key, category.model_dump())
        return category


async def change_category(
    database: Database, cache: ProductCache, category_id: str, name: str, parent_id: str | None
) -> Category:
    """Rename a category, or move it to another department; its products show that.

    Refusals: not_found, conflict (its level cannot change), category_unknown (the department)."""
    async with database.transaction() as session:
        await lock(session, _EDITS)
        category = await _category(session, category_id)
        product_ids: Sequence[str] = []
        department = None if parent_id is None else await _department(session, parent_id)
        if category.move(name, parent_id):
            new = {"department": category.name} if department is None else place(category, department)
            product_ids = await _show_place(session, category, new)
    await cache.drop(product_ids)
    return category


async def delete_category(database: Database, category_id: str) -> None:
    """Remove a category that nothing is in. Refusals: not_found, category_in_use."""
    async with database.transaction() as session:
        await lock(session, _EDITS)
        category = await _category(session, category_id)
        inner = select(func.count()).select_from(Category).where(Category.parent_id == category_id)
        products = select(func.count()).select_from(Product).where(_is_in(category), col(Product.deleted_at).is_(None))
        counts = {"categories": (await session.exec(inner)).one(), "products": (await session.exec(products)).one()}
        if any(counts.values()):
            raise Refusal(
                ErrorCode.CATEGORY_IN_USE, "Something is still in this category; move or delete that first.", extra=counts
            )
        await session.delete(category)


async def _on_sale(session: AsyncSession, product_id: str, version: int | None) -> Product:
    product = await session.get(Product, product_id, with_for_update=True)
    if product is None or product.deleted_at is not None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such product.")
    product.require_version(version)
    return product


async def _publish(session: AsyncSession, *changes: Event | None) -> None:
    """Write the events down, and what they say of prices into the price history."""
    await session.flush()
    events = [event for event in changes if event is not None]
    await outbox.add(session, *events)
    repriced = [event.product_id for event in events if isinstance(event, ProductCreated | PriceChanged | ProductDeleted)]
    if not repriced:
        return
    one_of = literal(repriced, ARRAY(String))
    # Not the time at which the transaction began: it may have waited since for one that began later.
    now = func.clock_timestamp()
    over = update(PricePeriod).where(col(PricePeriod.product_id) == any_(one_of), col(PricePeriod.valid_to).is_(None))
    await session.exec(over.values(valid_to=now).execution_options(synchronize_session=False))
    prices: Any = select(Product.product_id, Product.amount, Product.currency, now)
    on_sale = prices.where(col(Product.product_id) == any_(one_of), col(Product.deleted_at).is_(None))
    await session.exec(insert(PricePeriod).from_select(["product_id", "amount", "currency", "valid_from"], on_sale))


async def _category(session: AsyncSession, category_id: str) -> Category:
    category = await session.get(Category, category_id)
    if category is None:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such category.")
    return category


async def _department(session: AsyncSession, category_id: str) -> Category:
    department = await session.get(Category, category_id)
    if department is None or not department.is_department:
        raise category_unknown(category_id)
    return department


async def _place(session: AsyncSession, category_id: str) -> dict[str, str]:
    category = await session.get(Category, category_id)
    if category is None or category.parent_id is None:
        raise category_unknown(category_id)
    return place(category, await _department(session, category.parent_id))


async def _make_places(session: AsyncSession, rows: Sequence[ImportRow]) -> dict[str, dict[str, str]]:
    """The place of each category named in `rows`, by the category's id; makes the categories that are missing."""
    departments = {category_id_for(row.department, None): row.department for row in rows}
    categories = {row.category_id: (row.category, category_id_for(row.department, None)) for row in rows}
    values = [{"category_id": key, "name": name, "parent_id": None} for key, name in departments.items()]
    values += [{"category_id": key, "name": name, "parent_id": parent} for key, (name, parent) in categories.items()]
    await session.exec(insert(Category).values(values).on_conflict_do_nothing())
    # Staff may have moved a category since it was made: what counts is where it is now.
    stored = {category.category_id: category for category in await session.exec(select(Category))}
    return {key: place(stored[key], stored[stored[key].parent_id or ""]) for key in categories}


async def _show_place(session: AsyncSession, category: Category, new: dict[str, str]) -> Sequence[str]:
    """Repeat a category's new name or place in its products; their ids."""
    # Locked in one fixed order first, as an import does, so that the two can never wait for each other.
    query = select(Product.product_id).where(_is_in(category)).order_by(Product.product_id).with_for_update()
    product_ids = (await session.exec(query)).all()
    change = update(Product).where(_is_in(category)).values(version=col(Product.version) + 1, **new)
    await session.exec(change.execution_options(synchronize_session=False))
    return product_ids


def _is_in(category: Category) -> ColumnElement[bool]:
    return or_(col(Product.category_id) == category.category_id, col(Product.department_id) == category.category_id)
