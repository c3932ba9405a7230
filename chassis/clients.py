"""Calls of others over HTTP: the platform's own services, the card processor, the carrier.

What comes of a call:

- a value: the other side did what was asked;
- `Refusal`: a definite "no", with its code;
- `Unavailable`: a fault. Nobody knows whether it was done; ask again later;
- `NotUnderstood`: a fault that concerns this one request. The other side works, and does not understand us, or we do not
  understand its answer. Somebody must look; other requests go on.

A circuit breaker for each kind of call opens after some `Unavailable` in a row. A refusal counts as an answer, and so does
`NotUnderstood`; a call that its caller gave up says nothing of the other side and does not count at all. How long a call may
take, and when a breaker opens, is in contracts/budgets.py.

A call that fails at once is repeated within its time, if whoever makes it says that the other side knows a repeated request as
the same one. To try for longer is Temporal's work, or that of the job that asks.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from opentelemetry import trace
from prometheus_client import Counter
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from pydantic import BaseModel, SecretStr, ValidationError

from chassis.logs import logger
from chassis.public_hosts import PublicHosts
from chassis.telemetry import trace_headers
from contracts.budgets import BREAKER_OPENS_AFTER, BREAKER_S, FIRST_RETRY_S, RETRIES, SERVICE_CALL_S
from contracts.errors import REFUSAL_HEADER, ErrorCode, Refusal
from contracts.identity import ServiceToken

Reply = TypeVar("Reply", bound=BaseModel)
Value = TypeVar("Value")
Body = BaseModel | Mapping[str, Any] | bytes | None
_TOKEN_SPARE_S = 30
log = logger(__name__)
tracer = trace.get_tracer(__name__)
calls_total = Counter(
    "outbound_calls_total",
    "Calls of others by their answer: an HTTP status, `none`, `not_asked` (the circuit is open), or `given_up` by the caller.",
    ["to", "call", "answer"],
)


class Unavailable(Exception):
    """The other side gave no definite answer: it is down, too slow, or failing. It may or may not have done what was asked."""


class NotUnderstood(Unavailable):
    """The other side answers, but not to this request. Somebody must look; other requests go on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def is_failure(self) -> bool:
        """Whether the other side failed, or wants it later: that says nothing about the request itself."""
        return self.status >= 500 or self.status in (408, 425, 429)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: Body
    headers: Mapping[str, str]
    largest: int | None
    """Of the answer, in bytes."""


class HttpSession:
    """The connections of one process to others: no cookies, no redirects, connections kept. Open inside its block.

    `public_only`: it reaches public addresses alone, whatever a name stands for. For addresses that strangers tell."""

    def __init__(self, *, connections: int = 100, public_only: bool = False) -> None:
        self._connections, self._public_only = connections, public_only
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=30, resolver=PublicHosts() if self._public_only else None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=30, connect=5),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.session.close()


class OutboundClient:
    """One other side, as this process calls it. `name` is for people: it stands in errors, logs, metrics and traces."""

    def __init__(
        self,
        name: str,
        base_url: str,
        http: HttpSession,
        *,
        timeout_s: float,
        breaker_threshold: int = BREAKER_OPENS_AFTER,
        breaker_seconds: float = BREAKER_S,
        retries: int = RETRIES,
        is_ours: bool = False,
    ) -> None:
        """`retries`: of calls that may be repeated. `is_ours`: a process of the platform, which is told the trace of a call."""
        self.name = name
        self._base_url, self._http, self._is_ours = base_url.rstrip("/"), http, is_ours
        self._timeout_s, self._retries = timeout_s, retries
        self._threshold, self._breaker_seconds = breaker_threshold, breaker_seconds
        self._breakers = AsyncCircuitBreakerFactory(exclude=[Refusal, NotUnderstood])

    async def call(
        self,
        call: str,
        method: str,
        path: str,
        read: Callable[[Answer], Value],
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = False,
        largest: int | None = None,
    ) -> Value:
        """What `read` makes of the answer; it may raise Refusal, Unavailable and NotUnderstood. Raises Unavailable.

        `call` names the kind of call: each has a breaker of its own, so that failing charges keep nobody from a refund. A body of
        bytes is sent as it is; its headers say what it is. `is_repeatable`: the other side knows a repeated request as the same.
        `largest`: of an answer, in bytes; more is a fault.
        """
        outcome = "none"
        with tracer.start_as_current_span(f"{self.name} {call}", kind=trace.SpanKind.CLIENT) as span:
            try:
                async with self._circuit(call):
                    request = _Request(method, path, body, headers or {}, largest)
                    answer = await self._sent(request, self._retries if is_repeatable else 0)
                    outcome = str(answer.status)
                    return read(answer)
            except OpenedState as error:
                outcome = "not_asked"
                raise Unavailable(f"{self.name} has been failing; it is not asked again yet") from error
            except NotUnderstood as error:
                log.error("request_not_understood", other_side=self.name, call=call, error=str(error))
                raise
            except asyncio.CancelledError:
                outcome = "given_up"
                raise
            finally:
                span.set_attribute("outbound.answer", outcome)
                calls_total.labels(self.name, call, outcome).inc()

    @asynccontextmanager
    async def _circuit(self, call: str) -> AsyncIterator[None]:
        """Raises OpenedState while the circuit is open. Tells the breaker what came of the call, unless it was given up."""
        breaker = await self._breakers.get_breaker(call, self._threshold, self._breaker_seconds)
        await breaker.__aenter__()
        try:
            yield
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await breaker.__aexit__(type(error), error, error.__traceback__)
            raise
        else:
            await breaker.__aexit__(None, None, None)

    async def _sent(self, request: _Request, retries: int) -> Answer:
        """The first answer that is no failure, or the last one. All tries together take no longer than one may."""
        until = time.monotonic() + self._timeout_s
        for number in range(retries):
            pause = FIRST_RETRY_S * 4**number * random.uniform(0.75, 1.25)  # noqa: S311 - keeps callers apart
            try:
                answer = await self._send(request, until)
                if not answer.is_failure or time.monotonic() + pause >= until:
                    return answer
            except Unavailable:
                if time.monotonic() + pause >= until:
                    raise
            await asyncio.sleep(pause)
        return await self._send(request, until)

    async def _send(self, request: _Request, until: float) -> Answer:
        data, sent, body = None, dict(request.headers), request.body
        if self._is_ours:
            sent |= trace_headers()
        if isinstance(body, bytes):
            data = body
        elif body is not None:
            data = body.model_dump_json().encode() if isinstance(body, BaseModel) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=max(until - time.monotonic(), 0.001))
        try:
            async with self._http.session.request(
                request.method, self._base_url + request.path, data=data, headers=sent, timeout=timeout, allow_redirects=False
            ) as response:
                told = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, await self._content(response, request.largest), told)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{self.name} gave no answer ({type(error).__name__})") from error

    async def _content(self, response: aiohttp.ClientResponse, largest: int | None) -> bytes:
        if largest is None:
            return await response.read()
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > largest:
                raise NotUnderstood(f"{self.name} answers with more than {largest} bytes")
        return bytes(content)


