"""What runs in the order process: the API, the relay, the consumer of shipping's and identity's events, and five jobs: two hand
over to the sagas of orders and returns what was accepted while they could not be told, one forgets customers, one deletes old
quotes, one takes the figures of all orders."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated

from prometheus_client import Metric
from pydantic import Field, SecretStr

from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.database import Database
from chassis.dependencies import provide
from chassis.figures import Figures
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, Names, ServiceSettings
from contracts.base import Seconds
from contracts.budgets import PLACE_WAIT_S
from contracts.money import Money
from contracts.orders import CaptureAt
from contracts.platform import local_url
from contracts.returns import Percent
from services.order import amendments_api, api, commands, consumers, figures, queries, returns_api
from services.order.access import ACCESS
from services.order.adapters import TaxTable
from services.order.cache import Tariffs
from services.order.commands import AmendmentService, OrderService, ReturnService, StoredKeys
from services.order.model import inbox, metadata
from services.order.model.placing import Terms
from services.order.model.returns import ReturnRules
from temporal.client import TemporalSettings
from temporal.codec import HistoryCodec
from temporal.keys import HistorySettings, KeySource, OwnDataKeys
from temporal.orders import IN_REVIEW, STUCK, UNDECIDED_PARCEL, OrderSagas
from temporal.returns import ReturnSagas

HAND_OVER_SECONDS = 1.0
LOOK_FOR_HELD_UP_SECONDS = 30.0
FORGET_SECONDS = 5.0
PURGE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries to hand over while Temporal is away."""
FIGURES_SECONDS = 15.0
RETURN_PAGE = "/api/v1/payments/return"
"""Of the payment service: it tells customers that they may go back to the shop."""
WAITING = {"review": IN_REVIEW, "parcel_decision": UNDECIDED_PARCEL}
"""For what orders wait that a person decides, and how Temporal is asked for them."""


class OrderSettings(ServiceSettings, TemporalSettings, HistorySettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_ORDER")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_ORDER")
    catalog_url: str = local_url("catalog")
    shipping_url: str = local_url("shipping")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_ORDER")
    """What this process proves itself with to get its service token from identity."""
    review_threshold: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = Decimal(250)
    """In USD: an order of at least this much is held for an operator before the money is taken."""
    free_shipping_from: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = Decimal(50)
    """In USD: an order whose goods cost at least this much is sent free of charge, by standard."""
    prices_include_tax: bool = False
    """Whether the catalogue's prices and the tariff include tax; else it is added to them."""
    quote_valid_seconds: Annotated[int, Field(ge=1, le=604_800)] = 900
    """How long a quote may be ordered."""
    split_orders: bool = True
    """Whether an order that names no warehouse may come from several, in a parcel each."""
    capture_at: CaptureAt = CaptureAt.CONFIRMATION
    """When the money of an order is taken: `confirmation`, or `dispatch`; then it is held first, and taken for each parcel when
    that leaves."""
    pay_again_seconds: Annotated[int, Field(ge=0, le=604_800)] = 900
    """How long the goods are kept after a declined card, so that another may be tried; 0: not at all."""
    action_seconds: Seconds = 900
    """How long the goods are kept for a customer who has to do something first, e.g. confirm the payment at the bank."""
    transfer_days: Annotated[int, Field(ge=1, le=60)] = 3
    """How long they are kept for a customer who pays by bank transfer."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] = "http://127.0.0.1:8080"
    """Under which customers reach the gateway."""
    payment_return_origins: Names = ()
    """Origins of the shop's pages that customers may return to from the bank: `https://shop.example,…`. A client that names no
    page has one of the platform."""
    answer_seconds: Seconds = 86_400
    """How long a customer who wants to be asked may take to say what becomes of goods that are out of stock."""
    review_deadline_seconds: Seconds = 86_400
    """How long it is held."""
    decision_seconds: Seconds = 3 * 86_400
    """How long a parcel in trouble waits for a decision before the usual one is taken."""
    dispatch_seconds: Seconds = 3 * 86_400
    """How long a booked parcel may lie in the warehouse before somebody is asked about it."""
    silence_seconds: Seconds = 10 * 86_400
    """How long the carrier may tell nothing of a parcel before somebody is asked about it."""
    return_days: Annotated[int, Field(ge=0, le=3650)] = 30
    """For how long after their delivery goods may be returned."""
    claim_days: Annotated[int, Field(ge=0, le=3650)] = 60
    """For how long after its delivery a customer may claim that something was damaged, wrong or missing."""
    return_approval_from: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = Decimal(250)
    """In USD: a return of goods that cost at least this much has to be approved; every claim has."""
    return_decision_seconds: Seconds = 3 * 86_400
    """How long a return waits for that; then a return is approved, and a claim rejected."""
    return_remind_seconds: Seconds = 7 * 86_400
    """How long after the approval of a return its customer is reminded that nothing has come."""
    return_arrival_seconds: Seconds = 21 * 86_400
    """How long after the approval of a return its goods may take to come."""
    return_restocking_percent: Percent = 0
    """What is kept of the price of goods that were returned for no fault of the shop's."""
    return_damaged_percent: Percent = 100
    """What of their price goes back for goods that came back damaged for no fault of the shop's."""
    return_label_cost: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = Decimal(0)
    """In USD: kept for a label, unless all of the return is the shop's fault."""
    held_up_seconds: Annotated[int, Field(ge=60, le=86_400)] = 600
    """How long a customer waits for an order to be confirmed before a mail says that it takes longer."""
    place_wait_seconds: Annotated[float, Field(ge=0, le=25)] = PLACE_WAIT_S
    """How long a client waits for the outcome of its order, or of its cancellation; after that the answer is 202."""

    def return_rules(self) -> ReturnRules:
        """For how long goods may come back, and on what terms."""
        return ReturnRules(
            return_days=self.return_days,
            claim_days=self.claim_days,
            approval_from=Money(amount=self.return_approval_from),
            decision_seconds=self.return_decision_seconds,
            remind_seconds=self.return_remind_seconds,
            arrival_seconds=self.return_arrival_seconds,
            restocking_percent=self.return_restocking_percent,
            damaged_percent=self.return_damaged_percent,
            label_cost=Money(amount=self.return_label_cost) if self.return_label_cost else None,
        )


