"""The base of every model that leaves a process, and the bounds of what may be in one."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints, field_validator


class Contract(BaseModel):
    """A frozen value. Unknown fields are ignored, so that an old reader accepts what a newer writer sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Command(Contract):
    """A frozen value that an endpoint takes. No text in it has control characters other than line breaks and tabs, nor half of a
    surrogate pair, whatever the field's type forgot to say."""

    @field_validator("*", mode="after")
    @classmethod
    def _is_plain_text(cls, value: Any) -> Any:
        if any(_NOT_TEXT.search(text) for text in _texts(value)):
            raise ValueError("has a control character")
        return value


class Request(Command):
    """What a client sends. Unknown fields are refused, so that a misspelt one is told and not lost."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Control characters have no place in a line of text; PostgreSQL cannot even store the first of them."""
LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
"""Text of several lines: line breaks and tabs are allowed."""
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

ProductId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
WarehouseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=NO_CONTROLS)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True, pattern=NO_CONTROLS)]

_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
Timestamp = Annotated[AwareDatetime, Field(ge=_FIRST, le=_LAST)]
"""A moment that the platform can live to see. Others have no UTC time in Python, or none in PostgreSQL."""
Day = Annotated[date, Field(ge=_FIRST.date(), le=_LAST.date())]
LARGEST_QUANTITY = 1_000_000_000
"""Fits PostgreSQL's `integer`, with room to add two."""
Quantity = Annotated[int, Field(ge=0, le=LARGEST_QUANTITY)]
Weight = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
"""Grams."""
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""A waiting time of at most a year."""
ParcelNumber = Annotated[int, Field(ge=1, le=20)]
"""Of one order's parcels, sent one after another: the first is 1, and each one that is sent again has the next number."""

ReturnNumber = Annotated[int, Field(ge=1, le=20)]
"""Of one order's returns: the first is 1."""
AmendmentNumber = Annotated[int, Field(ge=1, le=1000)]
"""Of one order's amendments: the first is 1. Numbers rise; one that came to nothing keeps its own."""


def told(text: str, longest: int = 500) -> str:
    """A text from elsewhere on one line and not too long: whoever passes it on must never fail over it."""
    return _CONTROLS.sub(" ", text)[:longest]


def _told(text: Any) -> Any:
    return told(text) if isinstance(text, str) else text


# The constraints stand first: behind the function, pydantic would check them in Python.
Told = Annotated[str, StringConstraints(max_length=500, pattern=NO_CONTROLS), BeforeValidator(_told)]
"""What a command passes on of another's words, e.g. why a payment was declined: cut to fit, not refused."""


def has_controls(text: str) -> bool:
    """Whether a text has control characters, or half of a surrogate pair."""
    return _CONTROLS.search(text) is not None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)
