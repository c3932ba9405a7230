"""Bodies of the catalogue's public endpoints."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from contracts.base import LINES, NO_CONTROLS, Contract, ProductId, Request, ShortText
from contracts.money import Money
from services.catalog.model import Category, Product, slug


def _exact(price: Money) -> Money:
    if price.amount <= 0:
        raise ValueError("a price is more than nothing")
    if Money.from_minor(price.minor, price.currency).amount != price.amount:  # it would be kept as another price
        raise ValueError(f"{price.currency} has no such small coins")
    return price


def _sluggable(name: str) -> str:
    if not slug(name):
        raise ValueError("needs a Latin letter or a digit, for the id that is made from it")
    return name


Price = Annotated[Money, AfterValidator(_exact), Field(examples=[{"amount": "2.69", "currency": "USD"}])]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True, pattern=NO_CONTROLS)]
CategoryName = Annotated[Label, AfterValidator(_sluggable)]
CategoryId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,75}(\.[a-z0-9-]{1,75})?$")]
Description = Annotated[str, StringConstraints(min_length=1, max_length=5000, strip_whitespace=True, pattern=LINES)]
Weight = Annotated[int, Field(ge=1, le=1_000_000)]


class ProductDetails(Request):
    """What describes a product, its price and its place apart."""

    name: Annotated[ShortText, Field(examples=["National Cream Cheese, 8 oz"])]
    description: Description | None = None
    brand: Annotated[Label | None, Field(examples=["National"])] = None
    package_size: Annotated[Label | None, Field(examples=["8 OZ"])] = None
    weight_grams: Annotated[Weight, Field(examples=[227])]


_DETAILS = set(ProductDetails.model_fields)


class NewProduct(ProductDetails):
    """A product to be put on sale, or put on sale again after it was deleted."""

    product_id: Annotated[ProductId, Field(examples=["79289"])]
    category_id: Annotated[CategoryId, Field(examples=["grocery.cheese"])]
    """A category, not a department."""
    price: Price

    @property
    def details(self) -> dict[str, Any]:
        return self.model_dump(include=_DETAILS)


class ImportedProduct(ProductDetails):
    """A product as an import brings it: department and category by name; they come into being if they are new."""

    product_id: Annotated[ProductId, Field(examples=["79289"])]
    department: Annotated[CategoryName, Field(examples=["Grocery"])]
    category: Annotated[CategoryName, Field(examples=["Cheese"])]
    price: Price

    @property
    def details(self) -> dict[str, Any]:
        return self.model_dump(include=_DETAILS)


class ImportRequest(Request):
    """Products to be created, or brought to what is said here."""

    products: Annotated[list[ImportedProduct], Field(min_length=1, max_length=1000)]

    @field_validator("products")
    @classmethod
    def _each_product_once(cls, products: list[ImportedProduct]) -> list[ImportedProduct]:
        if len({product.product_id for product in products}) != len(products):
            raise ValueError("each product may stand in an import only once")
        return products


class ImportResult(Contract):
    """What an import did."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Deleted earlier; an import does not bring them back."""


class ProductPatch(Request):
    """The fields to change; those not named stay. `null` empties a field that may be empty."""

    name: Annotated[ShortText | None, Field(examples=["National Cream Cheese, 8 oz"])] = None
    description: Description | None = None
    category_id: CategoryId | None = None
    brand: Label | None = None
    package_size: Label | None = None
    weight_grams: Weight | None = None

    @field_validator("name", "category_id", "weight_grams")
    @classmethod
    def _cannot_be_empty(cls, value: object) -> object:
        if value is None:
            raise ValueError("cannot be null")
        return value

    @property
    def details(self) -> dict[str, Any]:
        """What to change, the category apart."""
        return self.model_dump(include=self.model_fields_set & _DETAILS)


class ProductView(Contract):
    """A product as everybody sees it."""

    product_id: ProductId
    name: str
    description: str | None
    category_id: str
    category: str
    department_id: str
    department: str
    brand: str | None
    package_size: str | None
    weight_grams: int
    price: Money
    version: int
    """Stands in the ETag; send it back as If-Match to change only what you have seen."""

    @classmethod
    def of(cls, product: Product) -> Self:
        return cls.model_validate(product, from_attributes=True)


class NewCategory(Request):
    """A category in the department `parent_id`; a department, without it."""

    name: Annotated[CategoryName, Field(examples=["Soft Cheese"])]
    parent_id: Annotated[CategoryId | None, Field(examples=["grocery"])] = None


class CategoryChange(Request):
    """A category's name, and the department that it is in; null for a department."""

    name: Annotated[CategoryName, Field(examples=["Cheese"])]
    parent_id: Annotated[CategoryId | None, Field(examples=["grocery"])]


class CategoryView(Contract):
    category_id: str
    name: str
    parent_id: str | None
    version: int
    """Stands in the ETag; send it back as If-Match to change only what you have seen."""

    @classmethod
    def of(cls, category: Category) -> Self:
        return cls.model_validate(category, from_attributes=True)
