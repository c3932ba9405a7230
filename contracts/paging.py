"""One page of a list."""

from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Items, and the cursor of the next page; None on the last one. Pass it back as `?cursor=`."""

    items: list[Item]
    next_cursor: str | None = None
