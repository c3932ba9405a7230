"""What runs in the notification process: the API, the relay, the consumer, and the job that sends mails."""

import asyncio
from typing import Annotated

from pydantic import Field, SecretStr

from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.database import Database
from chassis.dependencies import provide
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from services.notification import api
from services.notification.access import ACCESS
from services.notification.adapters import IdentityDirectory, SmtpMailer, SmtpSettings
from services.notification.consumers import subscription
from services.notification.delivery import Delivery
from services.notification.model import inbox, metadata


class NotificationSettings(ServiceSettings, SmtpSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_NOTIFICATION")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_NOTIFICATION")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_NOTIFICATION")
    """What this process proves itself with to get its service token from identity."""
    mail_connections: Annotated[int, Field(ge=1, le=20)] = 1
    """How many mails this process sends at a time."""
    mail_attempts: Annotated[int, Field(ge=1, le=20)] = 12
    """How often a mail is tried before it is given up: twelve tries take half an hour."""


def build(settings: NotificationSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app(
        "Notification",
        "Mails to customers: their templates and what became of them.",
        [api.public, api.internal],
        {"database": database.ping},
        ACCESS,
    )
    wake = asyncio.Event()
    provide(app, asyncio.Event, wake)
    http = HttpSession()

    tokens = ServiceTokens(http, settings.identity_url, "notification", settings.service_client_secret)
    directory = IdentityDirectory(ServiceClient("identity", settings.identity_url, http, tokens))
    deliveries = [
        Delivery(database, directory, SmtpMailer(settings), wake, attempts=settings.mail_attempts)
        for _ in range(settings.mail_connections)
    ]
    return Service(
        name="notification",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription,
        jobs=[delivery.job() for delivery in deliveries],
        resources=[http],
    )


if __name__ == "__main__":
    run_service(build(NotificationSettings()))
