"""Who is asking: roles and what an access token says."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, SecretStr, StringConstraints

from contracts.base import Contract, Request

USER_TOKEN_LASTS = timedelta(minutes=5)
CLOCK_LEEWAY = timedelta(seconds=60)
"""How far the clocks of two machines may be apart."""


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


class EndedSessionList(Contract):
    """Reply of `GET /internal/v1/ended-sessions?since=&wait_s=`: what ended since `position` of the reply before (0: in the last
    minutes, for as long as an access token may be in use). While that is nothing, the reply takes up to `wait_s` seconds."""

    session_ids: list[UUID]
    position: int
