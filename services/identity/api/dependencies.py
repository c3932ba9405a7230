"""What several of identity's endpoints take."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import SecretStr

from chassis.dependencies import Db, from_app
from chassis.origin import ClientOrigin
from contracts.errors import ErrorCode, Refusal
from services.identity.commands.security import SecurityLog
from services.identity.ended import EndedSessionsWatch
from services.identity.model import SecurityEvent
from services.identity.passwords import Passwords
from services.identity.tokens import TokenIssuer


@dataclass(frozen=True)
class LinkAddress:
    """Under which customers reach the platform: links in mails begin with it."""

    begin_with: str


@dataclass(frozen=True)
class ClientSecrets:
    """With which each process of the platform that calls others proves itself, by its name."""

    secrets: Mapping[str, SecretStr]


Hashing = Annotated[Passwords, from_app(Passwords)]
Issuer = Annotated[TokenIssuer, from_app(TokenIssuer)]
Security = Annotated[SecurityLog, from_app(SecurityLog)]
Links = Annotated[LinkAddress, from_app(LinkAddress)]
Clients = Annotated[ClientSecrets, from_app(ClientSecrets)]
Watch = Annotated[EndedSessionsWatch, from_app(EndedSessionsWatch)]


async def _not_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


async def _refused_tokens_recorded(request: Request, db: Db, origin: ClientOrigin, security: Security) -> AsyncIterator[None]:
    try:
        yield
    except Refusal as refusal:
        if refusal.code == ErrorCode.UNAUTHENTICATED and "authorization" in request.headers:
            cause = type(refusal.__cause__).__name__ if refusal.__cause__ else "session ended"
            await security.record(db, SecurityEvent.TOKEN_REFUSED, origin, detail=cause)
        raise


NOT_STORED = Depends(_not_stored)
"""What holds tokens must not be kept by anything on the way (RFC 6749, 5.1)."""
REFUSED_TOKENS_RECORDED = Depends(_refused_tokens_recorded)
"""In the security log: an access token that is not valid, or no longer."""
