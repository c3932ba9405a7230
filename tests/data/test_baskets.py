"""The data that the demo plays, and files of the same columns that somebody else may bring."""

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from data.baskets import FOLDER, BadRow, Basket, read_baskets, read_products
from data.catalogue import import_row
from services.catalog.schemas import ImportRequest

BASKETS = "basket_id,household_id,store_id,transaction_timestamp,product_id,quantity"
PRODUCTS = "product_id,department,product_category,product_type,brand,package_size,unit_price"


def write(path: Path, *lines: str) -> Path:
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_our_data_are_whole() -> None:
    products, baskets = read_products(), read_baskets()
    assert (len(products), len(baskets), sum(len(basket.lines) for basket in baskets)) == (5989, 1000, 10288)
    assert {product_id for basket in baskets for product_id, _ in basket.lines} == {row.product_id for row in products}
    assert len({basket.household_id for basket in baskets}) == 687
    assert len({basket.store_id for basket in baskets}) == 120
    first = baskets[0]
    assert (first.basket_id, first.household_id, first.store_id) == ("31198775428", "1445", "410")
    assert first.placed_at == datetime(2017, 1, 1, 16, 33, 16, tzinfo=UTC)
    # What an order may have: at most 100 lines, at most 1000 of a product.
    assert max(len(basket.lines) for basket in baskets) <= 100
    assert max(quantity for basket in baskets for _, quantity in basket.lines) <= 1000


def test_the_catalogue_takes_every_product() -> None:
    rows = [import_row(row) for row in read_products()]
    imported = [product for at in range(0, len(rows), 1000) for product in chunk(rows[at : at + 1000])]
    assert len(imported) == len(rows) == 5989


def chunk(rows: Iterable[dict[str, object]]) -> list[object]:
    return list(ImportRequest.model_validate({"products": list(rows)}).products)


def test_the_compressed_files_tell_no_time_and_no_name() -> None:
    for path in FOLDER.glob("*.csv.gz"):
        header = path.read_bytes()[:10]
        assert header[3] == 0, "flags: no file name"
        assert header[4:8] == b"\0\0\0\0", "no time"


@pytest.mark.parametrize("name", ["baskets.csv", "baskets.csv.gz"])
def test_baskets_of_any_file(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name,
        BASKETS + ",more",
        "b1,h1,s1,2017-01-01 16:33:16,milk,1,x",
        "b2,h2,s1,2017-01-01T18:00:00+01:00,milk,2,x",
        "b1,h1,s1,2017-01-01 16:33:16,bread,3,x",
        "b1,h1,s1,2017-01-01 16:33:16, milk ,4,x",
    )
    assert read_baskets(path) == [
        Basket("b1", "h1", "s1", datetime(2017, 1, 1, 16, 33, 16, tzinfo=UTC), (("milk", 5), ("bread", 3))),
        Basket("b2", "h2", "s1", datetime(2017, 1, 1, 17, tzinfo=UTC), (("milk", 2),)),
    ]


GOOD = "b1,h1,s1,2017-01-01 16:33:16,milk,1"


@pytest.mark.parametrize(
    ("row", "line", "column"),
    [
        ("b1,h1,s1,2017-01-01 16:33:16,milk,0", 3, "quantity"),
        ("b1,h1,s1,2017-01-01 16:33:16,milk,-1", 3, "quantity"),
        ("b1,h1,s1,2017-01-01 16:33:16,milk,1.5", 3, "quantity"),
        ("b1,h1,s1,2017-01-01 16:33:16,milk", 3, "quantity"),
        ("b1,h1,s1,2017-01-01 16:33:16,,1", 3, "product_id"),
        ("b2,h1,s1,yesterday,milk,1", 3, "transaction_timestamp"),
        ("b2,,s1,2017-01-01 16:33:16,milk,1", 3, "household_id"),
        ("b1,h2,s1,2017-01-01 16:33:16,bread,1", 3, "household_id"),
        ("b1,h1,s2,2017-01-01 16:33:16,bread,1", 3, "store_id"),
    ],
)
def test_a_bad_basket_row_is_named(tmp_path: Path, row: str, line: int, column: str) -> None:
    path = write(tmp_path / "mine.csv", BASKETS, GOOD, row)
    with pytest.raises(BadRow, match=rf"mine\.csv, line {line}, column {column}: "):
        read_baskets(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", "basket_id,household_id,store_id,transaction_timestamp,quantity", "b1,h1,s1,2017-01-01,1")
    with pytest.raises(BadRow, match=r"mine\.csv, line 2, column product_id: is missing"):
        read_baskets(path)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("1,GROCERY,SOUP,SOUP,National,8 OZ,free", "unit_price"),
        ("1,GROCERY,SOUP,SOUP,National,8 OZ,0", "unit_price"),
        ("1,GROCERY,SOUP,SOUP,National,8 OZ,NaN", "unit_price"),
        ("1,GROCERY,SOUP,SOUP,National,8 OZ,1.005", "unit_price"),
        ("1,,SOUP,SOUP,National,8 OZ,1.00", "department"),
        ("0,GROCERY,SOUP,SOUP,National,8 OZ,1.00", "product_id"),
    ],
)
def test_a_bad_product_row_is_named(tmp_path: Path, row: str, column: str) -> None:
    path = write(tmp_path / "mine.csv", PRODUCTS, "0,GROCERY,SOUP,SOUP,National,8 OZ,1.00", row)
    with pytest.raises(BadRow, match=rf"mine\.csv, line 3, column {column}: "):
        read_products(path)


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv.gz", BASKETS, *[GOOD] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadRow, match=r"mine\.csv\.gz, after line"):
        read_baskets(path)


def test_prices_are_exact() -> None:
    by_id = {row.product_id: row for row in read_products()}
    assert by_id["42521"].unit_price == Decimal("2.69")
