"""Addresses as people type them: brought into the form of their country, and checked whether we deliver there."""

from collections.abc import Mapping

from pydantic import ValidationError

from chassis import postal
from contracts.address import Address
from contracts.errors import FieldError
from services.shipping.model.rates import zone_of

_ALWAYS_REQUIRED = ("name", "line1", "city", "postal_code", "country")


def check(given: Mapping[str, str | None]) -> tuple[Address | None, list[FieldError]]:
    """An address as the post writes it, or what is wrong with it, field by field. `given` has the fields of Address.

    Call it in a thread, as `chassis.postal` says.
    """
    values = {name: " ".join((value or "").split()) for name, value in given.items()}
    errors = {name: postal.field_error(name, "required") for name in _ALWAYS_REQUIRED if not values.get(name)}
    written = values
    if values.get("country"):
        normalized, wrong = postal.normalized(values)
        written = normalized or values
        errors |= {error.field: error for error in wrong}
    if "country" not in errors and zone_of(written["country"], written.get("region"), written.get("postal_code", "")) is None:
        errors["country"] = FieldError(
            field="country", code="address_not_served", detail="No carrier of ours delivers to this country."
        )
    if errors:
        return None, list(errors.values())
    try:
        return Address(
            name=values["name"],
            line1=values["line1"],
            line2=values.get("line2") or None,
            # The post leaves empty what its addresses do not have; ours keep what was given, for they want both.
            city=written["city"] or values["city"],
            region=written["region"] or None,
            postal_code=written["postal_code"] or values["postal_code"],
            country=written["country"],
        ), []
    except ValidationError as error:  # longer than an order takes it
        return None, [
            FieldError(field=str(item["loc"][0]), code=item["type"], detail=item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
