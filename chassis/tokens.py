"""Access tokens: who is asking, proven by identity's signature (JWT, RS256, keys from its JWKS)."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from chassis.clients import Answer, HttpSession, OutboundClient, fault
from chassis.dependencies import provided
from chassis.logs import logger
from chassis.sessions import EndedSessions
from contracts.budgets import SERVICE_CALL_S
from contracts.errors import ErrorCode, Refusal
from contracts.identity import CLOCK_LEEWAY, Role

log = logger(__name__)
ALGORITHM = "RS256"
_REFETCH_SECONDS = 5.0
"""An unknown key id makes us ask for the keys again, but not more often than this."""
_CACHED_TOKENS = 4096
_LEEWAY_S = CLOCK_LEEWAY.total_seconds()


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
    """Verifies access tokens with the keys that `fetch_keys` brings (a JWKS document).

    A person's token is for the whole platform (`audience`), until its session is in `ended`; a process's token is for the
    services that it names, so it passes only where `service` is one of them.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        fetch_keys: Callable[[], Awaitable[dict[str, Any]]],
        *,
        service: str | None = None,
        ended: EndedSessions | None = None,
    ) -> None:
        self._issuer, self._audience, self._fetch_keys = issuer, audience, fetch_keys
        self._service, self._ended = service, ended
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        # Verifying a signature costs more than the rest of a small request; the same token comes many times.
        self._verified: dict[str, Principal] = {}

    async def verify(self, token: str) -> Principal:
        """The principal behind a token. Refusals: unauthenticated, clock_fault. Raises Unavailable while identity cannot be asked
        for what is not known yet: that is no verdict on the token."""
        principal = await self.read(token)
        if self._ended is not None and principal.session_id is not None:
            await self._ended.wait_until_known()
            if self._ended.contains(principal.session_id):
                raise _not_valid()
        return principal

    async def read(self, token: str) -> Principal:
        """As `verify`, but the session may have ended."""
        known = self._verified.get(token)
        if known is not None and known.expires_at + _LEEWAY_S > time.time():
            return known
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=[self._audience, self._service] if self._service else self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
            principal = self._principal(claims)
        except jwt.ImmatureSignatureError as error:
            log.error("clock_fault", error="a token comes from the future: compare this machine's clock with identity's")
            raise Refusal(ErrorCode.CLOCK_FAULT, "Our clocks disagree; try again later.") from error
        except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            raise _not_valid() from error
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = principal
        return principal

    def _principal(self, claims: dict[str, Any]) -> Principal:
        """Raises ValueError, KeyError or TypeError for claims that do not make one."""
        roles = frozenset(map(Role, claims.get("roles", [])))
        is_process = Role.SERVICE in roles
        named = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if (self._service if is_process else self._audience) not in named:
            raise ValueError("the token is for somebody else")
        return Principal(
            UUID(claims["sub"]),
            roles,
            float(claims["exp"]),
            session_id=None if is_process else UUID(claims["sid"]),
            warehouses=frozenset(claims["warehouses"]) if "warehouses" in claims else None,
        )

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._fetching:
                if kid not in self._keys and time.monotonic() - self._fetched_at > _REFETCH_SECONDS:
                    keys = jwt.PyJWKSet.from_dict(await self._fetch_keys())
                    self._keys = {str(key.key_id): key for key in keys.keys}
                    self._fetched_at = time.monotonic()
        return self._keys[kid]


def _not_valid() -> Refusal:
    return Refusal(ErrorCode.UNAUTHENTICATED, "The access token is not valid, or no longer.")


def jwks_fetcher(http: HttpSession, identity_url: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Fetches identity's public keys. Raises Unavailable while it cannot be asked: a fault, not a verdict on the token."""
    identity = OutboundClient("identity", identity_url, http, timeout_s=SERVICE_CALL_S, is_ours=True)

    def read(answer: Answer) -> dict[str, Any]:
        if answer.status != 200:
            raise fault("identity", answer, "it gives no keys")
        keys: dict[str, Any] = json.loads(answer.content)
        return keys

    async def fetch() -> dict[str, Any]:
        return await identity.call("keys", "GET", "/.well-known/jwks.json", read)

    return fetch


bearer = HTTPBearer(auto_error=False, description="Access token from `POST /api/v1/auth/login`.")


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Principal:
    """The caller. Refusal: unauthenticated."""
    if credentials is None:
        raise Refusal(ErrorCode.UNAUTHENTICATED, "Send an access token: Authorization: Bearer …")
    return await provided(request.app, TokenVerifier).verify(credentials.credentials)
