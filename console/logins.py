"""Logins of staff at the console: a cookie stands for a login at identity, whose tokens never reach the browser."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, SecretStr

from chassis.clients import Answer, HttpSession, OutboundClient, failure, model_in
from chassis.origin import Origin
from chassis.tokens import Principal, TokenVerifier
from contracts.budgets import SERVICE_CALL_S
from contracts.errors import ErrorCode, Refusal

MOST = 1_000
"""Logins at once; beyond that the oldest one has to log in again."""
_SPARE_S = 30
"""An access token is renewed so long before it expires."""


class Tokens(BaseModel):
    """What identity answers to a login or a refresh."""

    access_token: str
    expires_in: int = Field(gt=0)
    """Seconds."""
    refresh_token: str


@dataclass
class _Login:
    tokens: Tokens
    renew_at: float
    """On the monotonic clock."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Logins:
    """They live in this process's memory: after a restart people log in again."""

    def __init__(self, http: HttpSession, identity_url: str, verifier: TokenVerifier) -> None:
        self._identity = OutboundClient("identity", identity_url, http, timeout_s=SERVICE_CALL_S, is_ours=True)
        self._verifier = verifier
        self._logins: dict[str, _Login] = {}

    async def begin(self, email: str, password: SecretStr, origin: Origin) -> tuple[str, Principal]:
        """The cookie of a new login, and who it is. Refusals: those of identity's login. Raises Unavailable."""
        told = {"X-Forwarded-For": origin.address, "User-Agent": f"Console; {origin.device}"[:200]}
        tokens = await self._tokens("login", {"email": email, "password": password.get_secret_value()}, told)
        principal = await self._verifier.verify(tokens.access_token)
        if len(self._logins) >= MOST:
            del self._logins[next(iter(self._logins))]
        cookie = secrets.token_urlsafe(32)
        self._logins[cookie] = _login(tokens)
        return cookie, principal

    async def principal(self, cookie: str) -> Principal:
        """Who is behind a cookie. Refusal: unauthenticated. Raises Unavailable while identity cannot be asked."""
        login = self._logins.get(cookie)
        if login is None:
            raise Refusal(ErrorCode.UNAUTHENTICATED, "Log in first.")
        try:
            async with login.renewing:  # a refresh token is good for one use
                if time.monotonic() >= login.renew_at:
                    tokens = await self._tokens("refresh", {"refresh_token": login.tokens.refresh_token})
                    login.tokens, login.renew_at = tokens, _renew_at(tokens)
            return await self._verifier.verify(login.tokens.access_token)
        except Refusal:
            self._logins.pop(cookie, None)
            raise

    async def end(self, cookie: str) -> None:
        """Log out. Raises Unavailable."""
        if login := self._logins.pop(cookie, None):
            body = {"refresh_token": login.tokens.refresh_token}
            await self._identity.call("logout", "POST", "/api/v1/auth/logout", lambda _: None, body=body)

    async def _tokens(self, call: str, body: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Tokens:
        def read(answer: Answer) -> Tokens:
            if answer.status == 422:  # no e-mail address, say
                raise Refusal(ErrorCode.INVALID_CREDENTIALS, "Wrong e-mail or password.")
            if answer.status != 200:
                raise failure("identity", answer)
            return model_in(answer, Tokens, "identity")

        return await self._identity.call(call, "POST", f"/api/v1/auth/{call}", read, body=body, headers=headers)


def _login(tokens: Tokens) -> _Login:
    return _Login(tokens, _renew_at(tokens))


def _renew_at(tokens: Tokens) -> float:
    return time.monotonic() + max(tokens.expires_in - _SPARE_S, 1)
