"""A postal address."""

from typing import Annotated

from pydantic import StringConstraints

from contracts.base import NO_CONTROLS, Request

Line = Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True, pattern=NO_CONTROLS)]


class Address(Request):
    """Where a parcel goes. `country` is ISO 3166-1 alpha-2; `region` is required where the country's addresses have one."""

    name: Line
    line1: Line
    line2: Line | None = None
    city: Line
    region: Line | None = None
    postal_code: Annotated[str, StringConstraints(min_length=1, max_length=16, strip_whitespace=True, pattern=NO_CONTROLS)]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
