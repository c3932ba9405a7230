"""What runs in the catalog process: the API and the relay."""

from typing import Annotated

from pydantic import Field

from chassis.cache import Cache, redis_client
from chassis.database import Database
from chassis.dependencies import provide
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.catalog import api
from services.catalog.access import ACCESS
from services.catalog.cache import PREFIX, ProductCache
from services.catalog.model import metadata


class CatalogSettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_CATALOG")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_CATALOG")
    redis_url: str = "redis://127.0.0.1:6379/0"
    catalog_cache_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    """How long a product is cached; also the longest that an old price could be seen if Redis fails while it changes."""


def build(settings: CatalogSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    redis = redis_client(settings.redis_url)
    # Redis is not among the checks: without it the catalogue is slower, and right.
    app = new_app("Catalog", "Products, categories and prices.", [api.public, api.internal], {"database": database.ping}, ACCESS)
    provide(app, ProductCache, ProductCache(Cache(redis, PREFIX, settings.catalog_cache_seconds)))
    return Service(name="catalog", settings=settings, metadata=metadata, api=app, database=database, resources=[redis])


if __name__ == "__main__":
    run_service(build(CatalogSettings()))
