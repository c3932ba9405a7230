"""Products and categories: their state, their rules, and the events that tell of a change."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Self

from sqlalchemy import BigInteger, CheckConstraint, Column, Computed, Index, MetaData, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import new_metadata, time_column
from chassis.idempotency import Idempotency
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from contracts.errors import ErrorCode, Refusal
from contracts.events import PriceChanged, ProductCreated, ProductDeleted, ProductUpdated
from contracts.money import Money

metadata = new_metadata()
outbox = Outbox("catalog", metadata)
idempotency = Idempotency(metadata)

# PostgreSQL's parser takes "dinners/entrees" for the name of a file; with a space in place of the slash it finds both words.
_SEARCH = (
    "setweight(to_tsvector('english'::regconfig, translate(name, '/', ' ')), 'A') || "
    "setweight(to_tsvector('english'::regconfig, translate(coalesce(brand, ''), '/', ' ')), 'B') || "
    "setweight(to_tsvector('english'::regconfig, translate(category || ' ' || department, '/', ' ')), 'C')"
)


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class Category(Table, Aggregate, table=True):
    """A department (`parent_id` null) or a category in one. The id is made from the first name and stays: `dairy.soft-cheese`."""

    __tablename__ = "categories"

    category_id: str = Field(primary_key=True, max_length=160)
    name: str = Field(max_length=100)
    parent_id: str | None = Field(default=None, foreign_key="categories.category_id", index=True, max_length=160)

    @property
    def is_department(self) -> bool:
        return self.parent_id is None

    @classmethod
    def new(cls, name: str, parent_id: str | None) -> Self:
        """A category in this department; a department, without one."""
        return cls(category_id=category_id_for(name, parent_id), name=name, parent_id=parent_id)

    def move(self, name: str, parent_id: str | None) -> bool:
        """Give it this name and place; whether that changed anything. Refusal: conflict."""
        if (parent_id is None) != self.is_department:
            raise Refusal(ErrorCode.CONFLICT, "A department cannot become a category, nor a category a department.")
        changed = (name, parent_id) != (self.name, self.parent_id)
        self.name, self.parent_id = name, parent_id
        return changed


class Product(Table, Aggregate, table=True):
    """Something on sale. A deleted product stays as a row: its id never comes to mean something else.

    `category` and `department` repeat the names in `categories`, for the search and so that one row says all. There is no
    foreign key from here: a deleted product must not keep its category alive.
    """

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="price_is_positive"),
        CheckConstraint("weight_grams > 0", name="weight_is_positive"),
        Column("search", TSVECTOR, Computed(_SEARCH, persisted=True), nullable=False),
        Index("ix_products_search", "search", postgresql_using="gin"),
        Index("ix_products_category", "category_id", "product_id"),
        Index("ix_products_department", "department_id", "product_id"),
    )
    __mapper_args__: ClassVar[dict[str, Any]] = {"exclude_properties": ["search"]}

    product_id: str = Field(primary_key=True, max_length=40)
    name: str = Field(max_length=200)
    description: str | None = Field(default=None, sa_column=Column(Text))
    category_id: str = Field(max_length=160)
    category: str = Field(max_length=100)
    department_id: str = Field(max_length=160)
    department: str = Field(max_length=100)
    brand: str | None = Field(default=None, max_length=100)
    package_size: str | None = Field(default=None, max_length=100)
    weight_grams: int
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    """The price, in the currency's minor units (cents)."""
    currency: str = Field(max_length=3)
    deleted_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))

    @property
    def price(self) -> Money:
        return Money.from_minor(self.amount_minor, self.currency)

    def require_on_sale(self) -> None:
        """Refusal: not_found."""
        if self.deleted_at is not None:
            raise unknown_product()

    @classmethod
    def new(cls, product_id: str, fields: Mapping[str, Any], price: Money) -> Self:
        """A product as described by `fields`, at its first price."""
        return cls(product_id=product_id, **fields, **_columns_of(price))

    def created(self) -> ProductCreated:
        """The event that tells of it."""
        return ProductCreated(product_id=self.product_id, name=self.name, category=self.category_id, price=self.price)

    def change(self, fields: Mapping[str, Any]) -> ProductUpdated | None:
        """Set what is described by `fields`; the event, if that is not what it was."""
        if not self._set(fields):
            return None
        return ProductUpdated(product_id=self.product_id, name=self.name, category=self.category_id)

    def set_price(self, price: Money) -> PriceChanged | None:
        """Sell it at this price from now on; the event, if that is not what it was."""
        old = self.price
        if not self._set(_columns_of(price)):
            return None
        return PriceChanged(product_id=self.product_id, old_price=old, new_price=self.price)

    def delete(self) -> ProductDeleted:
        """Take it off sale."""
        self._set({"deleted_at": utc_now()})
        return ProductDeleted(product_id=self.product_id)

    def restore(self, fields: Mapping[str, Any], price: Money) -> ProductCreated:
        """Put a deleted product on sale again, as described. Refusal: product_exists."""
        if self.deleted_at is None:
            raise Refusal(ErrorCode.PRODUCT_EXISTS, f"There is a product {self.product_id} already.")
        self._set({**fields, **_columns_of(price), "deleted_at": None})
        return self.created()

    def _set(self, fields: Mapping[str, Any]) -> bool:
        before = self.model_dump(include=set(fields))
        if before == dict(fields):
            return False
        for field, value in fields.items():
            setattr(self, field, value)
        return True


class PricePeriod(Table, table=True):
    """What a product cost from one moment to another: nobody can later say that it was sold at a price that it never had."""

    __tablename__ = "price_history"
    # The database itself refuses a second price at the same time.
    __table_args__ = (Index("ix_price_history_current", "product_id", unique=True, postgresql_where=text("valid_to is null")),)

    product_id: str = Field(primary_key=True, max_length=40)
    valid_from: datetime = Field(sa_column=time_column(primary_key=True))
    valid_to: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """None: until now."""
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)


def _columns_of(price: Money) -> dict[str, Any]:
    return {"amount_minor": price.minor, "currency": price.currency}


@lru_cache(4096)  # an import asks for the same few names thousands of times
def slug(name: str) -> str:
    """`Baked Bread/Buns` → `baked-bread-buns`. Empty if the name has neither Latin letters nor digits."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:75]


def category_id_for(name: str, parent_id: str | None) -> str:
    """The id of a new category: the dot tells a category from a department."""
    return f"{parent_id}.{slug(name)}" if parent_id else slug(name)


def place(category: Category, department: Category) -> dict[str, str]:
    """What a product repeats of the category that it is in."""
    return {
        "category_id": category.category_id,
        "category": category.name,
        "department_id": department.category_id,
        "department": department.name,
    }


def category_unknown(category_id: str) -> Refusal:
    return Refusal(ErrorCode.CATEGORY_UNKNOWN, f"There is no such category: {category_id}.")


def unknown_product() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such product.")


def unknown_category() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such category.")
