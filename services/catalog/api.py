"""The catalogue over HTTP. Everybody may read; admins change it; the platform's services look products up."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from chassis.dependencies import Db
from chassis.idempotency import OptionalKey
from chassis.paging import Cursor, Limit
from chassis.tokens import require
from contracts.base import NO_CONTROLS, ProductId
from contracts.catalog import LookUpProducts, ProductsFound
from contracts.identity import Role
from contracts.money import Amount, Currency
from contracts.paging import Page
from services.catalog import commands, queries
from services.catalog.cache import Products
from services.catalog.schemas import (
    CategoryChange,
    CategoryId,
    CategoryView,
    ImportRequest,
    ImportResult,
    NewCategory,
    NewProduct,
    Price,
    ProductPatch,
    ProductView,
)

ADMIN = require(Role.ADMIN)
Search = Annotated[
    str,
    Query(
        min_length=1,
        max_length=200,
        pattern=NO_CONTROLS,
        description='Words of name, brand or category: `milk`, `"ice cream" -chocolate`, `beef or pork`.',
        examples=["cream cheese"],
    ),
]
InCategory = Annotated[CategoryId, Query(description="Of a category or a department.", examples=["grocery.cheese"])]
PriceLimit = Annotated[Amount, Query(ge=0)]
_if_match = Header(alias="If-Match", pattern=r'^"\d{1,9}"$', description="The ETag that you have seen.", examples=['"3"'])
IfMatch = Annotated[str, _if_match]
OptionalIfMatch = Annotated[str | None, _if_match]

public = APIRouter(prefix="/api/v1", tags=["catalog"])
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[require(Role.SERVICE)])


@public.get("/products", summary="Find products")
async def list_products(
    db: Db,
    q: Search | None = None,
    category: InCategory | None = None,
    min_price: PriceLimit | None = None,
    max_price: PriceLimit | None = None,
    currency: Annotated[Currency, Query(description="Of the price limits.")] = "USD",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ProductView]:
    return await queries.list_products(
        db,
        q=q,
        category=category,
        min_price=min_price,
        max_price=max_price,
        currency=currency,
        cursor=cursor,
        limit=limit,
    )


@public.get(
    "/products/{product_id}",
    response_model=ProductView,
    responses={304: {"description": "The ETag in If-None-Match is still the product's"}},
    summary="Get a product",
)
async def get_product(request: Request, product_id: ProductId) -> Response:
    # The most frequent request of a shop: what it needs is taken from the request itself, which is quicker than by dependencies.
    product = await queries.get_product(request.app.state.database, request.app.state.products, product_id)
    headers = {"ETag": product.etag, "Cache-Control": "no-cache"}
    if product.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(product.json, media_type="application/json", headers=headers)


@public.post("/products", status_code=201, dependencies=[ADMIN], summary="Put a product on sale")
async def create_product(db: Db, products: Products, new: NewProduct, key: OptionalKey, response: Response) -> ProductView:
    return _with_etag(response, await commands.create_product(db, products, new, key))


@public.post("/products/import", dependencies=[ADMIN], summary="Create or change up to 1000 products")
async def import_products(db: Db, products: Products, request: ImportRequest, key: OptionalKey) -> ImportResult:
    return await commands.import_products(db, products, request, key)


@public.patch("/products/{product_id}", dependencies=[ADMIN], summary="Change what describes a product")
async def change_product(
    db: Db, products: Products, product_id: ProductId, patch: ProductPatch, if_match: IfMatch, response: Response
) -> ProductView:
    return _with_etag(response, await commands.change_product(db, products, product_id, patch, _version(if_match)))


@public.put("/products/{product_id}/price", dependencies=[ADMIN], summary="Set a product's price")
async def set_price(
    db: Db, products: Products, product_id: ProductId, price: Price, response: Response, if_match: OptionalIfMatch = None
) -> ProductView:
    return _with_etag(response, await commands.set_price(db, products, product_id, price, _version(if_match)))


@public.delete("/products/{product_id}", status_code=204, dependencies=[ADMIN], summary="Take a product off sale")
async def delete_product(db: Db, products: Products, product_id: ProductId, if_match: OptionalIfMatch = None) -> None:
    await commands.delete_product(db, products, product_id, _version(if_match))


@public.get("/categories", summary="List departments and categories")
async def list_categories(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[CategoryView]:
    return await queries.list_categories(db, cursor, limit)


@public.post("/categories", status_code=201, dependencies=[ADMIN], summary="Add a department or a category")
async def create_category(db: Db, new: NewCategory, key: OptionalKey) -> CategoryView:
    return await commands.create_category(db, new, key)


@public.put("/categories/{category_id}", dependencies=[ADMIN], summary="Rename or move a category")
async def change_category(db: Db, products: Products, category_id: CategoryId, change: CategoryChange) -> CategoryView:
    return await commands.change_category(db, products, category_id, change)


@public.delete("/categories/{category_id}", status_code=204, dependencies=[ADMIN], summary="Remove an empty category")
async def delete_category(db: Db, category_id: CategoryId) -> None:
    await commands.delete_category(db, category_id)


@internal.post("/products/lookup", summary="Names, prices and weights of products")
async def look_up_products(db: Db, command: LookUpProducts) -> ProductsFound:
    return await queries.look_up_products(db, command.product_ids)


def _version(if_match: str | None) -> int | None:
    return int(if_match.strip('"')) if if_match else None


def _with_etag(response: Response, view: ProductView) -> ProductView:
    response.headers["ETag"] = f'"{view.version}"'
    return view
