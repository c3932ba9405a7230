"""What runs in the shipping process: the API, the relay, the consumer, and the jobs that ask carriers."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from chassis.clients import HttpSession
from chassis.database import Database
from chassis.dependencies import provide
from chassis.jobs import Job
from chassis.service import Service, new_app, run_service
from chassis.settings import DatabaseUrl, ServiceSettings
from contracts.address import Address
from contracts.budgets import FIRST_TRY_S, PROVIDER_CALL_S
from services.shipping import api
from services.shipping.access import ACCESS
from services.shipping.adapters import EasyPost, OwnFleet
from services.shipping.commands import labels, news, refunds
from services.shipping.consumers import subscription
from services.shipping.model import inbox, metadata
from services.shipping.model.choosing import Preference
from services.shipping.model.packing import BOXES, Box
from services.shipping.ports import Carrier, Place
from services.shipping.sending import Sending

LABELS_SECONDS, REFUNDS_SECONDS, SILENT_SECONDS = 5.0, 15.0, 60.0


class Warehouse(Address):
    """Where a warehouse is, with what carriers want to know of it beside its address."""

    company: Annotated[str, StringConstraints(max_length=120)] | None = None
    phone: Annotated[str, StringConstraints(max_length=40)] | None = None

    @property
    def place(self) -> Place:
        address = Address.model_validate(self.model_dump(exclude={"company", "phone"}))
        return Place(address, self.company, self.phone)


class ShippingSettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_SHIPPING")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_SHIPPING")
    carriers: Annotated[tuple[str, ...], NoDecode] = ("easypost",)
    """Who carries parcels, in the order in which they are asked."""
    carrier_url: str = "https://api.easypost.com"
    carrier_api_key: SecretStr | None = None
    carrier_webhook_secret: SecretStr | None = None
    """The carrier signs its webhooks with it; whoever knows it can report deliveries. Several, separated by commas: one of them
    takes the place of another."""
    carrier_timeout_seconds: Annotated[float, Field(gt=0, lt=FIRST_TRY_S)] = PROVIDER_CALL_S
    carrier_choice: Preference = Preference.PRICE
    carrier_fallback_after_seconds: Annotated[float, Field(ge=0, le=3600)] = 120
    boxes: tuple[Box, ...] = ()
    warehouse_addresses: Mapping[str, Warehouse] | None = None

    @field_validator("carriers", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_carry(self) -> "ShippingSettings":
        if not self.carriers or len(set(self.carriers)) != len(self.carriers) or set(self.carriers) - {"easypost", "tariff"}:
            raise ValueError("CARRIERS must list easypost, tariff, or both, each once")
        if "easypost" in self.carriers:
            if self.carrier_api_key is None or self.carrier_webhook_secret is None:
                raise ValueError("carrier easypost needs CARRIER_API_KEY and CARRIER_WEBHOOK_SECRET")
            if any(len(secret.get_secret_value()) < 16 for secret in self.webhook_secrets):
                raise ValueError("each secret in CARRIER_WEBHOOK_SECRET must have at least 16 characters")
        return self

    @property
    def webhook_secrets(self) -> Sequence[SecretStr]:
        given = self.carrier_webhook_secret.get_secret_value() if self.carrier_webhook_secret else ""
        return [SecretStr(secret.strip()) for secret in given.split(",")]


def sending_of(settings: ShippingSettings, http: HttpSession) -> Sending:
    """How parcels are sent, by the settings."""

    def carrier(name: str) -> Carrier:
        if name == "tariff" or settings.carrier_api_key is None:
            return OwnFleet()
        return EasyPost(
            http,
            settings.carrier_url,
            settings.carrier_api_key,
            settings.webhook_secrets,
            timeout_s=settings.carrier_timeout_seconds,
        )

    places = settings.warehouse_addresses
    return Sending(
        carriers=[carrier(name) for name in settings.carriers],
        boxes=settings.boxes or BOXES,
        preference=settings.carrier_choice,
        fallback_after=timedelta(seconds=settings.carrier_fallback_after_seconds),
        warehouses={name: warehouse.place for name, warehouse in places.items()} if places else None,
    )


def build(settings: ShippingSettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    http = HttpSession()
    sending = sending_of(settings, http)
    app = new_app(
        "Shipping",
        "Rates, address checks, parcels and where they are, and what a warehouse needs to send them.",
        [api.public, api.internal],
        {"database": database.ping},
        ACCESS,
    )
    provide(app, Sending, sending)
    return Service(
        name="shipping",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        inbox=inbox,
        subscription=subscription,
        jobs=[
            Job("fetch labels", partial(labels.fetch_labels, database, sending), every_s=LABELS_SECONDS),
            Job("settle refunds of labels", partial(refunds.settle_refunds, database, sending), every_s=REFUNDS_SECONDS),
            Job("ask about silent packages", partial(news.ask_about_silent, database, sending), every_s=SILENT_SECONDS),
        ],
        resources=[http],
    )


if __name__ == "__main__":
    run_service(build(ShippingSettings()))
