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
from services.shipping.adapters import EasyPost
from services.shipping.app import ShippingSettings, build
from services.shipping.sending import Sending
from simulators._webhooks import WebhookTarget
from simulators.easypost.app import Settings, create_app
from simulators.easypost.news import sign_with
from tests.conftest import Databases, TokenMint, eventually, running_api

API_KEY = "key-of-the-tests"
WEBHOOK_SECRET, OLD_SECRET = "sécret-of-the-tests-0123456789", "old-secret-of-the-tests-0123456789"


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
    """What the tests do with the carriers beside the platform: break them, move parcels, read their books."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def faults(self, **switches: object) -> None:
        (await self._http.post("/_control/faults", json=switches)).raise_for_status()

    async def repair(self) -> None:
        (await self._http.delete("/_control/faults")).raise_for_status()

    async def hand_over(self, *references: UUID | str) -> None:
        body = {"references": list(map(str, references))}
        assert (await self._http.post("/_control/hand-over", json=body)).json()["handed_over"] == len(references)

    async def advance(self, to: str, *references: UUID | str) -> None:
        body = {"to": to, "references": list(map(str, references))}
        assert (await self._http.post("/_control/advance", json=body)).json()["advanced"] == len(references)

    async def labels(self, reference: UUID | str) -> list[dict[str, Any]]:
        """All that were ever bought under a reference."""
        found: list[dict[str, Any]] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = (await self._http.get("/_control/parcels", params={"limit": 200, "cursor": cursor})).json()
            found += [label for label in page["data"] if label["reference"] == str(reference)]
            cursor = page["next_cursor"]
        return found

    async def label(self, reference: UUID | str) -> dict[str, Any]:
        """The only one that was bought."""
        [label] = await self.labels(reference)
        return label

    async def shipments(self, reference: UUID | str) -> int:
        """How many were created under a reference, bought or not."""
        page = (await self._http.get("/v2/shipments", params={"page_size": 100, "purchased": "false"})).json()
        return sum(shipment["reference"] == str(reference) for shipment in page["shipments"])

    async def ahead(self, seconds: int) -> None:
        (await self._http.post("/_control/clock", json={"ahead_seconds": seconds})).raise_for_status()


@asynccontextmanager
async def running_carrier(data_dir: Path, webhook_url: str | None = None) -> AsyncIterator[CarrierSimulator]:
    target = None
    if webhook_url:
        target = WebhookTarget(url=webhook_url, sign=sign_with(WEBHOOK_SECRET), first_wait=0.02, longest_wait=0.1)
    app = create_app(Settings(data_dir=data_dir, api_key=API_KEY, webhook=target))
    async with listening(app, "on") as url, httpx2.AsyncClient(base_url=url, auth=(API_KEY, "")) as http:
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
async def carrier(simulator: CarrierSimulator) -> AsyncIterator[EasyPost]:
    """Our adapter to it. Its breaker stays closed: what it does is tested with one of its own."""
    async with HttpSession() as http:
        yield EasyPost(
            http, simulator.url, SecretStr(API_KEY), [SecretStr(WEBHOOK_SECRET)], timeout_s=30, breaker_threshold=1_000_000
        )


@pytest.fixture
def sending(carrier: EasyPost) -> Sending:
    """By EasyPost alone."""
    return Sending([carrier])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(databases: Databases) -> AsyncIterator[Database]:
    """One for a module: each test has orders of its own, and none counts what others left."""
    database = Database(await databases.new("shipping"), pool_size=8)
    yield database
    await database.close()


def settings(database_url: str, carrier_url: str) -> ShippingSettings:
    return ShippingSettings(
        database_url=database_url,
        carrier_url=carrier_url,
        carrier_api_key=SecretStr(API_KEY),
        carrier_webhook_secret=SecretStr(f"{OLD_SECRET},{WEBHOOK_SECRET}"),
    )


@pytest_asyncio.fixture
async def client(databases: Databases, mint: TokenMint, simulator: CarrierSimulator) -> AsyncIterator[httpx2.AsyncClient]:
    service = build(settings(await databases.new("shipping"), simulator.url))
    async with running_api(service, mint) as client:
        yield client
