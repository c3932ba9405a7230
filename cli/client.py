"""The platform as its users see it, through the gateway; for the demo, the benchmark, the crash test and the journeys."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp


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


class Client:
    """JSON over HTTP. One instance may act for many users: each call takes the access token it should carry."""

    def __init__(self, url: str, *, connections: int = 64) -> None:
        self.url = url.rstrip("/")
        self._connections = connections
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
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
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
        """An access token."""
        return str((await self.log_in(email, password))["access_token"])

    async def log_in(self, email: str, password: str) -> dict[str, Any]:
        """Access and refresh token of somebody whose address is verified."""
        tokens: dict[str, Any] = await self.call("POST", "/api/v1/auth/login", {"email": email, "password": password})
        return tokens

    async def refresh(self, refresh_token: str) -> dict[str, Any]:
        """The next tokens of a login."""
        tokens: dict[str, Any] = await self.call("POST", "/api/v1/auth/refresh", {"refresh_token": refresh_token})
        return tokens

    async def sign_up(self, email: str, password: str, name: str) -> dict[str, Any]:
        """The tokens of a new customer, whose address is still to be verified."""
        person = {"email": email, "password": password, "name": name}
        tokens: dict[str, Any] = (await self.call("POST", "/api/v1/auth/register", person))["tokens"]
        return tokens
