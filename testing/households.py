"""What the data's households order, and where they live: made up, but each city, state and ZIP code belong together."""

from typing import Any
from zlib import crc32

from cli.client import Person
from data.baskets import Basket
from testing.shop import Purchase

CARD = "pm_card_visa"

CITIES = (
    ("New York", "NY", "10001"),
    ("Los Angeles", "CA", "90012"),
    ("Chicago", "IL", "60601"),
    ("Houston", "TX", "77002"),
    ("Phoenix", "AZ", "85004"),
    ("Philadelphia", "PA", "19103"),
    ("San Antonio", "TX", "78205"),
    ("San Diego", "CA", "92101"),
    ("Dallas", "TX", "75201"),
    ("Columbus", "OH", "43215"),
    ("Cincinnati", "OH", "45202"),
    ("Charlotte", "NC", "28202"),
    ("Indianapolis", "IN", "46204"),
    ("Seattle", "WA", "98101"),
    ("Denver", "CO", "80202"),
    ("Boston", "MA", "02108"),
    ("Nashville", "TN", "37203"),
    ("Detroit", "MI", "48226"),
    ("Portland", "OR", "97204"),
    ("Memphis", "TN", "38103"),
    ("Louisville", "KY", "40202"),
    ("Milwaukee", "WI", "53202"),
    ("Atlanta", "GA", "30303"),
    ("Minneapolis", "MN", "55401"),
)
STREETS = ("Main Street", "Oak Street", "Maple Avenue", "Cedar Lane", "Park Avenue", "Washington Street", "Lake Road")


def address_of(household: str) -> dict[str, Any]:
    """The household's address: always the same one."""
    number = crc32(household.encode())
    city, region, postal_code = CITIES[number % len(CITIES)]
    return {
        "name": f"Household {household}",
        "line1": f"{number // 7 % 900 + 1} {STREETS[number % len(STREETS)]}",
        "city": city,
        "region": region,
        "postal_code": postal_code,
        "country": "US",
    }


def nowhere(address: dict[str, Any]) -> dict[str, Any]:
    """An address of good form, to which no parcel gets: the carrier knows no such town."""
    return {**address, "city": "Nowhere"}


def purchase_of(basket: Basket, customers: dict[str, Person], run: str) -> Purchase:
    """The basket as an order at its store, to its household's address, paid with its household's card."""
    return Purchase(
        customer=customers[basket.household_id],
        body={
            "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
            "ship_to": address_of(basket.household_id),
            "payment_token": f"{CARD}_{basket.household_id}",
            "warehouse_id": basket.store_id,
        },
        key=f"{run}-{basket.basket_id}",
    )
