"""What runs in the shipping process: the API, the relay, the consumer, and the job that settles what was asked of the carrier."""

from functools import partial
from typing import Annotated

from pydantic import Field, SecretStr

from chassis.clients import HttpSession
from chassis.database import Database
from chassis.dependencies import provide
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from chassis.webhooks import WebhookSecrets
from contracts.budgets import FIRST_TRY_S, PROVIDER_CALL_S
from services.shipping import api, commands
from services.shipping.access import ACCESS
from services.shipping.adapters import HttpCarrier
from services.shipping.consumers import subscription
from services.shipping.model import inbox, metadata
from services.shipping.ports import Carrier

SETTLE_SECONDS = 5.0


class ShippingSettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_SHIPPING")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_SHIPPING")
    carrier_url: str
    carrier_api_key: SecretStr
    carrier_webhook_secret: Annotated[SecretStr, Field(min_length=16)]
    """The carrier signs its webhooks with it; whoever knows it can report deliveries."""
    carrier_timeout_seconds: Annotated[float, Field(gt=0, lt=FIRST_TRY_S)] = PROVIDER_CALL_S


def build(settings: ShippingSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    http = HttpSession()
    carrier = HttpCarrier(http, settings.carrier_url, settings.carrier_api_key, timeout_s=settings.carrier_timeout_seconds)
    app = new_app(
        "Shipping",
        "Rates, address checks, parcels and where they are.",
        [api.public, api.internal],
        {"database": database.ping},
        ACCESS,
    )
    provide(app, Carrier, carrier)
    provide(app, WebhookSecrets, WebhookSecrets.of(settings.carrier_webhook_secret))
    settle = Job(
        "settle what was asked of the carrier", partial(commands.settle_asked, database, carrier), every_s=SETTLE_SECONDS
    )
    return Service(
        name="shipping",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription,
        jobs=[settle],
        resources=[http],
    )


if __name__ == "__main__":
    run_service(build(ShippingSettings()))
