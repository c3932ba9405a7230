"""What several of identity's endpoints take."""

from typing import Annotated

from fastapi import Depends, Header, Request, Response

from chassis.tokens import require
from contracts.identity import Role
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


Hashing = Annotated[Passwords, Depends(_passwords)]
Issuer = Annotated[TokenIssuer, Depends(_issuer)]
PublicUrl = Annotated[str, Depends(_public_url)]
"""Under which customers reach the platform."""
IfMatch = Annotated[str, Header(alias="If-Match", pattern=r'^"[0-9]{1,9}"$', description="The ETag of the user as you read it.")]
ADMIN = require(Role.ADMIN)
NOT_STORED = Depends(_not_stored)
"""What holds tokens must not be kept by anything on the way (RFC 6749, 5.1)."""
