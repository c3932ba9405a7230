"""Lists, as this API turns their pages: the newest first, on from an id in either direction."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from starlette.requests import Request

from simulators.easypost.refusals import invalid

LARGEST_PAGE = 100
USUAL_PAGE = 20


def listed(
    ledger: sqlite3.Connection, request: Request, table: str, where: str = "TRUE", *given: object
) -> tuple[list[sqlite3.Row], bool]:
    """Rows of a table with `id` and `created`, and whether there are more. `before_id`: older ones; `after_id`: newer ones, those
    next to it. Refusal: PARAMETER.INVALID."""
    asked = request.query_params
    size = asked.get("page_size", str(USUAL_PAGE))
    if not (size.isascii() and size.isdigit() and len(size) <= 3 and 1 <= int(size) <= LARGEST_PAGE):
        raise invalid("page_size", f"must be from 1 to {LARGEST_PAGE}")
    conditions, values = [where], [*given]
    for name, sign in (("before_id", "<"), ("after_id", ">")):
        if name in asked:
            row = ledger.execute(f"SELECT seq FROM {table} WHERE id = ?", (asked[name],)).fetchone()  # noqa: S608 - ours
            if row is None:
                raise invalid(name, "does not exist")
            conditions.append(f"seq {sign} ?")
            values.append(row["seq"])
    for name, sign in (("start_datetime", ">="), ("end_datetime", "<")):
        if name in asked:
            conditions.append(f"created {sign} ?")
            values.append(_time(name, asked[name]))
    upwards = "after_id" in asked and "before_id" not in asked
    rows = ledger.execute(
        f"SELECT * FROM {table} WHERE {' AND '.join(conditions)} ORDER BY seq {'ASC' if upwards else 'DESC'} LIMIT ?",  # noqa: S608 - ours
        (*values, int(size) + 1),
    ).fetchall()
    page = rows[: int(size)]
    return page[::-1] if upwards else page, len(rows) > int(size)


def _time(name: str, text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise invalid(name, "must be a time in ISO 8601") from error
