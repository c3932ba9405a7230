"""Versions of what clients change, so that nobody overwrites what they have not seen (RFC 9110, ETag and If-Match)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Response
from pydantic import BaseModel

from chassis.store import StaleVersion


class Versioned(Protocol):
    """A body with the version that is also its ETag."""

    @property
    def version(self) -> int: ...


Body = TypeVar("Body", bound=Versioned)
_if_match = Header(alias="If-Match", pattern=r'^"[0-9]{1,9}"$', description="The ETag that you have seen.", examples=['"3"'])


def etag(version: int) -> str:
    return f'"{version}"'


def tagged(response: Response, body: Body) -> Body:
    """The body, whose version goes out as its ETag."""
    response.headers["ETag"] = etag(body.version)
    return body


@contextmanager
def showing(view: Callable[[Any], BaseModel]) -> Iterator[None]:
    """A caller that is refused inside because of an old version is told what the thing is now, as this shows it."""
    try:
        yield
    except StaleVersion as stale:
        raise StaleVersion(stale.aggregate, view(stale.aggregate).model_dump(mode="json")) from stale


async def _seen(if_match: Annotated[str, _if_match]) -> int:
    return int(if_match.strip('"'))


async def _seen_if_given(if_match: Annotated[str | None, _if_match] = None) -> int | None:
    return int(if_match.strip('"')) if if_match else None


SeenVersion = Annotated[int, Depends(_seen)]
"""The version that the client has seen; it must say so."""
OptionalSeenVersion = Annotated[int | None, Depends(_seen_if_given)]
"""None: whatever it is now."""
