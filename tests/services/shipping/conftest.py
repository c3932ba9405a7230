"""Shipping on a fresh database, and the carrier's simulator on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from pydantic import SecretStr

from chassis.clients import HttpSession
from chassis.database import Database
from services.shipping.adapters import HttpCarrier
from services.shipping.app import ShippingSettings, build
from simulators._webhooks import WebhookTarget
from simulators.carrier import SIGNATURE, Settings, create_app
from tests.conftest import Databases, TokenMint, eventually, running_api

API_KEY = "key-of-the-tests"
WEBHOOK_SECRET = "secret-of-the-tests-0123456789"


@asynccontextmanager
async def listening(app: Any, lifespan: Literal["on", "off"] = "off") -> AsyncIterator[str]:
    """An ASGI application on a free port; its URL."""
    # Said to be TCP, so that asyncio turns Nagle's algorithm off: it would cost 40 ms a request.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as free:
        free.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan=lifespan, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[free]))

        async def started() -> bool:
            return server.started

        await eventually(started, what="the server's start")
        yield f"http://127.0.0.1:{free.getsockname()[1]}"
        server.should_exit = True
        await serving


class CarrierSimulator:
    """What the tests do with the carrier beside the platform: break it, move parcels, read its books."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def faults(self, **switches: object) -> None:
        (await self._http.post("/_control/faults", json=switches)).raise_for_status()

    async def repair(self) -> None:
        (await self._http.delete("/_control/faults")).raise_for_status()

    async def advance(self, to: str, *references: UUID | str) -> None:
        body = {"to": to, "references": list(map(str, references))}
        assert (await self._http.post("/_control/advance", json=body)).json()["advanced"] == len(references)

    async def post(self, reference: UUID | str, action: str) -> int:
        """Somebody else cancels or picks up, without telling us."""
        return (await self._http.post(f"/v1/shipments/{reference}/{action}")).status_code

    async def shipment(self, reference: UUID | str) -> dict[str, Any] | None:
        response = await self._http.get(f"/v1/shipments/{reference}")
        return response.json() if response.status_code == 200 else None

    async def status(self, reference: UUID | str) -> str | None:
        shipment = await self.shipment(reference)
        return shipment["status"] if shipment else None


@asynccontextmanager
async def running_carrier(data_dir: Path, webhook_url: str | None = None) -> AsyncIterator[CarrierSimulator]:
    target = None
    if webhook_url:
        target = WebhookTarget(url=webhook_url, secret=WEBHOOK_SECRET, header=SIGNATURE, first_wait=0.02, longest_wait=0.1)
    app = create_app(Settings(data_dir=data_dir, api_key=API_KEY, currency="USD", webhook=target))
    async with listening(app, "on") as url:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
            yield CarrierSimulator(url, http)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_simulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CarrierSimulator]:
    async with running_carrier(tmp_path_factory.mktemp("carrier")) as simulator:
        yield simulator


@pytest_asyncio.fixture
async def simulator(one_simulator: CarrierSimulator) -> AsyncIterator[CarrierSimulator]:
    """The carrier, healthy at the beginning of each test."""
    await one_simulator.repair()
    yield one_simulator
    await one_simulator.repair()


@pytest_asyncio.fixture
async def carrier(simulator: CarrierSimulator) -> AsyncIterator[HttpCarrier]:
    """Our adapter to it. Its breaker stays closed: what it does is tested with one of its own."""
    async with HttpSession() as http:
        yield HttpCarrier(http, simulator.url, SecretStr(API_KEY), timeout_s=30, breaker_threshold=1_000_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(databases: Databases) -> AsyncIterator[Database]:
    """One for a module: each test has orders of its own, and leaves nothing asked of the carrier without an answer."""
    database = Database(await databases.new("shipping"), pool_size=8)
    yield database
    await database.close()


def settings(database_url: str, carrier_url: str) -> ShippingSettings:
    return ShippingSettings(
        database_url=database_url,
        carrier_url=carrier_url,
        carrier_api_key=SecretStr(API_KEY),
        carrier_webhook_secret=SecretStr(WEBHOOK_SECRET),
    )


@pytest_asyncio.fixture
async def client(databases: Databases, mint: TokenMint, simulator: CarrierSimulator) -> AsyncIterator[httpx2.AsyncClient]:
    service = build(settings(await databases.new("shipping"), simulator.url))
    async with running_api(service, mint) as client:
        yield client
