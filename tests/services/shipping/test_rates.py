"""The tariff and the address check: pure rules."""

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import ErrorCode, Refusal
from contracts.shipments import LookUpTariff
from services.shipping.model import addresses, rates
from services.shipping.model.rates import ServiceLevel, Zone
from tests.services.shipping.parcels import ADDRESS


@pytest.mark.parametrize(
    ("country", "region", "postal_code", "zone"),
    [
        ("US", "OH", "45202", Zone.DOMESTIC),
        ("US", "AK", "99501", Zone.REMOTE),
        ("US", None, "96813", Zone.REMOTE),  # Honolulu, told by the ZIP code alone
        ("US", "ak", "45202", Zone.REMOTE),
        ("PR", None, "00901", Zone.REMOTE),
        ("CA", "ON", "M5V 2T6", Zone.NEIGHBOUR),
        ("CA", "YT", " y1a 1a1", Zone.WORLD),
        ("PT", None, "1100-001", Zone.EUROPE),
        ("ES", None, "35001", Zone.WORLD),
        ("JP", None, "100-0001", Zone.WORLD),
        ("AQ", None, "1", None),
        ("XX", None, "1", None),
    ],
)
def test_zones(country: str, region: str | None, postal_code: str, zone: Zone | None) -> None:
    assert rates.zone_of(country, region, postal_code) == zone


@pytest.mark.parametrize(
    ("grams", "price"), [(1, "5.90"), (1000, "5.90"), (1001, "6.70"), (2000, "6.70"), (2001, "7.50"), (150_000, "125.10")]
)
def test_each_kilogram_begun_is_paid(grams: int, price: str) -> None:
    standard = rates.rates(Zone.DOMESTIC, grams)[0]
    assert (standard.service, standard.price.amount, standard.days) == (ServiceLevel.STANDARD, Decimal(price), 4)


@given(st.sampled_from(Zone), st.integers(1, 69_999))
def test_more_never_costs_less_and_faster_costs_more(zone: Zone, grams: int) -> None:
    lighter, heavier = rates.rates(zone, grams), rates.rates(zone, grams + 1)
    assert [rate.service for rate in lighter] == [rate.service for rate in heavier]
    assert all(more.price >= less.price for less, more in zip(lighter, heavier, strict=True))
    assert [rate.days for rate in lighter] == sorted((rate.days for rate in lighter), reverse=True)


@given(st.sampled_from(["US", "CA", "MX", "ES", "FR", "PT", "DE", "PR", "JP", "AQ"]), st.text("0123456789XYabxy ", max_size=9))
def test_the_tariff_of_a_place_is_that_of_its_zone_for_all_weights(country: str, postal_code: str) -> None:
    zone = rates.zone_of(country, None, postal_code)
    tariff = rates.tariff_of(LookUpTariff.to(country, None, postal_code))
    assert bool(tariff.services) == (zone is not None)
    if zone:
        for grams in (0, 1000, 1001, rates.HEAVIEST_GRAMS):
            offered = {rate.service: rate.price for rate in rates.rates(zone, grams)}
            assert {service.service: service.price(grams) for service in tariff.services} == offered


def test_too_heavy_a_parcel_has_no_rate() -> None:
    with pytest.raises(Refusal) as refused:
        rates.rates(Zone.DOMESTIC, 150_001)
    assert refused.value.code == ErrorCode.PARCEL_TOO_HEAVY


def errors_of(**changes: str | None) -> dict[str, str]:
    address, errors = addresses.check(ADDRESS.model_dump() | changes)
    assert (address is None) == bool(errors)
    return {error.field: error.code for error in errors}


def test_an_address_is_written_as_the_post_writes_it() -> None:
    address, errors = addresses.check(
        {"name": " A.  Customer ", "line1": "SW1 street", "line2": "", "city": "london", "region": "Middlesex",
         "postal_code": "sw1a 1aa", "country": "GB"}
    )  # fmt: skip
    assert errors == []
    assert address is not None
    assert address.model_dump(exclude_none=True) == {
        "name": "A. Customer", "line1": "SW1 street", "city": "LONDON", "postal_code": "SW1A 1AA", "country": "GB",
    }  # fmt: skip
    ohio, _ = addresses.check(ADDRESS.model_dump() | {"region": "ohio"})
    assert ohio is not None
    assert ohio.region == "OH"


def test_a_country_without_towns_or_postal_codes_keeps_what_was_given() -> None:
    address, errors = addresses.check(
        ADDRESS.model_dump() | {"city": "Dubai", "region": "Dubai", "postal_code": "00000", "country": "AE"}
    )
    assert errors == []
    assert address is not None
    assert (address.city, address.postal_code) == ("Dubai", "00000")


def test_each_wrong_field_is_named() -> None:
    assert errors_of(line1=None, city="  ") == {"line1": "address_required", "city": "address_required"}
    assert errors_of(region="Bavaria") == {"region": "address_invalid"}
    assert errors_of(region=None) == {"region": "address_required"}
    assert errors_of(postal_code="90210") == {"postal_code": "address_invalid"}  # that is in California
    assert errors_of(country="ZZ") == {"country": "address_invalid"}
    assert errors_of(country="../zz") == {"country": "address_invalid"}
    assert errors_of(country="AQ") == {"country": "address_not_served"}
    assert errors_of(name=None, line1="", city=None, postal_code=None, country=None) == dict.fromkeys(
        ("name", "line1", "city", "postal_code", "country"), "address_required"
    )


def test_a_line_that_an_order_would_not_take_is_named() -> None:
    assert errors_of(line1="x" * 121) == {"line1": "string_too_long"}
    assert errors_of(country="IE", region="Dublin", postal_code="4" * 17)["postal_code"] in ("string_too_long", "address_invalid")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(ADDRESS.model_dump())), st.text(max_size=200) | st.none()))
def test_whatever_is_typed_gets_an_answer(changes: dict[str, str | None]) -> None:
    errors_of(**changes)
