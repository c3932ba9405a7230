"""What runs in the identity process: the API, the relay, and the job that forgets what has expired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from chassis.database import Database, is_connection_fault
from chassis.dependencies import provide
from chassis.jobs import Job
from chassis.logs import logger
from chassis.service import Service, new_app, run_service
from chassis.sessions import EndedSessions
from chassis.settings import DatabaseUrl, ServiceSettings
from chassis.tokens import TokenVerifier
from contracts.budgets import ENDED_SESSIONS_WAIT_S
from contracts.platform import CLIENTS
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api import ROUTERS
from services.identity.api.dependencies import ClientSecrets, LinkAddress
from services.identity.commands import accounts, sessions
from services.identity.commands.security import SecurityLog
from services.identity.ended import EndedSessionsWatch
from services.identity.model import metadata
from services.identity.passwords import Passwords
from services.identity.schemas import Email, NewPassword
from services.identity.tokens import TokenIssuer

FORGET_SECONDS = 600.0
log = logger(__name__)


ClientSecret = Annotated[SecretStr, Field(min_length=16)]


class IdentitySettings(ServiceSettings):
    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL_IDENTITY")
    database_read_url: DatabaseUrl | None = Field(default=None, validation_alias="DATABASE_READ_URL_IDENTITY")
    service_client_secret_worker: ClientSecret
    service_client_secret_console: ClientSecret
    service_client_secret_order: ClientSecret
    service_client_secret_notification: ClientSecret
    jwt_private_key: SecretStr
    """RSA, PEM."""
    jwt_previous_public_keys: str = ""
    """PEM, one after the other: keys that are still, or will soon be, in use beside the private one."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] = "http://127.0.0.1:8080"
    """Under which customers reach the gateway: links in mails begin with it."""
    security_log_retention_days: Annotated[int, Field(ge=1)] = 90
    admin_email: Email | None = None
    admin_password: NewPassword | None = None

    @model_validator(mode="after")
    def _admin_whole_or_not_at_all(self) -> Self:
        if (self.admin_email is None) != (self.admin_password is None):
            raise ValueError("set both ADMIN_EMAIL and ADMIN_PASSWORD, or neither")
        return self


def build(settings: IdentitySettings) -> Service:
    """Put the service together; nothing is connected yet."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    passwords = Passwords()
    issuer = TokenIssuer(
        settings.jwt_private_key,
        settings.jwt_previous_public_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    app = new_app(
        "Identity",
        "Users, logins, roles and tokens.",
        ROUTERS,
        {"database": database.ping},
        ACCESS,
    )
    secrets = {client.name: getattr(settings, client.client_secret.lower()) for client in CLIENTS}
    provide(app, Passwords, passwords)
    provide(app, TokenIssuer, issuer)
    provide(app, SecurityLog, SecurityLog())
    provide(app, LinkAddress, LinkAddress(settings.public_url))
    provide(app, ClientSecrets, ClientSecrets(secrets))
    watch = EndedSessionsWatch(partial(queries.ended_sessions, database))
    provide(app, EndedSessionsWatch, watch)
    ended = EndedSessions(partial(watch.since, wait_s=ENDED_SESSIONS_WAIT_S))
    verifier = TokenVerifier(settings.jwt_issuer, settings.jwt_audience, issuer.keys, service="identity", ended=ended)
    provide(app, TokenVerifier, verifier)

    @asynccontextmanager
    async def first_admin() -> AsyncIterator[None]:
        """Before the first request is answered, so that whoever finds the service ready can log in."""
        if settings.admin_email and settings.admin_password:
            while True:
                try:
                    await accounts.ensure_admin(
                        database,
                        passwords,
                        email=settings.admin_email,
                        password=settings.admin_password,
                        name="Administrator",
                    )
                    break
                except Exception as error:
                    if not is_connection_fault(error):
                        raise
                    log.warning("waiting_for_the_database", error=type(error).__name__)
                    await asyncio.sleep(1)
        yield

    async def forget() -> None:
        await sessions.forget_expired(database, timedelta(days=settings.security_log_retention_days))
        await accounts.forget_expired(database)

    return Service(
        name="identity",
        settings=settings,
        metadata=metadata,
        api=app,
        database=database,
        resources=[first_admin(), watch.running(), ended.following()],
        at_stop=watch.stop,
        jobs=[Job("forget what has expired", forget, every_s=FORGET_SECONDS)],
    )


if __name__ == "__main__":
    run_service(build(IdentitySettings()))
