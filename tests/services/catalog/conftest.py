"""The catalogue on a fresh database, with a real Valkey that is emptied for each test."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import redis.asyncio as redis

from chassis.cache import Cache, redis_client
from chassis.database import Database
from contracts.money import Money
from embedded import valkey as embedded_valkey
from services.catalog import commands
from services.catalog.app import CatalogSettings, build
from services.catalog.cache import PREFIX, ProductCache
from services.catalog.schemas import ImportedProduct, ImportResult
from tests.conftest import Databases, TokenMint, emptied, running_api


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with embedded_valkey.running(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest_asyncio.fixture
async def redis_connection(valkey: str) -> AsyncIterator["redis.Redis"]:
    async with redis_client(valkey) as connection:
        await emptied(connection)
        yield connection


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("catalog"), pool_size=20)
    yield database
    await database.close()


@pytest.fixture
def cache(redis_connection: "redis.Redis") -> ProductCache:
    return ProductCache(Cache(redis_connection, PREFIX, 60))


@pytest_asyncio.fixture
async def client(
    databases: Databases, mint: TokenMint, valkey: str, redis_connection: "redis.Redis"
) -> AsyncIterator[httpx2.AsyncClient]:
    settings = CatalogSettings(database_url=await databases.new("catalog"), redis_url=valkey)
    async with running_api(build(settings), mint) as client:
        yield client


def product(product_id: str, name: str = "Cream Cheese, 8 oz", price: str = "2.09", **fields: Any) -> ImportedProduct:
    defaults = {"department": "Grocery", "category": "Cheese", "brand": "National", "package_size": "8 OZ", "weight_grams": 227}
    return ImportedProduct(product_id=product_id, name=name, price=Money(amount=Decimal(price)), **{**defaults, **fields})


async def load(database: Database, cache: ProductCache, *products: ImportedProduct) -> ImportResult:
    rows = [commands.ImportRow(row.product_id, row.details, row.department, row.category, row.price) for row in products]
    return ImportResult.model_validate(await commands.import_products(database, cache, rows), from_attributes=True)
