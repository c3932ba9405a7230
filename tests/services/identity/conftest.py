"""Identity on a fresh database, verifying tokens with its own key."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import UUID

import httpx2
import jwt
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlmodel import select

from chassis.database import Database
from cli.secrets import rsa_key
from contracts.accounts import AccountMail
from services.identity.app import IdentitySettings, build
from services.identity.commands import accounts
from services.identity.model import outbox
from services.identity.passwords import Passwords
from services.identity.tokens import TokenIssuer
from tests.conftest import Databases

CLIENT_SECRETS = {
    "worker": SecretStr("a-secret-of-the-worker"),
    "order": SecretStr("a-secret-of-the-order-service"),
    "notification": SecretStr("a-secret-of-notification"),
    "console": SecretStr("a-secret-of-the-console"),
}
ADMIN = {"email": "admin@example.com", "password": "admin-password"}
PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def private_key() -> SecretStr:
    return SecretStr(rsa_key())


@pytest.fixture(scope="session")
def issuer(private_key: SecretStr) -> TokenIssuer:
    return TokenIssuer(private_key, "", issuer="distributed-commerce", audience="commerce")


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("identity"), pool_size=20)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def settings(private_key: SecretStr) -> Callable[..., IdentitySettings]:
    def make(database_url: str, **others: object) -> IdentitySettings:
        values = {
            "database_url": database_url,
            "jwt_private_key": private_key,
            **{f"service_client_secret_{name}": secret for name, secret in CLIENT_SECRETS.items()},
        }
        return IdentitySettings.model_validate(values | others)

    return make


@dataclass
class Shop:
    """A client of the API, and what a person does with it."""

    http: httpx2.AsyncClient
    database: Database

    async def register(self, email: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.http.post("/api/v1/auth/register", json={"email": email, "password": password, "name": "Ada"})

    async def link(self, request_id: UUID | None = None) -> AccountMail:
        """The mail that was asked for last, or this one, as notification gets it at the moment of sending."""
        if request_id is None:
            async with self.database.reading() as session:
                asked = (
                    select(outbox.table.c.envelope)
                    .where(outbox.table.c.envelope["type"].astext == "AccountMailRequested")
                    .order_by(outbox.table.c.seq.desc())
                )
                envelope = (await session.execute(asked)).scalars().first()
            assert envelope is not None
            request_id = UUID(envelope["data"]["request_id"])
        return await accounts.prepare_mail(self.database, "https://shop.example", request_id)

    async def follow(self, mail: AccountMail, **fields: str) -> httpx2.Response:
        """Open the link's page, and press its button."""
        path, token = mail.link.removeprefix("https://shop.example").split("?token=")
        page = await self.http.get(path, params={"token": token})
        assert (page.status_code, token in page.text) == (200, True)
        return await self.http.post(path, data={"token": token, "action": "confirm"} | fields)

    async def customer(self, email: str, password: str = PASSWORD) -> dict[str, str]:
        """The headers of a new user whose address is verified."""
        registered = await self.register(email, password)
        assert (await self.follow(await self.link())).status_code == 200
        return bearer(registered)

    async def log_in(
        self, email: str, password: str = PASSWORD, *, address: str = "192.0.2.1", device_token: str | None = None
    ) -> httpx2.Response:
        body = {"email": email, "password": password} | ({"device_token": device_token} if device_token else {})
        return await self.http.post("/api/v1/auth/login", json=body, headers={"X-Forwarded-For": address})

    async def refresh(self, token: str) -> httpx2.Response:
        return await self.http.post("/api/v1/auth/refresh", json={"refresh_token": token})

    async def user(self, email: str) -> tuple[str, dict[str, str]]:
        """A new user's id, and the headers of their requests."""
        headers = await self.customer(email)
        return (await self.http.get("/api/v1/users/me", headers=headers)).json()["user_id"], headers

    async def admin(self) -> dict[str, str]:
        """The headers of the first admin's requests."""
        return bearer(await self.log_in(**ADMIN))


def session_of(headers: dict[str, str]) -> str:
    """The session of these headers' access token."""
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), options={"verify_signature": False})
    return str(claims["sid"])


def bearer(reply: httpx2.Response) -> dict[str, str]:
    """The headers of whoever just logged in or registered."""
    tokens = reply.json().get("tokens", reply.json())
    return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest_asyncio.fixture
async def shop(database: Database, settings: Callable[..., IdentitySettings]) -> AsyncIterator[Shop]:
    service = build(settings(database.url, admin_email=ADMIN["email"], admin_password=ADMIN["password"]))
    async with service.opened():
        transport = httpx2.ASGITransport(service.api)
        async with httpx2.AsyncClient(transport=transport, base_url="http://identity") as client:
            yield Shop(client, database)