class ServiceTokens:
    """This process's own service token, fetched from identity and renewed before it expires."""

    def __init__(self, http: HttpSession, identity_url: str, client_id: str, secret: SecretStr) -> None:
        self._identity = OutboundClient("identity", identity_url, http, timeout_s=SERVICE_CALL_S, is_ours=True)
        self._client_id, self._secret = client_id, secret
        self._token, self._renew_at = "", 0.0
        self._renewing = asyncio.Lock()

    async def get(self) -> str:
        """A token good for at least half a minute. Raises Unavailable while identity gives none."""
        if time.monotonic() >= self._renew_at:
            async with self._renewing:
                if time.monotonic() >= self._renew_at:
                    await self._renew()
        return self._token

    def forget(self, token: str) -> None:
        """It was not accepted: fetch a new one before the next call, unless that has happened meanwhile."""
        if token == self._token:
            self._renew_at = 0.0

    async def _renew(self) -> None:
        body = {"client_id": self._client_id, "client_secret": self._secret.get_secret_value()}
        path = "/internal/v1/service-tokens"
        token = await self._identity.call("service token", "POST", path, self._read, body=body)
        self._token, self._renew_at = token.access_token, time.monotonic() + max(token.expires_in - _TOKEN_SPARE_S, 1)

    @staticmethod
    def _read(answer: Answer) -> ServiceToken:
        if answer.status != 200:
            raise fault("identity", answer, "it gives no service token")
        return model_in(answer, ServiceToken, "identity")


class ServiceClient:
    """One service of the platform, called with this process's service token."""

    def __init__(
        self,
        name: str,
        base_url: str,
        http: HttpSession,
        tokens: ServiceTokens,
        *,
        timeout_s: float = SERVICE_CALL_S,
        breaker_threshold: int = BREAKER_OPENS_AFTER,
        breaker_seconds: float = BREAKER_S,
    ) -> None:
        self.name = name
        self._tokens = tokens
        self._client = OutboundClient(
            name,
            base_url,
            http,
            timeout_s=timeout_s,
            breaker_threshold=breaker_threshold,
            breaker_seconds=breaker_seconds,
            is_ours=True,
        )

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Send a command. Raises Refusal or Unavailable."""
        token = await self._tokens.get()

        def read(answer: Answer) -> Reply:
            if answer.status < 300:
                return model_in(answer, reply, self.name)
            if answer.status == 401:
                self._tokens.forget(token)
            raise failure(self.name, answer)

        return await self._client.call(path, "POST", path, read, body=body, headers={"Authorization": f"Bearer {token}"})


def model_in(answer: Answer, model: type[Reply], name: str) -> Reply:
    """The model in an answer. Raises NotUnderstood."""
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise NotUnderstood(f"{name} answered {answer.status} with something that is not its protocol") from error


def fault(name: str, answer: Answer, what: str) -> Unavailable:
    """The fault that an answer stands for which is no value and no refusal."""
    kind = Unavailable if answer.is_failure else NotUnderstood
    return kind(f"{name} answered {answer.status}: {what}")


def failure(name: str, answer: Answer) -> Refusal | Unavailable:
    """What a service's answer means that is no success.

    Only what a command of the service refused carries `REFUSAL_HEADER`. An unknown path, a method or a body that the framework
    did not accept, a missing right: between our own processes these are mistakes of ours, to be repaired and tried again.
    """
    problem = _problem(answer.content)
    detail = str(problem.pop("detail", "") or "no reason was given")
    code = _CODES.get(answer.headers.get(REFUSAL_HEADER, ""))
    if code is None or answer.is_failure:
        return fault(name, answer, detail)
    return Refusal(code, detail, extra={key: value for key, value in problem.items() if key not in _MEMBERS})


_CODES: Mapping[str, ErrorCode] = {code.value: code for code in ErrorCode}
_MEMBERS = frozenset({"type", "title", "status", "code", "instance", "trace_id"})
"""Of problem details, beside the detail and what a refusal adds."""


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
