"""A postal address."""

import hashlib
import unicodedata
from typing import Annotated

from pydantic import StringConstraints

from contracts.base import NO_CONTROLS, Request

Line = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True, pattern=NO_CONTROLS)]

FORGOTTEN = "(forgotten)"
"""In place of what named a person."""


class Address(Request):
    """Where a parcel goes. `country` is ISO 3166-1 alpha-2; `region` is required where the country's addresses have one."""

    name: Line
    line1: Line
    line2: Line | None = None
    city: Line
    region: Line | None = None
    postal_code: Annotated[str, StringConstraints(min_length=1, max_length=16, strip_whitespace=True, pattern=NO_CONTROLS)]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]

    def without_person(self) -> "Address":
        """What is kept of it once its customer is forgotten: the country, in which sales are counted and taxed."""
        return Address(name=FORGOTTEN, line1=FORGOTTEN, city=FORGOTTEN, postal_code=FORGOTTEN, country=self.country)

    @property
    def fingerprint(self) -> str:
        """The same for the same place, whoever it is sent to and however it is spaced, accented or capitalised (SHA-256, hex).

        Town and region are left out: the postal code says them, and people write them in many ways. So is where a line ends.
        """
        parts = (self.country, self.postal_code, self.line1 + (self.line2 or ""))
        plain = (unicodedata.normalize("NFKD", part).casefold() for part in parts)
        place = "/".join("".join(letter for letter in part if letter.isalnum()) for part in plain)
        return hashlib.sha256(place.encode()).hexdigest()
