"""The base of every model that leaves a process."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class Contract(BaseModel):
    """A frozen value. Unknown fields are ignored, so that an old reader accepts what a newer writer sends."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Request(Contract):
    """A frozen value that a client sends. Unknown fields are refused, so that a misspelt one is told and not lost."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


ProductId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
WarehouseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
"""Control characters have no place in a line of text; PostgreSQL cannot even store the first of them."""
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=NO_CONTROLS)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True, pattern=NO_CONTROLS)]