def build(settings: OrderSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    routers = [api.public, api.discounts, api.customers, api.internal, api.internal_keys]
    routers += [amendments_api.router, returns_api.of_orders, returns_api.public, returns_api.internal]
    app = new_app("Orders", "Place, follow and cancel orders.", routers, {"database": database.ping}, ACCESS)
    stored, master = StoredKeys(database), settings.master_keys()
    keys = OwnDataKeys(stored, master) if master else None
    codec = HistoryCodec(keys, writes_in_clear=settings.histories_in_clear) if keys else None
    sagas, sagas_of_returns = OrderSagas(settings, codec), ReturnSagas(settings, codec)
    http = HttpSession()
    tokens = ServiceTokens(http, settings.identity_url, "order", settings.service_client_secret)
    orders = OrderService(
        database=database,
        catalog=ServiceClient("catalog", settings.catalog_url, http, tokens),
        tariffs=Tariffs(ServiceClient("shipping", settings.shipping_url, http, tokens)),
        taxes=TaxTable.shipped(),
        sagas=sagas,
        terms=Terms(
            Money(amount=settings.review_threshold),
            review_seconds=settings.review_deadline_seconds,
            decision_seconds=settings.decision_seconds,
            dispatch_seconds=settings.dispatch_seconds,
            silence_seconds=settings.silence_seconds,
            free_shipping_from=Money(amount=settings.free_shipping_from),
            prices_include_tax=settings.prices_include_tax,
            quote_seconds=settings.quote_valid_seconds,
            capture_at=settings.capture_at,
            pay_again_seconds=settings.pay_again_seconds,
            action_seconds=settings.action_seconds,
            transfer_seconds=settings.transfer_days * 86_400,
            return_page=f"{settings.public_url.rstrip('/')}{RETURN_PAGE}",
            return_origins=frozenset(origin.lower().rstrip("/") for origin in settings.payment_return_origins),
            answer_seconds=settings.answer_seconds,
            splits=settings.split_orders,
        ),
        wait=timedelta(seconds=settings.place_wait_seconds),
        keys=None if settings.histories_in_clear else keys,
    )
    returns = ReturnService(database, orders, sagas_of_returns, settings.return_rules())
    provide(app, OrderService, orders)
    provide(app, ReturnService, returns)
    provide(app, AmendmentService, AmendmentService(database, orders))
    provide(app, KeySource, keys or stored)
    taken = _figures(database, sagas, orders.terms)
    return Service(
        name="order",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=consumers.subscription(sagas, sagas_of_returns),
        jobs=[
            Job("hand over to sagas", orders.hand_over, every_s=HAND_OVER_SECONDS, longest_pause_s=LONGEST_PAUSE_SECONDS),
            Job("start sagas of returns", returns.hand_over, every_s=HAND_OVER_SECONDS, longest_pause_s=LONGEST_PAUSE_SECONDS),
            Job(
                "tell of orders that are held up",
                partial(commands.tell_of_held_up, database, timedelta(seconds=settings.held_up_seconds)),
                every_s=LOOK_FOR_HELD_UP_SECONDS,
            ),
            Job(
                "forget customers",
                partial(commands.forget_customers, database, sagas, sagas_of_returns),
                every_s=FORGET_SECONDS,
            ),
            Job("purge quotes", partial(commands.purge_quotes, database), every_s=PURGE_SECONDS),
            taken.job(),
        ],
        resources=[http, sagas, sagas_of_returns, taken],
    )


def _figures(database: Database, sagas: OrderSagas, terms: Terms) -> Figures:
    """What is asked about all orders."""

    async def in_flight() -> Sequence[Metric]:
        return figures.in_flight(await queries.orders_in_flight(database))

    async def refunds_owed() -> Sequence[Metric]:
        return figures.refunds_owed(await queries.refunds_owed(database))

    async def waiting() -> Sequence[Metric]:
        counts = {what: await sagas.count(query) for what, query in WAITING.items()}
        return figures.waiting(counts, await sagas.count(STUCK))

    async def deadlines() -> Sequence[Metric]:
        return figures.deadlines(terms)

    return Figures("order", database.asyncpg_dsn, [in_flight, refunds_owed, waiting, deadlines], every_s=FIGURES_SECONDS)


if __name__ == "__main__":
    run_service(build(OrderSettings()))
