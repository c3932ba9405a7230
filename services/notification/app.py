"""What runs in the notification process: the API, the relay, the consumer, and the jobs that send messages, one a channel."""

import asyncio
from collections.abc import Callable
from datetime import time
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.database import Database
from chassis.dependencies import provide, provided
from chassis.health import About
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from contracts.budgets import INBOX_STREAM_S
from services.notification import api, bouncing, commands
from services.notification.access import ACCESS
from services.notification.adapters.identity import IdentityDirectory
from services.notification.adapters.imap import BounceMailbox, BounceSettings
from services.notification.adapters.smtp import SmtpMailer, SmtpSettings
from services.notification.adapters.twilio import TwilioSender, TwilioSettings
from services.notification.adapters.webpush import PushSettings, WebPushSender
from services.notification.api.dependencies import Outside
from services.notification.api.webhooks import WebhookKeys
from services.notification.channels import Channel, Sender
from services.notification.commands import Staff
from services.notification.consumers import subscription
from services.notification.delivery import DeliveryJob
from services.notification.links import Links
from services.notification.model import Audience, inbox, metadata
from services.notification.stream import Streams

LOOK_FOR_DIGESTS_S = 30.0
TWILIO_PATH = "/api/v1/notifications/webhooks/twilio"
TAKE_OVER_S = 5.0


def _listed(value: Any) -> Any:
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


Addresses = Annotated[
    tuple[Annotated[str, Field(max_length=320, pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")], ...], NoDecode, BeforeValidator(_listed)
]
"""Mail addresses, comma-separated in the environment."""


class NotificationSettings(ServiceSettings, SmtpSettings, TwilioSettings, PushSettings, BounceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_NOTIFICATION")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_NOTIFICATION")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_NOTIFICATION")
    """What this process proves itself with to get its service token from identity."""
    notification_secrets: SecretStr
    """What unsubscribe links are signed with, comma-separated: the first signs, the others are older ones that are still good."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] = "http://127.0.0.1:8080"
    """Under which customers reach the gateway; links in mails begin with it."""
    order_page_url: Annotated[str | None, Field(pattern=r"^https?://[^\s]*\{order_id\}[^\s]*$")] = None
    """Where customers look at an order on the shop's own pages, with `{order_id}` in it; None: push messages lead to none."""
    mail_connections: Annotated[int, Field(ge=1, le=20)] = 1
    """How many mails this process sends at a time."""
    mail_attempts: Annotated[int, Field(ge=1, le=20)] = 12
    """How often a message is tried before another channel takes it: twelve tries take half an hour."""
    notify_warehouse_email: Addresses = ()
    notify_finance_email: Addresses = ()
    notify_support_email: Addresses = ()
    low_stock_digest_at: time = time(6)
    """When warehouses are told what runs out, each day, in UTC."""
    inbox_stream_seconds: Annotated[float, Field(gt=0, le=INBOX_STREAM_S)] = INBOX_STREAM_S
    """How long a live stream of the inbox lasts; its client comes back."""

    @property
    def staff(self) -> Staff:
        return Staff(
            {
                Audience.WAREHOUSE: self.notify_warehouse_email,
                Audience.FINANCE: self.notify_finance_email,
                Audience.SUPPORT: self.notify_support_email,
            }
        )

    @property
    def links(self) -> Links:
        secrets = self.notification_secrets.get_secret_value().split(",")
        return Links(self.public_url, [secret.strip().encode() for secret in secrets], self.order_page_url)

    @property
    def twilio_callback(self) -> str:
        return self.twilio_status_url or f"{self.public_url.rstrip('/')}{TWILIO_PATH}"


def senders(settings: NotificationSettings, http: HttpSession, public_http: HttpSession) -> dict[Channel, Callable[[], Sender]]:
    """How each channel that is set up is sent by. Mails have a connection for each sender; the others share the process's."""
    found: dict[Channel, Callable[[], Sender]] = {Channel.EMAIL: partial(SmtpMailer, settings)}
    if settings.twilio_from:
        twilio = TwilioSender(http, settings, settings.twilio_callback)
        found[Channel.SMS] = lambda: twilio
    if subscribing := settings.subscribing():
        push = WebPushSender(http, public_http, subscribing, settings.vapid_subject)
        found[Channel.PUSH] = lambda: push
    return found


def channels(settings: NotificationSettings) -> dict[str, str]:
    """What each channel is up to, for who looks after the service."""
    return {
        Channel.EMAIL: f"on, by {settings.smtp_host}",
        Channel.SMS: "on, by Twilio" if settings.twilio_from else "off: TWILIO_FROM is not set",
        Channel.PUSH: "on" if settings.vapid_private_key else "off: VAPID_PRIVATE_KEY is not set",
        Channel.INBOX: "on",
    }


def build(settings: NotificationSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    app = new_app(
        "Notification",
        "What customers and staff are told, by mail, SMS, push and in the inbox: texts, preferences, and what became of it.",
        api.ROUTERS,
        {"database": database.ping},
        ACCESS,
    )
    wake = asyncio.Event()
    http, public_http = HttpSession(), HttpSession(public_only=True)
    links = settings.links
    tokens = ServiceTokens(http, settings.identity_url, "notification", settings.service_client_secret)
    directory = IdentityDirectory(ServiceClient("identity", settings.identity_url, http, tokens))
    outside = Outside(directory, senders(settings, http, public_http), settings.subscribing())
    streams = Streams(database, lasts_s=settings.inbox_stream_seconds)
    provide(app, asyncio.Event, wake)
    provide(app, Links, links)
    provide(app, Outside, outside)
    provide(app, Streams, streams)
    provide(app, WebhookKeys, WebhookKeys(settings.twilio_callback, settings.twilio_tokens, settings.email_secrets))
    provided(app, About)["channels"] = channels(settings)
    deliveries = [
        DeliveryJob(database, directory, new_sender(), links, wake, attempts=settings.mail_attempts)
        for channel, new_sender in outside.senders.items()
        for _ in range(settings.mail_connections if channel is Channel.EMAIL else 1)
    ]
    mailbox = BounceMailbox.of(settings)
    read_bounces = partial(bouncing.read_mailbox, database, mailbox) if mailbox else None
    bounces = [Job("read the mailbox of bounces", read_bounces, every_s=settings.bounce_poll_seconds)] if read_bounces else []
    send_digests = partial(commands.send_digests, database, settings.staff, settings.low_stock_digest_at)
    return Service(
        name="notification",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription(settings.staff),
        jobs=[
            *(delivery.job() for delivery in deliveries),
            Job("send digests", send_digests, every_s=LOOK_FOR_DIGESTS_S),
            Job("take over mails of a build before", partial(commands.take_over, database), every_s=TAKE_OVER_S),
            *bounces,
        ],
        resources=[http, public_http],
        at_stop=streams.stop,
    )


if __name__ == "__main__":
    run_service(build(NotificationSettings()))
