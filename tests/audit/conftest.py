"""A small platform in this process: the real services' commands on real databases, the real saga on a real Temporal server, the
simulators behind real sockets. Only the broker is missing: events are handed from the outboxes to the consumers directly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
import uvicorn
from aiokafka import ConsumerRecord
from pydantic import BaseModel, SecretStr
from temporalio.worker import Worker

from activities import all_activities
from chassis.cache import Cache, redis_client
from chassis.clients import HttpSession
from chassis.clock import utc_now
from chassis.consumer import Consumer
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.settings import ServiceSettings
from cli import secrets
from cli.operators import history_codec
from contracts.accounts import AccountMail
from contracts.address import Address
from contracts.ids import parcel_reference
from contracts.inventory import (
    ReleaseInventory,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
    SplitReservation,
    StockLine,
)
from contracts.money import Money
from contracts.notifications import SendNotification
from contracts.orders import AdvanceOrder, CancelReply, CancelRequest, OrderLine, Outcome, PlaceOrder
from contracts.payments import CapturePayment, ProcessPayment, RefundPayment
from contracts.platform import SERVICE_NAMES
from contracts.pricing import DiscountKind
from contracts.shipments import CancelShipment, CreateShipment, ShipmentStatus
from embedded import temporal as embedded_temporal
from embedded.ports import free_port
from services.analytics import consumers as analytics_consumers
from services.analytics.model import inbox as analytics_inbox
from services.catalog import commands as catalog
from services.catalog.cache import PREFIX, ProductCache
from services.identity import queries as identity_queries
from services.identity.commands import accounts as identity_accounts
from services.identity.model import User
from services.identity.model import outbox as identity_outbox
from services.inventory.commands import reservations, returns, warehousing
from services.notification import commands as notification
from services.notification import consumers as notification_consumers
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.commands import Staff
from services.notification.delivery import DeliveryJob
from services.notification.links import Links
from services.notification.model import inbox as notification_inbox
from services.order import commands as order
from services.order import consumers as order_consumers
from services.order.model import DiscountTerms
from services.order.model import inbox as order_inbox
from services.order.model.pricing import PlannedParcel, Reduction, price
from services.payment import commands as payment
from services.payment import consumers as payment_consumers
from services.payment.adapters import StripePayments
from services.payment.model import inbox as payment_inbox
from services.shipping import consumers as shipping_consumers
from services.shipping import queries as shipping_queries
from services.shipping.adapters import EasyPost
from services.shipping.commands import news as shipping_news
from services.shipping.commands import parcels, refunds
from services.shipping.model import inbox as shipping_inbox
from services.shipping.ports import TrackerNews
from services.shipping.sending import Sending
from simulators import mail_sink
from simulators._service import Simulator
from simulators.bank import app as bank
from simulators.easypost import app as easypost
from simulators.push_service import app as push_service
from simulators.stripe import app as stripe
from simulators.twilio import app as twilio
from temporal.client import TemporalSettings, connect
from temporal.names import ORDER_QUEUE
from temporal.orders import OrderSagas
from temporal.refusals import RefusalInterceptor
from temporal.returns import ReturnSagas
from tests.audit.channels import ACCOUNT, TOKEN, Channels
from tests.conftest import ADMIN, Databases, changing, eventually
from worker import SANDBOX, WORKFLOWS

API_KEY = "test-key"
IBAN = "DE89370400440532013000"
PATIENCE = timedelta(seconds=60)
"""What a slow machine may take."""
Reply = TypeVar("Reply", bound=BaseModel)
CODE, DOLLAR = "DOLLAR", Money.from_minor(100, "USD")


class Directory:
    """Identity, asked without HTTP between us."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        found = await identity_queries.contacts(self._database, customer_ids)
        return {contact.customer_id: contact.email for contact in found.contacts}

    async def account_mail(self, request_id: UUID) -> AccountMail:
        return await identity_accounts.prepare_mail(self._database, "https://shop.example", request_id)


