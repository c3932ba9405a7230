"""Bodies of identity's public endpoints."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from pydantic import AfterValidator, EmailStr, Field, SecretStr, StringConstraints, model_validator

from contracts.address import Address
from contracts.base import Contract, Reason, Request, WarehouseId
from contracts.identity import USER_TOKEN_LASTS, Role
from services.identity.model import REFRESH_TOKEN_LASTS, SecurityEvent, User
from services.identity.tokens import Tokens

Email = Annotated[EmailStr, AfterValidator(str.lower), Field(max_length=254, examples=["ada@example.com"])]
"""Normalised, so that one address is one account."""
NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=128, examples=["correct horse battery"])]
GivenPassword = Annotated[SecretStr, Field(min_length=1, max_length=128, examples=["correct horse battery"])]
GivenToken = Annotated[SecretStr, Field(min_length=1, max_length=200)]
PersonName = Annotated[
    str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]


Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$"), Field(examples=["+4930901820"])]
"""E.164."""
Language = Literal["de", "en", "es", "fr", "it", "nl", "pl", "pt"]
"""BCP 47."""


WHAT_FOLLOWS = (
    "The account has ended, and its e-mail address is free. Orders that are still open are finished first. Of each order that "
    "has ended, address, marks of the card and all words are blanked; lines, amounts, statuses and tracking numbers stay."
)


class RegisterRequest(Request):
    email: Email
    password: NewPassword
    name: Annotated[PersonName, Field(examples=["Ada Lovelace"])]


class LoginRequest(Request):
    email: Email
    password: GivenPassword
    device_token: GivenToken | None = None
    """That of an earlier login on this device: then others' wrong guesses at this account do not slow it down."""


class RefreshRequest(Request):
    refresh_token: GivenToken


class LogoutRequest(Request):
    """Whose session ends; without it, that of the access token."""

    refresh_token: GivenToken | None = None


class PasswordRequest(Request):
    current_password: GivenPassword
    new_password: NewPassword


class EmailRequest(Request):
    email: Email
    current_password: GivenPassword


class AddressRequest(Request):
    email: Email


class LinkRequest(Request):
    token: GivenToken
    """Of the link in the mail."""


class ResetRequest(LinkRequest):
    new_password: NewPassword


class SavedAddress(Address):
    """An address in the profile."""

    address_id: UUID = Field(default_factory=uuid4)
    """Leave it out for a new address."""
    is_default: bool = False
    """Of one at most; without any, the first is."""


def _one_default(addresses: tuple[SavedAddress, ...]) -> tuple[SavedAddress, ...]:
    if len({address.address_id for address in addresses}) < len(addresses):
        raise ValueError("two addresses have the same id")
    defaults = sum(address.is_default for address in addresses)
    if defaults > 1:
        raise ValueError("more than one address is the default")
    if addresses and not defaults:
        return (addresses[0].model_copy(update={"is_default": True}), *addresses[1:])
    return addresses


class ProfileRequest(Request):
    """What is left out stays as it is. `addresses` are all that shall be kept."""

    name: Annotated[PersonName, Field(examples=["Ada Lovelace"])] = ""
    phone: Phone | None = None
    addresses: Annotated[tuple[SavedAddress, ...], Field(max_length=20), AfterValidator(_one_default)] = ()
    language: Language = "en"


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
    warehouses: Annotated[frozenset[WarehouseId], Field(min_length=1, max_length=50)] | None = None
    """Which warehouses the role `warehouse` is for; without it, all."""

    @model_validator(mode="after")
    def _scopes_have_their_role(self) -> Self:
        if self.warehouses is not None and Role.WAREHOUSE not in self.roles:
            raise ValueError("warehouses are for the role warehouse")
        return self


class DisableRequest(Request):
    reason: Annotated[Reason, Field(examples=["Sold stolen goods"])]


class ErasureRequest(Request):
    current_password: GivenPassword


class ErasureOfUserRequest(Request):
    reason: Annotated[Reason, Field(examples=["Asked for by letter"])]
    """Kept in the security log, so it names nobody: a ticket, a date, a law."""


class ErasureView(Contract):
    """What was done, and what follows by itself."""

    user_id: UUID
    """All that is left of the account: orders and payments go on naming it."""
    forgotten_at: datetime
    what_follows: str = WHAT_FOLLOWS

    @classmethod
    def of(cls, user: User) -> Self:
        return cls.model_validate(user.model_dump())


class TokenPair(Contract):
    """What a login or a refresh gives. The refresh token is good for one use; its answer has the next one."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    """Seconds, of the access token."""
    refresh_token: str
    refresh_expires_in: int
    """Seconds."""

    @classmethod
    def of(cls, tokens: Tokens, **others: str) -> Self:
        return cls(
            access_token=tokens.access_token,
            expires_in=int(USER_TOKEN_LASTS.total_seconds()),
            refresh_token=tokens.refresh_token,
            refresh_expires_in=int(REFRESH_TOKEN_LASTS.total_seconds()),
            **others,
        )


class LoginTokens(TokenPair):
    device_token: str
    """Keep it on the device, beyond the session, and send it with the next login."""


class SessionView(Contract):
    session_id: UUID
    device: str
    """What the client said it is (User-Agent)."""
    created_at: datetime
    last_used_at: datetime
    is_current: bool
    """Whether it is the session that asks."""


class SecurityRecordView(Contract):
    record_id: UUID
    at: datetime
    kind: SecurityEvent
    account: str | None
    """What was given: an e-mail, which need not have an account, or the name of a process."""
    user_id: UUID | None
    address: str | None
    by: UUID | None
    """Who did it, if not the user."""
    detail: str


class UserView(Contract):
    user_id: UUID
    """The customer's id everywhere else."""
    email: str
    email_verified: bool
    """Until then there are no mails but the one that verifies it, and no login by e-mail and password."""
    name: str
    phone: str | None
    addresses: list[SavedAddress]
    language: Language
    roles: list[Role]
    warehouses: list[str] | None
    """Which warehouses the role `warehouse` is for; null is all."""
    disabled_at: datetime | None
    forgotten_at: datetime | None
    """Since when the account has ended and names nobody: what named a person is blank."""
    created_at: datetime
    version: int
    """Also the ETag; send it back as If-Match."""

    @classmethod
    def of(cls, user: User) -> Self:
        return cls.model_validate(user.model_dump() | {"email_verified": user.is_verified})


class Registration(Contract):
    """A new account, and its first login."""

    user: UserView
    tokens: TokenPair
