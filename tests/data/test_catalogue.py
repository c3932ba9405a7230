"""Names and weights that are made from the data."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.baskets import ProductRow
from data.catalogue import DEFAULT_GRAMS, HEAVIEST_GRAMS, import_row, product_name, readable, weight_in_grams


@pytest.mark.parametrize(
    ("size", "grams"),
    [
        # weights and volumes
        ("8 OZ", 227), ("16.9 OZ", 479), (".15 OZ", 4), ("2 LB", 907), ("5 LB BAG", 2268), ("16 OZS.", 454), ("64 OZ PET", 1814),
        ("1 GA", 3785), ("1 GALON", 3785), ("1/2 GAL", 1892), ("GAL", 3785), ("QT", 946), ("1 PT", 473), ("2 L", 2000),
        ("750 ML", 750), ("32 FL OZ", 907), ("50 LB", 22680),
        # fractions
        ("10 3/4 OZ", 305), ("1 1/2 LB", 680), ("3/4 OZ", 21), ("8 7/8 OZ", 252),
        # packs
        ("24/16.9 OZ", 11499), ("4/4 OZ", 454), ("10-1 OZ", 284), ("2 - 7.5 OZ", 425), ("6 PK/8 OZ", 1361), ("3 PK 3.0 OZ", 255),
        ("6 P/16.9 OZ", 2875), ("12 OZ/12 PK", 4082), ("6 PK/.5 LT", 3000),
        # a count beside the weight of the whole; a weight beside a volume
        ("10.4 OZ/8 CT", 295), ("6 CT/15 OZ", 425), ("3 OZ(15 SL)", 85), ("2 QT/.25 OZ", 7), ("8 IN/17.5 OZ", 496),
        # marks of the data's
        ("L    16 OZ", 454), ("(600) 4 LB", 1814), ("118604 8 OZ", 227),
    ],
)  # fmt: skip
def test_weights(size: str, grams: int) -> None:
    assert weight_in_grams(size) == grams
    assert weight_in_grams(size.lower()) == grams


@pytest.mark.parametrize(
    "size", ["", "12 CT", "6 PK", "75 SQ FT", "32 LOADS", "10 CT/GAL", "13 GAL", "30 CT/30 GAL", "26 REC OZ", "DZ", "PINK PANTH"]
)
def test_what_tells_no_weight_gets_the_default(size: str) -> None:
    assert weight_in_grams(size) == DEFAULT_GRAMS


@given(st.text(alphabet="0123456789./- ()OZLBGACTPKX", max_size=20))
def test_whatever_the_size_the_weight_is_sane(size: str) -> None:
    assert 1 <= weight_in_grams(size) <= HEAVIEST_GRAMS


def row(product_type: str, brand: str = "National", package_size: str = "8 OZ", category: str = "CHEESE") -> ProductRow:
    return ProductRow("79289", "DRUG GM", category, product_type, brand, package_size, Decimal("2.09"))


def test_names() -> None:
    assert product_name(row("CREAM CHEESE")) == "National Cream Cheese, 8 oz"
    assert product_name(row("FRZN SS PREMIUM ENTREES/DNRS", package_size="L    16 OZ")) == (
        "National Frozen Single-Serve Premium Entrees/Dinners, 16 oz"
    )
    assert product_name(row("KID'S CUPS", brand="", package_size="")) == "Kid's Cups"
    assert readable("CHRISTMAS  SEASONAL") == "Christmas Seasonal"


def test_a_row_of_the_import() -> None:
    assert import_row(row("CREAM CHEESE", category="")) == {
        "product_id": "79289",
        "name": "National Cream Cheese, 8 oz",
        "department": "Drug General Merchandise",
        "category": "Other",
        "brand": "National",
        "package_size": "8 OZ",
        "weight_grams": 227,
        "price": {"amount": "2.09", "currency": "USD"},
    }