class Shop:
    """The small platform. `env` is what a platform would put into the environment."""

    def __init__(self, env: dict[str, str], http: HttpSession, sagas: OrderSagas, returns: ReturnSagas) -> None:
        self.env, self.sagas, self.returns, self.customer_id = env, sagas, returns, uuid4()
        self.databases = {name: Database(env[f"DATABASE_URL_{name.upper()}"]) for name in SERVICE_NAMES}
        key = SecretStr(API_KEY)
        self._provider = StripePayments(http, env["PAYMENT_PROVIDER_URL"], key, breaker_threshold=1_000_000)
        self._sending = Sending([EasyPost(http, env["CARRIER_URL"], key, breaker_threshold=1_000_000)])
        smtp = SmtpSettings(smtp_port=int(env["SMTP_PORT"]))
        directory = Directory(self.databases["identity"])
        links = Links("https://shop.example", [b"a secret of the tests"])
        self._delivery = DeliveryJob(
            self.databases["notification"], directory, SmtpMailer(smtp), links, asyncio.Event(), attempts=3
        )
        self.channels = Channels(
            self.databases["notification"], http, directory, links, env["SMS_PROVIDER_URL"], env["PUSH_SERVICE_URL"]
        )
        self._consumers = {
            "order": self._consumer("order", order_consumers.subscription(sagas, returns), order_inbox),
            "notification": self._consumer("notification", notification_consumers.subscription(Staff()), notification_inbox),
            "payment": self._consumer("payment", payment_consumers.subscription, payment_inbox),
            "shipping": self._consumer("shipping", shipping_consumers.subscription, shipping_inbox),
            "analytics": self._consumer("analytics", analytics_consumers.subscription, analytics_inbox),
        }

    async def open(self) -> None:
        """A customer, and goods on the shelf."""
        customer = User(user_id=self.customer_id, email="zoe@example.org", name="Zoe", password_hash="")
        async with changing(self.databases["identity"]) as work:
            work.add(customer)
            identity_outbox.add(work, customer.registered(), customer.verify_email())
        await self.spread_news()
        await self.channels.reach(self.customer_id)
        await warehousing.put_warehouse(self.databases["inventory"], ADMIN, "410", "Store 410")
        lines = [StockLine(product_id=product, quantity=100) for product in ("milk", "cheese")]
        async with redis_client(f"redis://127.0.0.1:{free_port()}/0") as nobody:
            goods = [_on_sale("milk", "2.70"), _on_sale("cheese", "18.00")]
            await catalog.import_products(self.databases["catalog"], ProductCache(Cache(nobody, PREFIX, 1)), goods)
        key = IdempotencyKey("test", "first", "first")
        await warehousing.receive_stock(self.databases["inventory"], ADMIN, "410", lines, key, reference="first delivery")
        await self._take_stock()
        await order.put_discount(self.databases["order"], CODE, DiscountTerms(kind=DiscountKind.AMOUNT, amount=DOLLAR))

    async def _take_stock(self) -> None:
        """A day in the warehouse: something broke, something was counted, and another warehouse wanted some."""
        database, keys = self.databases["inventory"], [IdempotencyKey("test", name, name) for name in ("lost", "sheet", "note")]
        await warehousing.put_warehouse(database, ADMIN, "411", "Store 411")
        await warehousing.adjust_stock(database, ADMIN, "410", {"milk": -3}, keys[0], reason="dropped")
        await warehousing.count_stock(database, ADMIN, "410", {"milk": 98, "cheese": 100}, keys[1], reason="inventory day")
        await warehousing.transfer_stock(database, ADMIN, "410", "411", {"cheese": 7}, keys[2], reason="sold better there")

    async def place(self, card: str = "pm_card_visa") -> tuple[UUID, Outcome]:
        """Place an order and wait for its outcome."""
        command = place_order(self.customer_id, card)
        await self.accept(command)
        outcome = await self.sagas.place(command, f"place-{command.order_id}", PATIENCE)
        assert outcome is not None
        return command.order_id, outcome

    async def accept(self, command: PlaceOrder) -> None:
        """Write an order down, as its service does before it starts the saga."""
        await order.accept_order(self.databases["order"], command)

    async def cancel(self, order_id: UUID) -> None:
        reply = await self.sagas.cancel(order_id, CancelRequest(reason="changed my mind"), "cancel", PATIENCE)
        assert isinstance(reply, CancelReply)

    async def dispatch(self, order_id: UUID, parcel: int = 1) -> None:
        """The warehouse hands the parcel over."""
        shipment = await shipping_queries.get_shipment_of_order(self.databases["shipping"], order_id, parcel)
        await parcels.dispatch_shipment(self.databases["shipping"], ADMIN, shipment.shipment_id)
        await self.control("CARRIER_URL", "/_control/hand-over", {"references": [parcel_reference(order_id, parcel)]})
        await self.spread_news()

    async def deliver(self, order_id: UUID) -> None:
        """The carrier brings it, and tells us."""
        await self.hear(order_id, "delivered")

    async def hear(self, order_id: UUID, status: str, parcel: int = 1) -> None:
        """Something happens to the parcel at the carrier, which tells us."""
        reference = parcel_reference(order_id, parcel)
        await self.control("CARRIER_URL", "/_control/advance", {"references": [reference], "to": status})
        database = self.databases["shipping"]
        shipment = await shipping_queries.get_shipment_of_order(database, order_id, parcel)
        told = TrackerNews(
            id=f"evt-{reference}-{status}",
            provider_id=None,
            tracking_number=shipment.tracking_number or "",
            status={"lost": ShipmentStatus.LOST, "returned": ShipmentStatus.RETURNED}.get(status, ShipmentStatus.DELIVERED),
            word=status.upper(),
            occurred_at=utc_now(),
        )
        await shipping_news.apply_carrier_news(database, told)
        await self.spread_news()

    async def forget_somebody(self) -> UUID:
        """Another customer's order arrives, and its customer is forgotten; the order."""
        customer = User(email="yan@example.org", name="Yan", password_hash="")
        async with changing(self.databases["identity"]) as work:
            work.add(customer)
            identity_outbox.add(work, customer.registered(), customer.verify_email())
        command = place_order(customer.user_id, "pm_card_visa")
        await self.accept(command)
        await self.sagas.place(command, f"place-{command.order_id}", PATIENCE)
        await self.dispatch(command.order_id)
        await self.deliver(command.order_id)
        async with changing(self.databases["identity"]) as work:
            user = await work.get(User, customer.user_id)
            assert user is not None
            forgotten = user.forget_person(by=user.user_id)
            assert forgotten is not None
            identity_outbox.add(work, forgotten)
        await self.spread_news()

        async def is_forgotten() -> bool:
            await order.forget_customers(self.databases["order"], self.sagas, self.returns)
            row = await order.find_order(self.databases["order"], command.order_id)
            return row is not None and row.forgotten_at is not None

        await eventually(is_forgotten, what="the order's saga to close")
        await order.forget_customers(self.databases["order"], self.sagas, self.returns)
        await self.spread_news()
        return command.order_id

    async def give_labels_back(self) -> None:
        """Ask the carrier for the money of labels that are not needed."""
        while await refunds.settle_refunds(self.databases["shipping"], self._sending):
            pass

    async def send_messages(self) -> None:
        """By all channels; and hear what became of SMS."""
        while await self._delivery.send_due():
            pass
        await self.channels.send()
        await self.channels.hear()

    async def spread_news(self) -> None:
        """Publish what is in the outboxes, and let every consumer apply it."""
        records: list[ConsumerRecord] = []
        for name in SERVICE_NAMES:
            if name != "analytics":  # it has no events of its own
                records += await _published(self.env[f"DATABASE_URL_{name.upper()}"])
        for consumer in self._consumers.values():
            await consumer.apply(records)

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """A command of the saga, carried out by the service that it is for; see `activities.calls.Calls`."""
        answer = await self._command(body)
        assert isinstance(answer, reply)
        return answer

    def activities(self) -> list[Callable[..., Any]]:
        return list(all_activities(lambda service: self))

    async def close(self) -> None:
        for database in self.databases.values():
            await database.close()

    def _command(self, body: BaseModel) -> Awaitable[BaseModel]:
        databases = self.databases
        match body:
            case AdvanceOrder():
                return order.advance_order(databases["order"], body)
            case ReserveInventory():
                return reservations.reserve_inventory(databases["inventory"], body)
            case RestockInventory():
                return returns.restock_inventory(databases["inventory"], body)
            case ReleaseInventory():
                return reservations.release_inventory(databases["inventory"], body)
            case SplitReservation():
                return reservations.split_reservation(databases["inventory"], body)
            case ShipInventory():
                return reservations.ship_inventory(databases["inventory"], body)
            case ProcessPayment():
                return payment.process_payment(databases["payment"], self._provider, body)
            case CapturePayment():
                return payment.capture_payment(databases["payment"], self._provider, body)
            case RefundPayment():
                return payment.refund_payment(databases["payment"], self._provider, body)
            case CreateShipment():
                return parcels.create_shipment(databases["shipping"], self._sending, body)
            case CancelShipment():
                return parcels.cancel_shipment(databases["shipping"], body)
            case SendNotification():
                return notification.send_notification(databases["notification"], body)
            case _:
                raise TypeError(type(body).__name__)

    def _consumer(self, name: str, subscription: Any, inbox: Any) -> Consumer:
        database = self.databases[name]
        return Consumer(name, subscription, database, inbox, ServiceSettings(database_url=database.url))

    async def control(self, simulator: str, path: str, body: object) -> None:
        """Turn a simulator's switches."""
        async with HttpSession() as http:
            headers = {"Authorization": f"Bearer {API_KEY}"}
            async with http.session.post(self.env[simulator] + path, json=body, headers=headers) as response:
                assert response.status == 200


