"""How fresh an answer is. An endpoint says by what it takes whether it may be answered by a replica: `MayLag`, or else `Db`.

A caller says in HTTP's own terms how old an answer may be (RFC 9111, 5.2.1), and is told how old it may be at most (5.1, Age).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import Field

from chassis.dependencies import Db, is_provided, provided
from chassis.replica import Replica, Source

PRESENT = "It shows everything that was written before the request."
MAY_LAG = (
    "It may lack what was written in the last seconds. `Age` says in how many at most; without `Age` it lacks nothing. "
    "Send `Cache-Control: no-cache` to see what you have just written."
)
_CACHE_CONTROL = Header(
    alias="Cache-Control",
    max_length=10,
    description="`no-cache`: nothing may be lacking. `max-age=2`: only what was written in the last two seconds may be.",
)
_AGE = {"description": "It may lack what was written in so many seconds.", "schema": {"type": "integer", "minimum": 1}}


async def _source(
    request: Request,
    response: Response,
    db: Db,
    cache_control: Annotated[list[Annotated[str, Field(max_length=200)]] | None, _CACHE_CONTROL] = None,
) -> Source:
    def tell(lag_s: float) -> None:
        response.headers["Age"] = str(math.ceil(lag_s))

    if not is_provided(request.app, Replica):
        return db
    return provided(request.app, Replica).within(oldest_s(cache_control or ()), tell)


MayLag = Annotated[Source, Depends(_source)]
"""For an endpoint whose query is marked `@may_lag`."""


def oldest_s(cache_control: Sequence[str]) -> float:
    """How old an answer may be for who sends these Cache-Control headers, in seconds."""
    directives = [directive.strip().lower() for directive in ",".join(cache_control).split(",")]
    ages = [directive.removeprefix("max-age=").strip('"') for directive in directives if directive.startswith("max-age=")]
    if "no-cache" in directives or any(not age.isdecimal() for age in ages):
        return 0.0
    return min(map(float, ages), default=math.inf)


def describe_freshness(document: dict[str, Any]) -> None:
    """Say of each operation that reads how fresh its answer is, in an OpenAPI document."""
    for path, item in document["paths"].items():
        if "get" in item and not path.startswith("/health/"):
            operation = item["get"]
            lags = any(parameter["name"] == "Cache-Control" for parameter in operation.get("parameters", ()))
            note = MAY_LAG if lags else PRESENT
            told = operation.get("description", "")
            operation["description"] = told if note in told else f"{told}\n\n{note}".strip()
            if lags:
                operation["responses"]["200"].setdefault("headers", {})["Age"] = _AGE
