"""What runs in the payment process: the API, the relay, the consumer, the job that settles what the provider told, and those that
speak with the bank."""

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
from services.payment.adapters import HttpBank, Iso20022, Providers, StripePayments, Transfers
from services.payment.consumers import subscription
from services.payment.model import VELOCITY, TransferAccount, Velocity, inbox, metadata
from services.payment.ports import PaymentProvider, Statements

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
    bank_recipient: Annotated[str | None, Field(max_length=70)] = None
    """Of the shop's bank account, as customers write it who pay by transfer. Without it or the next, nobody can."""
    bank_iban: Annotated[str | None, Field(pattern=r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$")] = None
    bank_url: str | None = None
    """Where the bank tells what was booked, and takes orders. Without it or the next, its statements are uploaded by hand."""
    bank_api_key: SecretStr | None = None
    bank_poll_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = 5.0
    """How often it is asked."""
    payment_provider_timeout_seconds: Annotated[float, Field(gt=0, lt=FIRST_TRY_S)] = PROVIDER_CALL_S
    """How long the provider may take to answer; less than whoever calls us waits."""
    review_window_hours: Annotated[int, Field(ge=1, le=8760)] = VELOCITY.window // timedelta(hours=1)
    """Orders of one customer, card or address within so many hours are counted together."""
    review_window_orders: Annotated[int, Field(ge=1)] = VELOCITY.orders
    """After so many of them, the next is held for an operator."""
    review_window_sum: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=3)] = VELOCITY.total.amount
    """In USD: with an order that brings their sum above this, it is held for an operator."""

    @property
    def account(self) -> TransferAccount | None:
        """To which customers transfer, if the shop has said that."""
        return TransferAccount(self.bank_recipient, self.bank_iban) if self.bank_recipient and self.bank_iban else None


def build(settings: PaymentSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    http = HttpSession()
    app = new_app("Payment", "Payments and their ledger.", [api.public, api.internal], {"database": database.ping}, ACCESS)
    window, most = timedelta(hours=settings.review_window_hours), Money(amount=settings.review_window_sum)
    provide(app, Velocity, Velocity(window, settings.review_window_orders, most))
    cards = StripePayments(
        http,
        settings.payment_provider_url,
        settings.payment_provider_api_key,
        multi_capture=settings.payment_provider_multi_capture,
        timeout_s=settings.payment_provider_timeout_seconds,
    )
    account = settings.account
    provider = Providers(cards, Transfers(database, account))
    provide(app, PaymentProvider, provider)
    provide(app, Statements, Iso20022(account))
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
        jobs=[settle, *_of_bank(settings, account, database, http, provider), taken.job()],
        resources=[http, taken],
    )


def _of_bank(
    settings: PaymentSettings, account: TransferAccount | None, database: Database, http: HttpSession, provider: PaymentProvider
) -> Sequence[Job]:
    """What is done again and again if customers may pay by transfer. Each goes on while another one fails."""
    if account is None:
        return ()
    every_s = settings.bank_poll_seconds
    tell = Job("tell payments what the bank told", partial(commands.tell_payments, database, provider), every_s=every_s)
    if settings.bank_url is None or settings.bank_api_key is None:
        return (tell,)
    timeout_s = settings.payment_provider_timeout_seconds
    bank = HttpBank(http, settings.bank_url, settings.bank_api_key, account, timeout_s=timeout_s)
    return (
        Job("book what the bank tells of the account", partial(commands.take_bookings, database, bank), every_s=every_s),
        Job("hear what became of orders to the bank", partial(commands.take_reports, database, bank), every_s=every_s),
        Job("send orders to the bank", partial(commands.send_orders, database, bank), every_s=every_s),
        tell,
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
