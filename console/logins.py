"""Logins of staff at the console: a cookie stands for a login at identity, whose tokens never reach the browser."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, SecretStr

from chassis.clients import Answer, HttpSession, OutboundClient, Unavailable, fault, model_in
from chassis.origin import Origin
from chassis.problems import status_of
from chassis.tokens import Principal, TokenVerifier
from contracts.budgets import SERVICE_CALL_S
from contracts.errors import ErrorCode, Problem, Refusal
from contracts.identity import Role

READERS = frozenset({Role.SUPPORT, Role.ADMIN})
MOST = 1_000
"""Logins at once; beyond that the oldest one has to log in again."""
LASTS_S = 12 * 3600.0
"""After a working day everybody logs in again."""
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
    told: Mapping[str, str]
    """Headers that tell identity who asks by us: it counts wrong tries by address, and shows people where they are logged in."""
    ends_at: float
    renew_at: float
    """Both on the monotonic clock."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Logins:
    """They live in this process's memory: after a restart people log in again."""

    def __init__(self, http: HttpSession, identity_url: str, verifier: TokenVerifier, *, most: int = MOST) -> None:
        self._identity = OutboundClient("identity", identity_url, http, timeout_s=SERVICE_CALL_S, is_ours=True)
        self._verifier = verifier
        self._most = most
        self._logins: dict[str, _Login] = {}
        self._turn = asyncio.Lock()
        """To log in one after the other: who floods us with passwords leaves identity time for those of others."""

    async def begin(self, email: str, password: SecretStr, origin: Origin) -> str:
        """The cookie of a new login. Refusals: those of identity's login; forbidden, for who is no staff. Raises Unavailable."""
        told = {"X-Forwarded-For": origin.address, "User-Agent": f"Console; {origin.device}"[:200]}
        async with self._turn:
            tokens = await self._tokens("login", {"email": email, "password": password.get_secret_value()}, told)
        login = _Login(tokens, told, time.monotonic() + LASTS_S, _renew_at(tokens))
        principal = await self._verifier.verify(tokens.access_token)
        if not principal.roles & READERS:
            await self._log_out(login)
            raise for_staff()
        while len(self._logins) >= self._most:
            del self._logins[next(iter(self._logins))]
        cookie = secrets.token_urlsafe(32)
        self._logins[cookie] = login
        return cookie

    async def principal(self, cookie: str) -> Principal:
        """Who is behind a cookie. Refusals: unauthenticated, clock_fault. Raises Unavailable while identity cannot be asked."""
        login = self._logins.get(cookie)
        if login is None or time.monotonic() >= login.ends_at:
            await self.end(cookie)
            raise Refusal(ErrorCode.UNAUTHENTICATED, "Log in first.")
        try:
            async with login.renewing:  # a refresh token is good for one use
                if time.monotonic() >= login.renew_at:
                    login.tokens = await self._tokens("refresh", {"refresh_token": login.tokens.refresh_token}, login.told)
                    login.renew_at = _renew_at(login.tokens)
            return await self._verifier.verify(login.tokens.access_token)
        except Refusal as refusal:
            if status_of(refusal.code) not in (401, 403):
                raise
            self._logins.pop(cookie, None)
            raise Refusal(ErrorCode.UNAUTHENTICATED, "This login has ended; log in again.") from refusal

    async def end(self, cookie: str) -> None:
        """Log out."""
        if login := self._logins.pop(cookie, None):
            await self._log_out(login)

    async def _log_out(self, login: _Login) -> None:
        """Nobody has its tokens any more, so no harm is done if identity cannot be told."""
        body = {"refresh_token": login.tokens.refresh_token}
        with suppress(Unavailable):
            await self._identity.call("logout", "POST", "/api/v1/auth/logout", lambda _: None, body=body, headers=login.told)

    async def _tokens(self, call: str, body: Mapping[str, str], headers: Mapping[str, str]) -> Tokens:
        def read(answer: Answer) -> Tokens:
            if answer.status == 422:  # no e-mail address, say
                raise Refusal(ErrorCode.INVALID_CREDENTIALS, "The e-mail or the password is wrong.")
            if answer.status in (401, 403, 429):  # also the 429 is an answer to this one person: others may go on
                problem = model_in(answer, Problem, "identity")
                raise Refusal(ErrorCode(problem.code), problem.detail or "")
            if answer.status != 200:
                raise fault("identity", answer, "it gives no tokens")
            return model_in(answer, Tokens, "identity")

        return await self._identity.call(call, "POST", f"/api/v1/auth/{call}", read, body=body, headers=headers)


def for_staff() -> Refusal:
    return Refusal(ErrorCode.FORBIDDEN, "This is for support and admins.")


def _renew_at(tokens: Tokens) -> float:
    return time.monotonic() + max(tokens.expires_in - _SPARE_S, 1)
