"""The platform as its users see it, through the gateway; for the demo, the benchmark, the crash test and the journeys."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

RENEW_AFTER_S = 200.0
"""Well before an access token expires."""
MAIL_WITHIN_S = 300
_LINK = re.compile(r"/api/v1/auth/links/([a-z-]+)\?token=(\S+)")


class ApiProblem(Exception):
    """The platform refused a request: `status` and its problem details in `body`."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}: {body.get('detail')}")
        self.status, self.body = status, body

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


@dataclass(frozen=True)
class Reply:
    """A response: status, JSON body (None if empty), headers."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Recorder(Protocol):
    """Is told of each call when it has ended; `testing.histories.History` is one."""

    def __call__(
        self, method: str, path: str, body: Any, token: str | None, headers: Mapping[str, str], began: float, reply: Reply | None
    ) -> None:
        """`began`: by time.monotonic(). `reply` None: no answer came."""


class Client:
    """JSON over HTTP. One instance may act for many users: each call takes the access token it should carry."""

    def __init__(self, url: str, *, connections: int = 64, recorder: Recorder | None = None) -> None:
        self.url = url.rstrip("/")
        self._connections = connections
        self._recorder = recorder
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections), timeout=aiohttp.ClientTimeout(total=60)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.close()

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Send a request and return whatever comes back, refusals included."""
        began, reply = time.monotonic(), None
        try:
            reply = await self._send(method, path, body, token, headers or {})
        finally:
            if self._recorder:
                self._recorder(method, path, body, token, headers or {}, began, reply)
        return reply

    async def _send(self, method: str, path: str, body: Any, token: str | None, headers: Mapping[str, str]) -> Reply:
        sent = {**headers, "Authorization": f"Bearer {token}"} if token else dict(headers)
        async with self._http.request(method, self.url + path, json=body, headers=sent) as response:
            content = await response.json(content_type=None) if response.content_length != 0 else None
            return Reply(response.status, content, dict(response.headers))

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """The body of a successful response. Raises ApiProblem."""
        reply = await self.ask(method, path, body, token=token, headers=headers)
        if reply.status >= 400:
            raise ApiProblem(reply.status, reply.body if isinstance(reply.body, dict) else {})
        return reply.body


class Gateway(Client):
    """A client of the gateway."""

    async def login(self, email: str, password: str) -> str:
        """An access token, good for five minutes."""
        tokens = await self.call("POST", "/api/v1/auth/login", {"email": email, "password": password})
        return str(tokens["access_token"])

    async def sign_up(self, email: str, password: str, name: str) -> Reply:
        """Open an account: the user, whose address is still to be verified, and tokens."""
        return await self.ask("POST", "/api/v1/auth/register", {"email": email, "password": password, "name": name})


@dataclass(frozen=True)
class Company:
    """One of the simulators: what it wrote down, and its switches."""

    client: Client
    api_key: str | None = None

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a successful reply. Raises ApiProblem."""
        return await self.client.call(method, path, body, token=self.api_key)

    async def set_faults(self, **switches: object) -> None:
        """Turn switches; without any, turn all of them off."""
        await self.call("POST" if switches else "DELETE", "/_control/faults", switches or None)


class Person:
    """Somebody with an account, whose access token is renewed before it expires."""

    def __init__(self, gateway: Gateway, email: str, password: str, name: str = "") -> None:
        self._gateway, self.email, self._password, self._name = gateway, email, password, name
        self._tokens: dict[str, Any] = {}
        self._since = float("-inf")
        self._turn = asyncio.Lock()

    async def sign_up(self) -> None:
        """Open an account, logged in at once. Raises ApiProblem."""
        self._keep(await self._gateway.sign_up(self.email, self._password, self._name))

    async def verify(self, mailbox: Company) -> None:
        """Follow the link in the mail that comes; who has an account from an earlier run goes on with that one.

        Raises ApiProblem, and TimeoutError if no mail comes."""
        deadline = time.monotonic() + MAIL_WITHIN_S
        while not (links := await self._links(mailbox)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {MAIL_WITHIN_S} s in vain for a mail to {self.email}")
            await asyncio.sleep(0.1)
        page, token = links[-1]
        if page == "verify-email":
            verified = await self._gateway.ask("POST", "/api/v1/auth/verify-email", {"token": token})
            if verified.status < 400:
                return
        await self.log_in()

    async def _links(self, mailbox: Company) -> list[tuple[str, str]]:
        """Page and token of the links in this person's mails, oldest first."""
        mails = (await mailbox.call("GET", f"/messages?to={self.email}"))["data"]
        return [(link[1], link[2]) for mail in mails if (link := _LINK.search(mail["text"]))]

    async def token(self) -> str:
        """A valid access token. Raises ApiProblem."""
        async with self._turn:
            if time.monotonic() - self._since > RENEW_AFTER_S:
                await self._renew()
        return str(self._tokens["access_token"])

    async def _renew(self) -> None:
        if not self._tokens:
            return await self.log_in()
        reply = await self._gateway.ask("POST", "/api/v1/auth/refresh", {"refresh_token": self._tokens["refresh_token"]})
        if reply.status == 401:  # the session has ended, or an answer was lost: then the token counts as used twice
            return await self.log_in()
        self._keep(reply)
        return None

    async def log_in(self) -> None:
        """With e-mail and password, which needs a verified address. Raises ApiProblem."""
        known = {"device_token": self._tokens["device_token"]} if "device_token" in self._tokens else {}
        body = {"email": self.email, "password": self._password, **known}
        self._keep(await self._gateway.ask("POST", "/api/v1/auth/login", body))

    def _keep(self, reply: Reply) -> None:
        if reply.status >= 400:
            raise ApiProblem(reply.status, reply.body)
        self._tokens |= reply.body.get("tokens", reply.body)
        self._since = time.monotonic()