def _on_sale(product_id: str, price: str) -> catalog.ImportRow:
    details = {"name": product_id.title(), "description": None, "brand": None, "package_size": None, "weight_grams": 500}
    return catalog.ImportRow(product_id, details, "Dairy", "Dairy", Money.model_validate({"amount": price}))


def place_order(customer_id: UUID, card: str) -> PlaceOrder:
    """Two lines for 23.40 USD, with a dollar off by a code and a dollar for the parcel."""
    lines = (
        OrderLine(product_id="milk", name="Milk", quantity=2, unit_price=Money(amount="2.70"), weight_grams=1000),
        OrderLine(product_id="cheese", name="Cheese", quantity=1, unit_price=Money(amount="18.00"), weight_grams=400),
    )
    priced = price(
        lines,
        parcels=[PlannedParcel("standard", DOLLAR, days=3, units=(2, 1))],
        reductions=[Reduction(CODE, DiscountKind.AMOUNT, amount_minor=DOLLAR.minor)],
    )
    return PlaceOrder(
        order_id=uuid4(),
        customer_id=customer_id,
        lines=priced.lines,
        total=priced.charges.total,
        charges=priced.charges,
        ship_to=Address(name="Ann", line1="1 Main St", city="Springfield", region="IL", postal_code="62701", country="US"),
        payment_token=card,
        placed_at=utc_now(),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("audit")
    smtp_port = free_port()
    async with AsyncExitStack() as stack:
        env = {
            "PAYMENT_PROVIDER_URL": await stack.enter_async_context(_served(stripe.create_app(folder, API_KEY))),
            "CARRIER_URL": await stack.enter_async_context(
                _served(easypost.create_app(easypost.Settings(data_dir=folder, api_key=API_KEY)))
            ),
            "MAIL_SINK_URL": await stack.enter_async_context(_served(mail_sink.create_app(folder, "127.0.0.1", smtp_port))),
            "SMS_PROVIDER_URL": (sms := await stack.enter_async_context(_served(twilio.create_app(folder, ACCOUNT, (TOKEN,))))),
            "TWILIO_URL": sms,
            "PUSH_SERVICE_URL": await stack.enter_async_context(_served(push_service.create_app(folder))),
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "BANK_URL": await stack.enter_async_context(_served(bank.create_app(folder, API_KEY, IBAN))),
            "BANK_API_KEY": API_KEY,
            "BANK_IBAN": IBAN,
            "PAYMENT_PROVIDER_API_KEY": API_KEY,
            "CARRIER_API_KEY": API_KEY,
            "SMTP_PORT": str(smtp_port),
            "SIMULATOR_DATA_DIR": str(folder),
            "CUSTOMER_KEYS_MASTER": secrets.master_key("key-1"),
            **{f"DATABASE_URL_{name.upper()}": await databases.new(name) for name in SERVICE_NAMES},
        }
        temporal = await stack.enter_async_context(embedded_temporal.running(folder / "temporal"))
        env["TEMPORAL_ADDRESS"] = temporal.address
        settings = TemporalSettings(temporal_address=temporal.address)
        http = await stack.enter_async_context(HttpSession())
        codec = await stack.enter_async_context(history_codec(env))
        sagas = await stack.enter_async_context(OrderSagas(settings, codec))
        returns = await stack.enter_async_context(ReturnSagas(settings, codec))
        shop = Shop(env, http, sagas, returns)
        stack.push_async_callback(shop.close)
        await stack.enter_async_context(
            Worker(
                await connect(settings, codec),
                task_queue=ORDER_QUEUE,
                workflows=WORKFLOWS,
                activities=shop.activities(),
                interceptors=[RefusalInterceptor()],
                workflow_runner=SANDBOX,
            )
        )
        await shop.open()
        yield shop


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they belong to pytest


@asynccontextmanager
async def _served(app: Simulator) -> AsyncIterator[str]:
    """A simulator behind a socket; its URL."""
    port = free_port()
    server = _Server(uvicorn.Config(app, port=port, ws="none", log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())

    async def is_up() -> bool:
        return server.started

    await eventually(is_up, what="the simulator")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def _published(url: str) -> list[ConsumerRecord]:
    """What is new in an outbox, as a broker with one partition would hand it out."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            """update outbox set published_at = now(), "partition" = 0, "offset" = seq where published_at is null
               returning seq, topic, key, envelope::text as envelope"""
        )
    finally:
        await connection.close()
    return [
        ConsumerRecord(
            topic=row["topic"],
            partition=0,
            offset=row["seq"],
            timestamp=0,
            timestamp_type=0,
            key=row["key"].encode(),
            value=row["envelope"].encode(),
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            headers=(),
        )
        for row in sorted(rows, key=lambda row: row["seq"])
    ]
