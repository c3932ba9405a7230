"""Keyset pages: a cursor is the sort key of the last item seen, so that pages neither skip nor repeat while rows are added.

A cursor is opaque to clients and not signed: it holds nothing that its reader may not know, and one that somebody made up is
either a place in the list or refused. What it may hold is in `KeyPart`, and PostgreSQL can take all of it.
"""

import base64
import json
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import lru_cache
from types import GenericAlias
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import Field, TypeAdapter

from contracts.base import NO_CONTROLS, Day, Timestamp
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page

Row = TypeVar("Row")
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]


class KeyPart(Enum):
    """What sort keys are made of."""

    ID = auto()
    TIME = auto()
    DAY = auto()
    NUMBER = auto()
    """A row's number."""
    SUM = auto()
    """A count, or an amount in minor units; it may be negative."""
    RANK = auto()
    """How well a row matches a search."""
    TEXT = auto()


_TYPES: dict[KeyPart, Any] = {
    KeyPart.ID: UUID,
    KeyPart.TIME: Timestamp,
    KeyPart.DAY: Day,
    KeyPart.NUMBER: Annotated[int, Field(ge=0, lt=2**63)],
    KeyPart.SUM: Annotated[int, Field(ge=-(2**63), lt=2**63)],
    KeyPart.RANK: Annotated[float, Field(ge=-1000, le=1000)],
    KeyPart.TEXT: Annotated[str, Field(max_length=200, pattern=NO_CONTROLS)],
}


@lru_cache
def _adapter(*key: KeyPart) -> TypeAdapter[tuple[Any, ...]]:
    shape: Any = GenericAlias(tuple, tuple(_TYPES[part] for part in key))
    return TypeAdapter(shape)


def encode_cursor(*values: object) -> str:
    """The sort key of a row as an opaque cursor. Values must be JSON or have an exact `str`."""
    return base64.urlsafe_b64encode(json.dumps(values, default=str).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, *key: KeyPart) -> tuple[Any, ...] | None:
    """The sort key in a cursor; None without a cursor. Refusal: invalid_cursor."""
    if cursor is None:
        return None
    try:
        return _adapter(*key).validate_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), strict=True)
    except ValueError as error:
        raise Refusal(ErrorCode.INVALID_CURSOR, "The cursor is not one that this list gave.") from error


def page_of(rows: Sequence[Row], limit: int, item: Callable[[Row], Item], key: Callable[[Row], tuple[object, ...]]) -> Page[Item]:
    """A page from up to `limit + 1` rows: the extra one only tells that more follow."""
    shown = rows[:limit]
    return Page(items=[item(row) for row in shown], next_cursor=encode_cursor(*key(shown[-1])) if len(rows) > limit else None)
