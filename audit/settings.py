"""Where the auditor finds the books: the same variables that the services themselves read."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, model_validator

from audit.books import Source
from temporal.client import TemporalSettings
from temporal.keys import HistorySettings


class AuditSettings(TemporalSettings, HistorySettings):
    """Addresses and keys of everything that has books."""

    database_url_order: str
    database_url_payment: str
    database_url_inventory: str
    database_url_shipping: str
    database_url_notification: str
    database_url_analytics: str
    database_url_identity: str
    database_url_catalog: str
    payment_provider_url: str = "https://api.stripe.com"
    payment_provider_api_key: SecretStr
    carrier_url: str = "https://api.easypost.com"
    carrier_api_key: SecretStr | None = None
    """Without it our own vans carry everything, and there is nothing to compare."""
    bank_url: str | None = None
    """Without it or the next two, what came in by bank transfer is not compared."""
    bank_api_key: SecretStr | None = None
    bank_iban: str | None = None
    mail_sink_url: str | None = None
    """Without it (a real mail server has no such books), what the mail server got is not compared."""
    mail_sink_api_key: SecretStr | None = None
    sms_provider_url: str | None = None
    """The simulator's; without it or the next two (Twilio does not say which of our ids a message has), SMS are not compared."""
    twilio_account_sid: str | None = None
    twilio_auth_token: SecretStr | None = None
    push_service_url: str | None = None
    """The simulator's; without it (browsers' push services have no such books), push messages are not compared."""
    outbox_retention_hours: Annotated[int, Field(ge=1)] = 72
    """How long the services keep published events."""
    audit_results: Annotated[int, Field(ge=0)] = 1_000
    """Of so many workflows, those that closed last, the result itself is read; of the others, what they are listed as."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """From the variables of a platform, e.g. `Platform.env`. Raises ValidationError, naming what is missing."""
        return cls.model_validate(dict(environment))

    @model_validator(mode="before")
    @classmethod
    def _as_in_the_environment(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Names as the environment spells them win over what this process has in its own."""
        return values | {name.lower(): value for name, value in values.items() if name.isupper()}

    def database(self, service: Source) -> str:
        """A service's database, as asyncpg takes it."""
        url: str = getattr(self, f"database_url_{service}")
        return url.replace("postgresql+asyncpg://", "postgresql://", 1)
