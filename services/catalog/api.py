"""The catalogue over HTTP: the public endpoints, and where the platform's services look products up."""

from typing import Annotated

from fastapi import Query, Request, Response

from chassis.database import Database
from chassis.dependencies import Db, from_app, provided
from chassis.etags import OptionalSeenVersion, SeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.idempotency import OptionalKey
from chassis.paging import Cursor, Limit
from contracts.base import NO_CONTROLS, ProductId
from contracts.catalog import LookUpProducts, ProductsFound
from contracts.money import Amount, Currency
from contracts.paging import Page
from services.catalog import commands, queries
from services.catalog.access import ACCESS
from services.catalog.cache import ProductCache
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
Products = Annotated[ProductCache, from_app(ProductCache)]

public = ACCESS.router(prefix="/api/v1", tags=["catalog"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


@public.get("/products", summary="Find products")
async def list_products(
    db: MayLag,
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
    product = await queries.get_product(provided(request.app, Database), provided(request.app, ProductCache), product_id)
    headers = {"ETag": product.etag, "Cache-Control": "no-cache"}
    if product.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(product.json, media_type="application/json", headers=headers)


@public.post("/products", status_code=201, summary="Put a product on sale")
async def create_product(db: Db, products: Products, new: NewProduct, key: OptionalKey, response: Response) -> ProductView:
    product = await commands.create_product(db, products, new.product_id, new.details, new.category_id, new.price, key)
    return tagged(response, ProductView.of(product))


@public.post("/products/import", summary="Create or change up to 1000 products")
async def import_products(db: Db, products: Products, request: ImportRequest, key: OptionalKey) -> ImportResult:
    rows = [commands.ImportRow(row.product_id, row.details, row.department, row.category, row.price) for row in request.products]
    return ImportResult.model_validate(await commands.import_products(db, products, rows, key), from_attributes=True)


@public.patch("/products/{product_id}", summary="Change what describes a product")
async def change_product(
    db: Db, products: Products, product_id: ProductId, patch: ProductPatch, seen: SeenVersion, response: Response
) -> ProductView:
    with showing(ProductView.of):
        product = await commands.change_product(db, products, product_id, patch.details, patch.category_id, seen)
    return tagged(response, ProductView.of(product))


@public.put("/products/{product_id}/price", summary="Set a product's price")
async def set_price(
    db: Db, products: Products, product_id: ProductId, price: Price, response: Response, seen: OptionalSeenVersion
) -> ProductView:
    with showing(ProductView.of):
        product = await commands.set_price(db, products, product_id, price, seen)
    return tagged(response, ProductView.of(product))


@public.delete("/products/{product_id}", status_code=204, summary="Take a product off sale")
async def delete_product(db: Db, products: Products, product_id: ProductId, seen: OptionalSeenVersion) -> None:
    with showing(ProductView.of):
        await commands.delete_product(db, products, product_id, seen)


@public.get("/categories", summary="List departments and categories")
async def list_categories(db: MayLag, cursor: Cursor = None, limit: Limit = 50) -> Page[CategoryView]:
    return await queries.list_categories(db, cursor, limit)


@public.get("/categories/{category_id}", summary="Get a department or a category")
async def get_category(db: Db, category_id: CategoryId, response: Response) -> CategoryView:
    return tagged(response, await queries.get_category(db, category_id))


@public.post("/categories", status_code=201, summary="Add a department or a category")
async def create_category(db: Db, new: NewCategory, key: OptionalKey, response: Response) -> CategoryView:
    return tagged(response, CategoryView.of(await commands.create_category(db, new.name, new.parent_id, key)))


@public.put("/categories/{category_id}", summary="Rename or move a category")
async def change_category(
    db: Db,
    products: Products,
    category_id: CategoryId,
    change: CategoryChange,
    response: Response,
    seen: OptionalSeenVersion,
) -> CategoryView:
    with showing(CategoryView.of):
        category = await commands.change_category(db, products, category_id, change.name, change.parent_id, seen)
    return tagged(response, CategoryView.of(category))


@public.delete("/categories/{category_id}", status_code=204, summary="Remove an empty category")
async def delete_category(db: Db, category_id: CategoryId, seen: OptionalSeenVersion) -> None:
    with showing(CategoryView.of):
        await commands.delete_category(db, category_id, seen)


@internal.post("/products/lookup", summary="Names, prices and weights of products")
async def look_up_products(db: Db, command: LookUpProducts) -> ProductsFound:
    return await queries.look_up_products(db, command.product_ids)
