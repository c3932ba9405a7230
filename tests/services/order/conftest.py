"""The order service on a fresh database, a catalogue over HTTP, and a real Temporal server; no worker runs unless asked for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from chassis.clock import utc_now
from chassis.database import Database
from chassis.dependencies import provided
from cli import secrets
from contracts.address import Address
from contracts.catalog import CatalogProduct, LookUpProducts, ProductsFound
from contracts.identity import ServiceToken
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderLine, OrderStatus, PlaceOrder
from contracts.shipments import LookUpTariff, ServiceTariff, Tariff
from embedded import temporal
from embedded.ports import free_port
from services.order import commands
from services.order.app import OrderSettings, build
from services.order.commands import OrderService, ReturnService, StoredKeys
from temporal.client import TemporalSettings, connect
from temporal.codec import HistoryCodec
from temporal.keys import EnvironmentMasterKeys, OwnDataKeys
from temporal.names import ORDER_QUEUE
from temporal.returns import ReturnSagas
from tests.conftest import Databases, TokenMint, running_api
from tests.services.order.scripted import ScriptedOrder, ScriptedReturn

SHIP_TO = Address(
    name="Ada Lovelace", line1="1 Market Street", city="San Francisco", region="CA", postal_code="94105", country="US"
)
TARIFF = Tariff(
    services=(
        ServiceTariff(
            service="standard",
            first_kilogram=Money(amount=Decimal("5.90")),
            further_kilogram=Money(amount=Decimal("0.80")),
            days=4,
        ),
        ServiceTariff(
            service="express",
            first_kilogram=Money(amount=Decimal("14.90")),
            further_kilogram=Money(amount=Decimal("1.60")),
            days=1,
        ),
    ),
)
S = OrderStatus
MASTER_KEY = secrets.master_key("key-1")


def codec_for(database: Database, lifetime_s: float = 60) -> HistoryCodec:
    """As the order service and the worker have one. It uses a key for `lifetime_s`."""
    return HistoryCodec(OwnDataKeys(StoredKeys(database), EnvironmentMasterKeys.parse(MASTER_KEY), lifetime_s=lifetime_s))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[temporal.TemporalServer]:
    async with temporal.running(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest_asyncio.fixture
async def temporal_client(temporal_server: temporal.TemporalServer, database: Database) -> Client:
    return await connect(TemporalSettings(temporal_address=temporal_server.address), codec_for(database))


@pytest_asyncio.fixture
async def worker(temporal_client: Client) -> AsyncIterator[None]:
    """Somebody works on orders' sagas: they answer what their test says."""
    runner = UnsandboxedWorkflowRunner()
    async with Worker(temporal_client, task_queue=ORDER_QUEUE, workflows=[ScriptedOrder, ScriptedReturn], workflow_runner=runner):
        yield


@dataclass
class Catalogue:
    """A catalogue over HTTP, with prices that a test may change; and what else is asked for an order: shipping's tariffs, and
    identity for service tokens."""

    products: dict[str, CatalogProduct] = field(default_factory=dict)
    lookups: list[list[str]] = field(default_factory=list)
    tariffs: list[LookUpTariff] = field(default_factory=list)
    """Of which places the tariff was asked for."""
    away: bool = False
    shipping_away: bool = False
    url: str = ""

    def put(self, product_id: str, price: str, currency: str = "USD") -> None:
        money = Money.model_validate({"amount": price, "currency": currency})
        self.products[product_id] = CatalogProduct(product_id=product_id, name=product_id.title(), price=money, weight_grams=500)

    async def look_up(self, request: web.Request) -> web.Response:
        wanted = LookUpProducts.model_validate(await request.json()).product_ids
        self.lookups.append(wanted)
        if self.away:
            return web.Response(status=503)
        found = ProductsFound(
            products=[self.products[product] for product in wanted if product in self.products],
            missing=[product for product in wanted if product not in self.products],
        )
        return web.Response(text=found.model_dump_json(), content_type="application/json")

    async def tariff_of(self, request: web.Request) -> web.Response:
        place = LookUpTariff.model_validate(await request.json())
        self.tariffs.append(place)
        if self.shipping_away:
            return web.Response(status=503)
        tariff = TARIFF if place.country != "AQ" else TARIFF.model_copy(update={"services": ()})
        return web.Response(text=tariff.model_dump_json(), content_type="application/json")

    async def give_token(self, request: web.Request) -> web.Response:
        token = ServiceToken(access_token="service", expires_in=600)
        return web.Response(text=token.model_dump_json(), content_type="application/json")


