"""Settings of the notification process."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.settings import DatabaseUrl, ServiceSettings


class SmtpSettings(BaseSettings):
    """How the mail server is reached."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    smtp_host: str = "127.0.0.1"
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 1025
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: Annotated[str, Field(pattern=r"^[^\r\n]*[^\s@<]+@[^\s@>]+>?$")] = "Shop <shop@shop.example>"


class NotificationSettings(ServiceSettings, SmtpSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_NOTIFICATION")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_NOTIFICATION")
    """What this process proves itself with to get its service token from identity."""
    mail_connections: Annotated[int, Field(ge=1, le=20)] = 1
    """How many mails this process sends at a time."""
    mail_attempts: Annotated[int, Field(ge=1, le=20)] = 12
    """How often a mail is tried before it is given up: twelve tries take half an hour."""
