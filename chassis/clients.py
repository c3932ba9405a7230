"""Calls from one process of the platform to another: JSON over HTTP, with a service token, a time limit and a circuit breaker.

An answer is a reply model, a `Refusal` (a definite "no", with its code), or `Unavailable` (a fault: try again later). Whoever
calls decides about retries: in a saga that is Temporal, and nothing here retries beneath it.
"""

import asyncio
import json
import time
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from pydantic import BaseModel, SecretStr

from chassis.telemetry import trace_headers
from contracts.errors import ErrorCode, Refusal
from contracts.identity import ServiceToken

Reply = TypeVar("Reply", bound=BaseModel)
_RETRYABLE = frozenset({401, 408, 425, 429})
"""Statuses below 500 that say nothing about the request itself; 401 means that our own token went stale."""


class Unavailable(Exception):
    """The other side gave no definite answer: it is down, too slow, or failing. It may or may not have done what was asked."""


class ServiceTokens:
    """This process's own service token, fetched from identity and renewed before it expires."""

    def __init__(self, http: aiohttp.ClientSession, identity_url: str, client_id: str, secret: SecretStr) -> None:
        self._http, self._url, self._client_id, self._secret = http, identity_url, client_id, secret
        self._token, self._renew_at = "", 0.0
        self._renewing = asyncio.Lock()

    async def get(self) -> str:
        """A token good for at least half a minute. Raises Unavailable while identity cannot be asked."""
        if time.monotonic() >= self._renew_at:
            async with self._renewing:
                if time.monotonic() >= self._renew_at:
                    await self._renew()
        return self._token

    def forget(self) -> None:
        """Fetch a new token before the next call; the old one was not accepted."""
        self._renew_at = 0.0

    async def _renew(self) -> None:
        body = {"client_id": self._client_id, "client_secret": self._secret.get_secret_value()}
        try:
            async with self._http.post(f"{self._url}/internal/v1/service-tokens", json=body) as response:
                if response.status != 200:
                    raise Unavailable(f"identity gave no service token: {response.status}")
                token = ServiceToken.model_validate(await response.json())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"identity cannot be reached: {error!r}") from error
        self._token, self._renew_at = token.access_token, time.monotonic() + max(token.expires_in - 30, 1)


class ServiceClient:
    """One other service, as this process calls it."""

    def __init__(
        self,
        name: str,
        base_url: str,
        http: aiohttp.ClientSession,
        tokens: ServiceTokens,
        *,
        timeout_s: float = 10.0,
        breaker_threshold: int = 5,
        breaker_seconds: float = 2.0,
    ) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._http, self._tokens = http, tokens
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._threshold, self._breaker_seconds = breaker_threshold, breaker_seconds
        # A refusal is an answer: it must not open the circuit.
        self._breakers = AsyncCircuitBreakerFactory(exclude=[Refusal])

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Send a command. Raises Refusal or Unavailable."""
        return await self._call("POST", path, body, reply)

    async def get(self, path: str, reply: type[Reply]) -> Reply:
        """Ask. Raises Refusal or Unavailable."""
        return await self._call("GET", path, None, reply)

    async def _call(self, method: str, path: str, body: BaseModel | None, reply: type[Reply]) -> Reply:
        breaker = await self._breakers.get_breaker(self.name, self._threshold, self._breaker_seconds)
        try:
            async with breaker:
                return await self._send(method, path, body, reply)
        except OpenedState as error:
            raise Unavailable(f"{self.name} has been failing; not asked again yet") from error

    async def _send(self, method: str, path: str, body: BaseModel | None, reply: type[Reply]) -> Reply:
        headers = {**trace_headers(), "Authorization": f"Bearer {await self._tokens.get()}"}
        data = None
        if body is not None:
            data = body.model_dump_json().encode()
            headers["Content-Type"] = "application/json"
        try:
            async with self._http.request(
                method, self._base_url + path, data=data, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{self.name} cannot be reached: {type(error).__name__} {error}") from error
        if status < 300:
            return reply.model_validate_json(content)
        if status == 401:
            self._tokens.forget()
        raise failure(self.name, status, content)


def failure(name: str, status: int, content: bytes) -> Refusal | Unavailable:
    """What an error response means: a refusal if it is a problem with a known code, else a fault."""
    problem = _problem(content)
    detail = str(problem.pop("detail", "") or f"{name} answered {status}")
    if 400 <= status < 500 and status not in _RETRYABLE:
        try:
            code = ErrorCode(str(problem.pop("code", "")))
        except ValueError:
            return Unavailable(f"{name} answered {status} without a known code")
        extra = {key: value for key, value in problem.items() if key not in ("type", "title", "status", "instance", "trace_id")}
        return Refusal(code, detail, extra=extra)
    return Unavailable(f"{name} answered {status}: {detail}")


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


class HttpSession:
    """An aiohttp session for calls within the platform: no cookies, no redirects, connections kept."""

    def __init__(self, *, connections: int = 100) -> None:
        self._connections = connections
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=30, connect=5),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.session.close()
