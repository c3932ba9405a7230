"""Keyset pages: a cursor is the sort key of the last item seen, so that pages neither skip nor repeat while rows are added."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page

Row = TypeVar("Row")
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]


def encode_cursor(*values: object) -> str:
    """The sort key of a row as an opaque cursor. Values must be JSON or have an exact `str`."""
    return base64.urlsafe_b64encode(json.dumps(values, default=str).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, *parsers: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The sort key in a cursor, each part through its parser; None without a cursor. Refusal: invalid_cursor."""
    if cursor is None:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return tuple(parse(value) for parse, value in zip(parsers, values, strict=True))
    except (ValueError, TypeError, ArithmeticError, binascii.Error) as error:  # Decimal has errors of its own
        raise Refusal(ErrorCode.INVALID_CURSOR, "The cursor is not one that this list gave.") from error


def page_of(rows: Sequence[Row], limit: int, item: Callable[[Row], Item], key: Callable[[Row], tuple[object, ...]]) -> Page[Item]:
    """A page from up to `limit + 1` rows: the extra one only tells that more follow."""
    shown = rows[:limit]
    return Page(items=[item(row) for row in shown], next_cursor=encode_cursor(*key(shown[-1])) if len(rows) > limit else None)
