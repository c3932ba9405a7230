"""Access tokens: who is asking, proven by identity's signature (JWT, RS256, keys from its JWKS)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import aiohttp
import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role

ALGORITHM = "RS256"
_REFETCH_SECONDS = 5.0
"""An unknown key id makes us ask for the keys again, but not more often than this."""
_CACHED_TOKENS = 4096


@dataclass(frozen=True)
class Principal:
    """Who is asking. `subject` is a user's id; for a process of the platform, an id derived from its name."""

    subject: UUID
    roles: frozenset[Role]
    expires_at: float
    """Unix time."""
    session_id: UUID | None = None
    """The login that the token belongs to (claim `sid`); processes of the platform have none."""
    warehouses: frozenset[str] | None = None
    """Which warehouses a warehouse role is for (claim `warehouses`); None is all."""


class TokenVerifier:
    """Verifies access tokens with the keys that `fetch_keys` brings (a JWKS document)."""

    def __init__(self, issuer: str, audience: str, fetch_keys: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._issuer, self._audience, self._fetch_keys = issuer, audience, fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        # Verifying a signature costs more than the rest of a small request; the same token comes many times.
        self._verified: dict[str, Principal] = {}

    async def verify(self, token: str) -> Principal:
        """The principal behind a token. Refusal: unauthenticated."""
        known = self._verified.get(token)
        if known is not None and known.expires_at > time.time():
            return known
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=10,  # seconds that two machines' clocks may differ
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
            principal = Principal(
                UUID(claims["sub"]),
                frozenset(map(Role, claims.get("roles", []))),
                float(claims["exp"]),
                session_id=UUID(claims["sid"]) if "sid" in claims else None,
                warehouses=frozenset(claims["warehouses"]) if "warehouses" in claims else None,
            )
        except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            raise Refusal(ErrorCode.UNAUTHENTICATED, "The access token is not valid, or no longer.") from error
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = principal
        return principal

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._fetching:
                if kid not in self._keys and time.monotonic() - self._fetched_at > _REFETCH_SECONDS:
                    keys = jwt.PyJWKSet.from_dict(await self._fetch_keys())
                    self._keys = {str(key.key_id): key for key in keys.keys}
                    self._fetched_at = time.monotonic()
        return self._keys[kid]


def jwks_fetcher(http: aiohttp.ClientSession, identity_url: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Fetches identity's public keys. Raises OSError while identity cannot be reached: a fault, not a verdict on the token."""

    async def fetch() -> dict[str, Any]:
        try:
            async with http.get(f"{identity_url}/.well-known/jwks.json", timeout=aiohttp.ClientTimeout(total=5)) as response:
                response.raise_for_status()
                keys: dict[str, Any] = await response.json()
                return keys
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError("identity's keys cannot be fetched") from error

    return fetch


_bearer = HTTPBearer(auto_error=False, description="Access token from `POST /api/v1/auth/login`.")


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The caller. Refusal: unauthenticated."""
    if credentials is None:
        raise Refusal(ErrorCode.UNAUTHENTICATED, "Send an access token: Authorization: Bearer …")
    verifier: TokenVerifier = request.app.state.verifier
    return await verifier.verify(credentials.credentials)


Caller = Annotated[Principal, Depends(authenticate)]


def require(*roles: Role) -> Any:
    """A dependency that lets only callers with one of these roles pass: `dependencies=[require(Role.ADMIN)]`."""

    async def check(caller: Caller) -> Principal:
        if not caller.roles & set(roles):
            raise Refusal(ErrorCode.FORBIDDEN, f"This needs one of the roles: {', '.join(roles)}.")
        return caller

    return Depends(check)
