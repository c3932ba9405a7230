"""Who is asking: roles and what an access token says."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from contracts.base import Contract, Request


class Role(StrEnum):
    """What a caller may do. SERVICE is for processes of the platform only; no person ever gets it."""

    CUSTOMER = "customer"
    SUPPORT = "support"
    WAREHOUSE = "warehouse"
    ADMIN = "admin"
    SERVICE = "service"


class ServiceTokenRequest(Request):
    """Body of `POST /internal/v1/service-tokens`: how a process of the platform gets its token."""

    client_id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]{1,39}$")]
    client_secret: Annotated[SecretStr, Field(max_length=200)]


class ServiceToken(Contract):
    access_token: str
    expires_in: Annotated[int, Field(gt=0)]
    """Seconds."""
