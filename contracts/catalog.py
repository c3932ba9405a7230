"""Catalogue look-ups by other services."""

from typing import Annotated

from pydantic import Field

from contracts.base import Contract, ProductId, Request
from contracts.money import Money


class LookUpProducts(Request):
    """Body of `POST /internal/v1/products/lookup`."""

    product_ids: Annotated[list[ProductId], Field(min_length=1, max_length=100)]


class CatalogProduct(Contract):
    """What an order needs to know of a product."""

    product_id: ProductId
    name: str
    price: Money
    weight_grams: int


class ProductsFound(Contract):
    """Reply: the products found, and the ids that no product on sale has."""

    products: list[CatalogProduct]
    missing: list[ProductId] = Field(default_factory=list)