@pytest_asyncio.fixture
async def catalogue() -> AsyncIterator[Catalogue]:
    catalogue = Catalogue()
    app = web.Application()
    app.router.add_post("/internal/v1/products/lookup", catalogue.look_up)
    app.router.add_post("/internal/v1/shipping/tariff", catalogue.tariff_of)
    app.router.add_post("/internal/v1/service-tokens", catalogue.give_token)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    catalogue.url = f"http://127.0.0.1:{port}"
    catalogue.put("milk", "1.50")
    catalogue.put("bread", "2.25")
    yield catalogue
    await runner.cleanup()


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    """The database that `client` works on, too."""
    database = Database(await databases.new("order"), pool_size=20)
    yield database
    await database.close()


def settings_for(database: Database, catalogue: Catalogue, temporal_address: str, wait_s: float = 0.2) -> OrderSettings:
    return OrderSettings(
        database_url=database.url,
        catalog_url=catalogue.url,
        shipping_url=catalogue.url,
        identity_url=catalogue.url,
        temporal_address=temporal_address,
        place_wait_seconds=wait_s,
        pay_again_seconds=0,
        service_client_secret=SecretStr("secret"),
        customer_keys_master=SecretStr(MASTER_KEY),
    )


@pytest_asyncio.fixture
async def client(
    database: Database, catalogue: Catalogue, mint: TokenMint, temporal_server: temporal.TemporalServer
) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_api(build(settings_for(database, catalogue, temporal_server.address)), mint) as client:
        yield client


@pytest_asyncio.fixture
async def patient_client(
    database: Database, catalogue: Catalogue, mint: TokenMint, temporal_server: temporal.TemporalServer, worker: None
) -> AsyncIterator[httpx2.AsyncClient]:
    """The API while somebody works on the sagas; it waits for outcomes as long as a slow machine may need."""
    async with running_api(build(settings_for(database, catalogue, temporal_server.address, wait_s=25)), mint) as client:
        yield client


@pytest_asyncio.fixture
async def orders(
    database: Database, catalogue: Catalogue, temporal_server: temporal.TemporalServer, worker: None
) -> AsyncIterator[OrderService]:
    """What the API and the jobs of such a process work with."""
    service = build(settings_for(database, catalogue, temporal_server.address, wait_s=25))
    async with service.opened(frozenset()):
        yield provided(service.api, OrderService)


@pytest_asyncio.fixture
async def returns(
    database: Database, catalogue: Catalogue, temporal_server: temporal.TemporalServer, worker: None
) -> AsyncIterator[ReturnService]:
    """What the API and the jobs of such a process work with, for returns."""
    service = build(settings_for(database, catalogue, temporal_server.address, wait_s=25))
    async with service.opened(frozenset()):
        yield provided(service.api, ReturnService)


@pytest_asyncio.fixture
async def sagas_of_returns(returns: ReturnService) -> ReturnSagas:
    return returns.sagas


@pytest_asyncio.fixture
async def lonely_orders(database: Database, catalogue: Catalogue) -> AsyncIterator[OrderService]:
    """The same while Temporal has never been there."""
    service = build(settings_for(database, catalogue, f"127.0.0.1:{free_port()}"))
    async with service.opened(frozenset()):
        yield provided(service.api, OrderService)


@pytest_asyncio.fixture
async def lonely_client(database: Database, catalogue: Catalogue, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    """The API while Temporal has never been there."""
    async with running_api(build(settings_for(database, catalogue, f"127.0.0.1:{free_port()}")), mint) as client:
        yield client


def new_order(customer_id: UUID | None = None, *, order_id: UUID | None = None, fingerprint: str | None = None) -> PlaceOrder:
    line = OrderLine(
        product_id="milk", name="Milk", quantity=2, unit_price=Money.model_validate({"amount": "1.50"}), weight_grams=500
    )
    return PlaceOrder(
        order_id=order_id or uuid4(),
        customer_id=customer_id or uuid4(),
        lines=(line,),
        total=line.total,
        ship_to=SHIP_TO,
        payment_token="pm_card_visa",
        placed_at=utc_now(),
        fingerprint=fingerprint,
    )


async def stored(
    database: Database, *path: OrderStatus, order: PlaceOrder | None = None, age_s: int = 0, **facts: object
) -> PlaceOrder:
    """An order whose saga has told this path, from its beginning."""
    order = order or new_order()
    order = order.model_copy(update={"placed_at": order.placed_at - timedelta(seconds=age_s)})
    await commands.accept_order(database, order)
    if path:
        command = {"order_id": order.order_id, "after": 1, "path": path, **facts}
        await commands.advance_order(database, AdvanceOrder.model_validate(command))
    return order
