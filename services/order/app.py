"""What runs in the order process: the API, the relay, and the consumer of shipping's events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import Field, SecretStr

from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.database import Database
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from contracts.budgets import PLACE_WAIT_S
from contracts.money import Money
from contracts.platform import local_url
from services.order import api, consumers
from services.order.access import ACCESS
from services.order.model import inbox, metadata
from services.order.placing import Review
from services.order.service import OrderService
from temporal.client import TemporalSettings
from temporal.orders import OrderSagas


class OrderSettings(ServiceSettings, TemporalSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_ORDER")
    catalog_url: str = local_url("catalog")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_ORDER")
    """What this process proves itself with to get its service token from identity."""
    review_threshold: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = Decimal(250)
    """In USD: an order of at least this much is held for an operator before the money is taken."""
    review_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 86_400
    """How long it is held."""
    place_wait_seconds: Annotated[float, Field(ge=0, le=25)] = PLACE_WAIT_S
    """How long a client waits for the outcome of its order; after that the answer is 202."""


def build(settings: OrderSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app(
        "order", "Orders", "Place, follow and cancel orders.", [api.public, api.internal], {"database": database.ping}, ACCESS
    )
    app.state.database = database
    http, sagas = HttpSession(), OrderSagas(settings)

    @asynccontextmanager
    async def orders() -> AsyncIterator[None]:
        tokens = ServiceTokens(http, settings.identity_url, "order", settings.service_client_secret)
        app.state.orders = OrderService(
            database=database,
            catalog=ServiceClient("catalog", settings.catalog_url, http, tokens),
            sagas=sagas,
            review=Review(Money(amount=settings.review_threshold), settings.review_deadline_seconds),
            wait=timedelta(seconds=settings.place_wait_seconds),
        )
        yield

    return Service(
        name="order",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=consumers.subscription(sagas),
        resources=[http, sagas, orders()],
    )


if __name__ == "__main__":
    run_service(build(OrderSettings()))
