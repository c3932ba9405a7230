"""Which addresses there are: by a rule that anybody can see, and how the post writes one."""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

from simulators.easypost.refusals import FieldError, Refusal

Address = dict[str, Any]

AMERICAN = frozenset({"US", "AS", "GU", "MP", "PR", "UM", "VI"})
"""The United States and their territories: one post, no customs."""
_ZIP = re.compile(r"\d{5}(-?\d{4})?")
_TIME_ZONES = ("America/New_York",) * 5 + ("America/Chicago",) * 3 + ("America/Denver", "America/Los_Angeles")


def is_undeliverable(address: Address) -> bool:
    city, postal_code = address["city"] or "", address["zip"] or ""
    if not city or city.casefold() == "nowhere" or postal_code.startswith("00000"):
        return True
    if address["country"] in AMERICAN:
        return not _ZIP.fullmatch(postal_code) or postal_code.startswith("000")
    return False


def verified(address: Address) -> Address:
    """The address with its verifications; as the post writes it, if there is such an address."""
    errors = problems_of(address)
    if errors:
        failed = {"success": False, "errors": errors}
        zip4 = {"zip4": {**failed, "details": None}} if address["country"] in AMERICAN else {}
        return {**address, "verifications": {**zip4, "delivery": {**failed, "details": {}}}}
    lines = " ".join(filter(None, (address["street1"], address["street2"])))
    written = {name: address[name].upper() if address[name] else address[name] for name in ("name", "company", "city", "state")}
    place = crc32(f"{lines}{address['city']}{address['zip']}".upper().encode())
    verifications: dict[str, Any] = {}
    postal_code: str = address["zip"] or ""
    if address["country"] in AMERICAN:
        postal_code = postal_code if len(postal_code) > 5 else f"{postal_code}-{place % 9000 + 1000}"
        verifications["zip4"] = {"success": True, "errors": [], "details": None}
    details = {
        "latitude": round(24 + place % 2_400_000 / 100_000, 5),
        "longitude": round(-67 - place % 5_700_000 / 100_000, 5),
        "time_zone": _TIME_ZONES[int(postal_code[0])] if verifications else "Etc/UTC",
    }
    verifications["delivery"] = {"success": True, "errors": [], "details": details}
    return {
        **address,
        **written,
        "street1": lines.upper(),
        "street2": "",
        "zip": postal_code.upper() or address["zip"],
        "residential": address["company"] is None and place % 4 > 0,
        "verifications": verifications,
    }


def problems_of(address: Address) -> list[FieldError]:
    """None, if it can be delivered there."""
    if not is_undeliverable(address):
        return []
    found = [_problem("E.ADDRESS.NOT_FOUND", "address", "Address not found")]
    if not any(character.isdigit() for character in address["street1"] or ""):
        found.append(_problem("E.HOUSE_NUMBER.MISSING", "street1", "House number is missing"))
    return found


def unverifiable(errors: list[FieldError]) -> Refusal:
    return Refusal(422, "ADDRESS.VERIFY.FAILURE", "Unable to verify address.", errors)


def _problem(code: str, field: str, message: str) -> FieldError:
    return {"code": code, "field": field, "message": message, "suggestion": None}
