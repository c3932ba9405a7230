"""What several of identity's endpoints take."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from chassis.dependencies import Db
from chassis.origin import From
from chassis.tokens import require
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.identity.commands.security import SecurityLog
from services.identity.model import SecurityEvent
from services.identity.passwords import Passwords
from services.identity.tokens import TokenIssuer


async def _passwords(request: Request) -> Passwords:
    passwords: Passwords = request.app.state.passwords
    return passwords


async def _issuer(request: Request) -> TokenIssuer:
    issuer: TokenIssuer = request.app.state.issuer
    return issuer


async def _public_url(request: Request) -> str:
    public_url: str = request.app.state.public_url
    return public_url


async def _not_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


async def _security(request: Request) -> SecurityLog:
    security: SecurityLog = request.app.state.security
    return security


Security = Annotated[SecurityLog, Depends(_security)]


async def _refused_tokens_recorded(request: Request, db: Db, origin: From, security: Security) -> AsyncIterator[None]:
    try:
        yield
    except Refusal as refusal:
        if refusal.code == ErrorCode.UNAUTHENTICATED and "authorization" in request.headers:
            async with db.transaction() as session:
                cause = type(refusal.__cause__).__name__ if refusal.__cause__ else "session ended"
                security.add(session, SecurityEvent.TOKEN_REFUSED, origin, detail=cause)
        raise


Hashing = Annotated[Passwords, Depends(_passwords)]
Issuer = Annotated[TokenIssuer, Depends(_issuer)]
PublicUrl = Annotated[str, Depends(_public_url)]
"""Under which customers reach the platform."""
IfMatch = Annotated[str, Header(alias="If-Match", pattern=r'^"[0-9]{1,9}"$', description="The ETag of the user as you read it.")]
ADMIN = require(Role.ADMIN)
NOT_STORED = Depends(_not_stored)
"""What holds tokens must not be kept by anything on the way (RFC 6749, 5.1)."""
REFUSED_TOKENS_RECORDED = Depends(_refused_tokens_recorded)
"""In the security log: an access token that is not valid, or no longer."""
