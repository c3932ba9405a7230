"""Bodies of identity's public endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, SecretStr, StringConstraints

from contracts.base import Contract, Request
from contracts.identity import Role

if TYPE_CHECKING:
    from services.identity.model import User

Email = Annotated[EmailStr, AfterValidator(str.lower), Field(max_length=254, examples=["ada@example.com"])]
"""Normalised, so that one address is one account."""
NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=128, examples=["correct horse battery"])]
GivenPassword = Annotated[SecretStr, Field(min_length=1, max_length=128, examples=["correct horse battery"])]
# It goes into mails: no line breaks or other control characters.
PersonName = Annotated[
    str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]


class RegisterRequest(Request):
    email: Email
    password: NewPassword
    name: Annotated[PersonName, Field(examples=["Ada Lovelace"])]


class LoginRequest(Request):
    email: Email
    password: GivenPassword


class RefreshRequest(Request):
    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=200)]


class PasswordRequest(Request):
    current_password: GivenPassword
    new_password: NewPassword


def _for_people(role: Role) -> Role:
    if role == Role.SERVICE:
        raise ValueError("the role service is for processes of the platform only")
    return role


class RolesRequest(Request):
    """All the roles that the user shall have."""

    roles: Annotated[
        frozenset[Annotated[Role, AfterValidator(_for_people)]],
        Field(min_length=1, max_length=len(Role), examples=[["customer", "support"]]),
    ]


class TokenPair(Contract):
    """What a login or a refresh gives. The refresh token is good for one use; its answer has the next one."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    """Seconds, of the access token."""
    refresh_token: str
    refresh_expires_in: int
    """Seconds."""


class UserView(Contract):
    user_id: UUID
    """The customer's id everywhere else."""
    email: str
    name: str
    roles: list[Role]
    created_at: datetime
    version: int
    """Also the ETag; send it back as If-Match."""

    @classmethod
    def of(cls, user: "User") -> Self:
        return cls.model_validate(user.model_dump())
