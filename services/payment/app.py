"""What runs in the payment process: the API, the relay, the consumer, and the job that settles what the provider told."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated

from prometheus_client import Metric
from pydantic import Field, SecretStr

from chassis.clients import HttpSession
from chassis.database import Database
from chassis.dependencies import provide
from chassis.figures import Figures
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from chassis.webhooks import WebhookSecrets
from contracts.budgets import FIRST_TRY_S, PROVIDER_CALL_S
from contracts.money import Money
from services.payment import api, commands, figures, queries
from services.payment.access import ACCESS
from services.payment.adapters import StripePayments
from services.payment.consumers import subscription
from services.payment.model import VELOCITY, Velocity, inbox, metadata
from services.payment.ports import PaymentProvider

NEWS_SECONDS = 2.0
FIGURES_SECONDS = 15.0


class PaymentSettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_PAYMENT")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_PAYMENT")
    payment_provider_url: str = "https://api.stripe.com"
    payment_provider_api_key: SecretStr
    payment_provider_multi_capture: bool = True
    """Whether our account there may take what is held in several captures."""
    payment_webhook_secret: Annotated[SecretStr, Field(min_length=16)]
    """The provider signs its webhooks with it; whoever knows it can report refunds and disputes. While it is changed, the new one
    and the old one, separated by a comma."""
    payment_provider_timeout_seconds: Annotated[float, Field(gt=0, lt=FIRST_TRY_S)] = PROVIDER_CALL_S
    """How long the provider may take to answer; less than whoever calls us waits."""
    review_window_hours: Annotated[int, Field(ge=1, le=8760)] = VELOCITY.window // timedelta(hours=1)
    """Orders of one customer, card or address within so many hours are counted together."""
    review_window_orders: Annotated[int, Field(ge=1)] = VELOCITY.orders
    """After so many of them, the next is held for an operator."""
    review_window_sum: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = VELOCITY.total.amount
    """In USD: with an order that brings their sum above this, it is held for an operator."""


def build(settings: PaymentSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    http = HttpSession()
    app = new_app("Payment", "Payments and their ledger.", [api.public, api.internal], {"database": database.ping}, ACCESS)
    window, most = timedelta(hours=settings.review_window_hours), Money(amount=settings.review_window_sum)
    provide(app, Velocity, Velocity(window, settings.review_window_orders, most))
    provider = StripePayments(
        http,
        settings.payment_provider_url,
        settings.payment_provider_api_key,
        multi_capture=settings.payment_provider_multi_capture,
        timeout_s=settings.payment_provider_timeout_seconds,
    )
    provide(app, PaymentProvider, provider)
    provide(app, WebhookSecrets, WebhookSecrets.of(settings.payment_webhook_secret))
    wake = asyncio.Event()
    provide(app, asyncio.Event, wake)
    taken = _figures(database)
    news = partial(commands.settle_news, database, provider)
    settle = Job("settle what the payment provider told", news, every_s=NEWS_SECONDS, wake=wake)
    return Service(
        name="payment",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription,
        jobs=[settle, taken.job()],
        resources=[http, taken],
    )


def _figures(database: Database) -> Figures:
    """What is asked about what is owed and disputed."""

    async def owed() -> Sequence[Metric]:
        return figures.owed(await queries.debts_open(database))

    async def disputed() -> Sequence[Metric]:
        return figures.disputed(await queries.disputes_open(database))

    return Figures("payment", database.asyncpg_dsn, [owed, disputed], every_s=FIGURES_SECONDS)


if __name__ == "__main__":
    run_service(build(PaymentSettings()))
