"""Reads products and baskets from CSV files, compressed (`.gz`) or not. A row that makes no sense is named, never skipped."""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypeVar

FOLDER = Path(__file__).parent / "complete_journey"
Value = TypeVar("Value")


class BadRow(ValueError):
    """A file cannot be read: the message names the file, the line, and the column."""


@dataclass(frozen=True, slots=True)
class ProductRow:
    """One product as the data have it. `product_category` and `package_size` may be empty."""

    product_id: str
    department: str
    product_category: str
    product_type: str
    brand: str
    package_size: str
    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Basket:
    """What one household bought at one till: products and how many of each, in the order in which they were scanned."""

    basket_id: str
    household_id: str
    store_id: str
    placed_at: datetime
    lines: tuple[tuple[str, int], ...]


def read_products(path: Path | None = None) -> list[ProductRow]:
    """The products of a file (without `path`: of ours), in its order. Raises BadRow."""
    products: dict[str, ProductRow] = {}
    for row in _rows(path or FOLDER / "products.csv.gz"):
        product = ProductRow(
            product_id=row.get("product_id", _text),
            department=row.get("department", _text),
            product_category=row.get("product_category", str),
            product_type=row.get("product_type", _text),
            brand=row.get("brand", str),
            package_size=row.get("package_size", str),
            unit_price=row.get("unit_price", _price),
        )
        if product.product_id in products:
            raise row.error("product_id", f"{product.product_id} has a row already")
        products[product.product_id] = product
    return list(products.values())


def read_baskets(path: Path | None = None) -> list[Basket]:
    """The baskets of a file (without `path`: of ours), in the order of their first rows. Raises BadRow.

    Rows of one basket need not stand together. Quantities of a product that has several rows in a basket are added up. Times are
    taken for UTC.
    """
    heads: dict[str, tuple[str, str, datetime]] = {}
    lines: dict[str, dict[str, int]] = {}
    for row in _rows(path or FOLDER / "baskets.csv.gz"):
        basket_id = row.get("basket_id", _text)
        head = (row.get("household_id", _text), row.get("store_id", _text), row.get("transaction_timestamp", _time))
        first = heads.setdefault(basket_id, head)
        for column, value, expected in zip(("household_id", "store_id", "transaction_timestamp"), head, first, strict=True):
            if value != expected:
                raise row.error(column, f"{value} is not {expected}, as in the first row of basket {basket_id}")
        quantities = lines.setdefault(basket_id, {})
        product_id = row.get("product_id", _text)
        quantities[product_id] = quantities.get(product_id, 0) + row.get("quantity", _quantity)
    return [Basket(basket_id, *head, tuple(lines[basket_id].items())) for basket_id, head in heads.items()]


def write_baskets(path: Path, baskets: Iterable[Basket]) -> None:
    """A file (not compressed) that `read_baskets` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("basket_id", "household_id", "store_id", "transaction_timestamp", "product_id", "quantity"))
        for basket in baskets:
            head = (basket.basket_id, basket.household_id, basket.store_id, basket.placed_at.isoformat())
            writer.writerows((*head, product_id, quantity) for product_id, quantity in basket.lines)


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    line: int
    values: dict[str, str | None]

    def get(self, column: str, parse: Callable[[str], Value]) -> Value:
        text = self.values.get(column)
        if text is None:
            raise self.error(column, "is missing")
        try:
            return parse(text.strip())
        except ValueError as error:
            raise self.error(column, str(error)) from error

    def error(self, column: str, what: str) -> BadRow:
        return BadRow(f"{self.path}, line {self.line}, column {column}: {what}")


def _rows(path: Path) -> Iterator[_Row]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for values in reader:
                yield _Row(path, reader.line_num, values)
        except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise BadRow(f"{path}, after line {reader.line_num}: {error}") from error


def _text(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a price") from None
    if not price.is_finite() or price <= 0 or price != round(price, 2):
        raise ValueError(f"{text!r} is not a price in dollars and cents")
    return price


def _quantity(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a quantity of one or more")
    return int(text)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time like 2017-01-31 16:33:16") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
