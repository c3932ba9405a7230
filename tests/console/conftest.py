"""The console before a real identity and a real order service, each on a database of its own, all over HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import col, select

from chassis.clients import HttpSession
from chassis.clock import utc_now
from chassis.database import Database
from chassis.dependencies import provided
from chassis.origin import Origin
from chassis.sessions import EndedSessions, ended_fetcher
from chassis.tokens import TokenVerifier
from cli import secrets
from console.api import COOKIE
from console.app import ConsoleSettings, console
from console.logins import Logins
from contracts.identity import Role
from contracts.platform import CLIENTS
from embedded.ports import free_port
from services.identity import app as identity
from services.identity.model import Session, User
from services.identity.passwords import Passwords
from services.order import app as order
from services.order.commands import StoredKeys
from temporal.codec import HistoryCodec
from temporal.keys import EnvironmentMasterKeys, OwnDataKeys
from tests.conftest import Databases, changing
from tests.gateway.conftest import NOWHERE, connect, serving

PASSWORD = "correct horse battery"
HERE = Origin("192.0.2.1", "a browser")
MASTER_KEY = secrets.master_key("key-1")
CLIENT_SECRET = SecretStr("a secret of every process")


@dataclass
class Shop:
    """Identity and the order service, and their databases."""

    identity_url: str
    order_url: str
    people: Database
    orders: Database
    password_hash: str

    async def person(self, *roles: Role) -> str:
        """The e-mail of a new user with these roles, whose password is PASSWORD."""
        email = f"{uuid4()}@example.com"
        person = User(
            email=email, email_verified_at=utc_now(), name="Ada", password_hash=self.password_hash, roles=[*map(str, roles)]
        )
        async with changing(self.people) as work:
            work.add(person)
        return email

    async def token(self, *roles: Role) -> str:
        """An access token of a new user with these roles."""
        async with connect(base_url=self.identity_url) as http:
            body = {"email": await self.person(*roles), "password": PASSWORD}
            return str((await http.post("/api/v1/auth/login", json=body)).json()["access_token"])

    async def sessions(self, email: str) -> list[Session]:
        """All that this user ever had, oldest first."""
        async with self.people.reading() as session:
            whose = select(User.user_id).where(User.email == email)
            statement = select(Session).where(Session.user_id == whose.scalar_subquery()).order_by(col(Session.session_id))
            return list((await session.execute(statement)).scalars())

    def codec(self) -> HistoryCodec:
        """As the order service has one: it makes the keys of customers."""
        return HistoryCodec(OwnDataKeys(StoredKeys(self.orders), EnvironmentMasterKeys.parse(MASTER_KEY)))


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shop(databases: Databases) -> AsyncIterator[Shop]:
    people, orders = [Database(await databases.new(name), pool_size=4) for name in ("identity", "order")]
    identity_port, order_port = free_port(), free_port()
    identity_url, order_url = (f"http://127.0.0.1:{port}" for port in (identity_port, order_port))
    client_secrets = {f"service_client_secret_{client.name}": CLIENT_SECRET for client in CLIENTS}
    identity_settings = identity.IdentitySettings.model_validate(
        {"database_url": people.url, "identity_url": identity_url, "jwt_private_key": secrets.rsa_key(), **client_secrets}
    )
    order_settings = order.OrderSettings(
        database_url=orders.url,
        identity_url=identity_url,
        service_client_secret=CLIENT_SECRET,
        customer_keys_master=SecretStr(MASTER_KEY),
    )
    async with AsyncExitStack() as stack:
        for service, port in ((identity.build(identity_settings), identity_port), (order.build(order_settings), order_port)):
            await stack.enter_async_context(service.opened())
            await stack.enter_async_context(serving(service.api, port))
        yield Shop(identity_url, order_url, people, orders, await Passwords().hash(SecretStr(PASSWORD)))
    await people.close()
    await orders.close()


@dataclass
class Console:
    """A console that runs, and a browser that knows it: cookies are kept, redirects are not followed."""

    app: FastAPI
    shop: Shop
    url: str
    http: httpx2.AsyncClient

    @property
    def logins(self) -> Logins:
        return provided(self.app, Logins)

    @property
    def verifier(self) -> TokenVerifier:
        return provided(self.app, TokenVerifier)

    async def log_in(self, *roles: Role) -> Self:
        """The browser is a new user's with these roles from now on."""
        form = {"email": await self.shop.person(*roles), "password": PASSWORD}
        answer = await self.http.post("/login", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        return self

    @property
    def cookie(self) -> str:
        return str(self.http.cookies[COOKIE])


@asynccontextmanager
async def running_console(shop: Shop, *, identity_url: str = "", order_url: str = "") -> AsyncIterator[Console]:
    settings = ConsoleSettings(
        identity_url=identity_url or shop.identity_url,
        order_url=order_url or shop.order_url,
        service_client_secret=CLIENT_SECRET,
        customer_keys_master=SecretStr(MASTER_KEY),
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpSession())
        ended = EndedSessions(ended_fetcher(http, settings.identity_url))
        await stack.enter_async_context(ended.following())
        app = console(settings, http, ended)
        await stack.enter_async_context(serving(app, port))
        yield Console(app, shop, url, await stack.enter_async_context(connect(base_url=url)))


@pytest_asyncio.fixture
async def running(shop: Shop) -> AsyncIterator[Console]:
    async with running_console(shop) as console:
        yield console


@pytest.fixture
def logins(running: Console) -> Logins:
    return running.logins


@pytest_asyncio.fixture
async def without_orders(shop: Shop) -> AsyncIterator[Console]:
    """A console that cannot reach the order service."""
    async with running_console(shop, order_url=NOWHERE) as console:
        yield console


def all_live(sessions: Sequence[Session]) -> bool:
    return all(session.is_live for session in sessions)
