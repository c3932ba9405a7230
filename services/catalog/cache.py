"""Products as they go to clients, ready to send, in Redis.

An entry is the version, a line feed, and the JSON of a `ProductView`. A hit costs one round trip: nothing is parsed, checked or
written anew. What is not on sale is not cached.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from chassis.cache import Cache
from chassis.etags import etag
from services.catalog.model import Product
from services.catalog.schemas import ProductView

PREFIX = "catalog:"


@dataclass(frozen=True, slots=True)
class ProductBytes:
    """One product, ready to send."""

    etag: str
    json: bytes

    @classmethod
    def of(cls, product: Product) -> Self:
        return cls(etag(product.version), ProductView.of(product).model_dump_json().encode())


class ProductCache:
    """The products that were asked for lately, by id."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get_many(self, product_ids: Sequence[str]) -> dict[str, ProductBytes]:
        """Those that are cached."""
        return {key: _unpack(value) for key, value in (await self._cache.get_many(product_ids)).items()}

    async def put_many(self, products: Iterable[Product]) -> dict[str, ProductBytes]:
        """Cache products as just read from the database; returns them ready to send."""
        fresh = {product.product_id: ProductBytes.of(product) for product in products}
        await self._cache.put_many({key: _pack(value) for key, value in fresh.items()})
        return fresh

    async def drop(self, product_ids: Sequence[str]) -> None:
        """Forget products that changed. Call it after the commit."""
        await self._cache.drop(*product_ids)


def _pack(value: ProductBytes) -> bytes:
    return value.etag.encode() + b"\n" + value.json


def _unpack(value: bytes) -> ProductBytes:
    etag, _, json = value.partition(b"\n")
    return ProductBytes(etag.decode(), json)
