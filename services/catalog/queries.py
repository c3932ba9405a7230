"""Reads of the catalogue."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, String, any_, bindparam, func, literal, literal_column, tuple_
from sqlmodel import col, or_, select

from chassis.database import Database, Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from chassis.statements import prepared
from contracts.catalog import CatalogProduct, ProductsFound
from contracts.money import MINOR_DIGITS, Money
from contracts.paging import Page
from services.catalog.cache import ProductBytes, ProductCache
from services.catalog.model import Category, Product, metadata, unknown_category, unknown_product
from services.catalog.schemas import CategoryView, ProductView

_search = metadata.tables["products"].c.search


async def get_product(database: Database, cache: ProductCache, product_id: str) -> ProductBytes:
    """A product on sale, ready to send. Refusal: not_found."""
    found = await _ready_to_send(database, cache, [product_id])
    if product_id not in found:
        raise unknown_product()
    return found[product_id]


async def look_up_products(database: Database, product_ids: Sequence[str]) -> ProductsFound:
    """What an order needs to know of these products, in their order, each once; and the ids that no product on sale has.

    From the database: whoever can write into Redis must not decide what is paid.
    """
    wanted = list(dict.fromkeys(product_ids))
    found = {
        product_id: CatalogProduct(
            product_id=product_id, name=name, price=Money.from_minor(amount_minor, currency), weight_grams=weight_grams
        )
        for product_id, name, amount_minor, currency, weight_grams in await database.rows(_TO_ORDER, ids=wanted)
    }
    return ProductsFound(
        products=[found[key] for key in wanted if key in found], missing=[key for key in wanted if key not in found]
    )


async def _ready_to_send(database: Database, cache: ProductCache, product_ids: Sequence[str]) -> dict[str, ProductBytes]:
    found = await cache.get_many(product_ids)
    absent = [key for key in product_ids if key not in found]
    if absent:
        async with database.reading() as session:
            products = (await session.exec(select(Product).where(*_on_sale(absent)))).all()
        found |= await cache.put_many(products)
    return found


def _on_sale(product_ids: Sequence[str] | ColumnElement[Any]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    # An array, and not `in (…)`, is one statement for PostgreSQL to prepare, whatever the number of ids.
    ids = product_ids if isinstance(product_ids, ColumnElement) else literal(product_ids, ARRAY(String))
    return col(Product.product_id) == any_(ids), col(Product.deleted_at).is_(None)


_columns: Any = (Product.product_id, Product.name, Product.amount_minor, Product.currency, Product.weight_grams)
_TO_ORDER = prepared(select(*_columns).where(*_on_sale(bindparam("ids", type_=ARRAY(String)))))


@may_lag
async def list_products(
    database: Reader,
    *,
    q: str | None,
    category: str | None,
    min_price: Decimal | None,
    max_price: Decimal | None,
    currency: str,
    cursor: str | None,
    limit: int,
) -> Page[ProductView]:
    """Products on sale: by id, or with `q` the best match first.

    `q` is searched in name, brand, category and department, as a web search would: `"ice cream" -chocolate`.
    `category` may be a department. A price limit leaves out what is priced in another currency.
    """
    conditions: list[ColumnElement[bool]] = [col(Product.deleted_at).is_(None)]
    if category:
        conditions.append(or_(col(Product.category_id) == category, col(Product.department_id) == category))
    if min_price is not None:
        conditions.append(col(Product.amount_minor) >= _minor(min_price, currency, ROUND_CEILING))
    if max_price is not None:
        conditions.append(col(Product.amount_minor) <= _minor(max_price, currency, ROUND_FLOOR))
    if min_price is not None or max_price is not None:
        conditions.append(col(Product.currency) == currency)
    if q is not None:
        return await _search_products(database, q, conditions, cursor, limit)
    query = select(Product).where(*conditions).order_by(Product.product_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Product.product_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, ProductView.of, lambda row: (row.product_id,))


def _minor(limit: Decimal, currency: str, rounding: str) -> int:
    """A limit in minor units; one between two coins becomes the coin that is still within it."""
    return int(limit.scaleb(MINOR_DIGITS.get(currency, 2)).to_integral_value(rounding))


async def _search_products(
    database: Reader, q: str, conditions: Sequence[ColumnElement[bool]], cursor: str | None, limit: int
) -> Page[ProductView]:
    words = func.websearch_to_tsquery(literal_column("'english'::regconfig"), func.translate(q, "/", " "))
    # Negative, so that the best comes first in the same direction in which ids rise.
    rank = -func.ts_rank(_search, words)
    query = select(Product, rank).where(*conditions, _search.op("@@")(words)).order_by(rank, Product.product_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.RANK, KeyPart.TEXT)
    if after:
        query = query.where(tuple_(rank, col(Product.product_id)) > after)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, lambda row: ProductView.of(row[0]), lambda row: (row[1], row[0].product_id))


async def get_category(database: Database, category_id: str) -> CategoryView:
    """A department or a category. Refusal: not_found."""
    async with database.reading() as session:
        category = await session.get(Category, category_id)
    if category is None:
        raise unknown_category()
    return CategoryView.of(category)


@may_lag
async def list_categories(database: Reader, cursor: str | None, limit: int) -> Page[CategoryView]:
    """Departments and categories by id: each department is followed by what is in it."""
    query = select(Category).order_by(Category.category_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.TEXT)
    if after:
        query = query.where(col(Category.category_id) > after[0])
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, CategoryView.of, lambda row: (row.category_id,))
