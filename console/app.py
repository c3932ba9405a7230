"""What runs in the console process. Its composition root; `python -m console.app`."""

from contextlib import AsyncExitStack

from fastapi import FastAPI
from pydantic import Field, SecretStr
from temporalio.converter import PayloadCodec

from chassis.clients import HttpSession, ServiceClient, ServiceTokens
from chassis.service import run_process, serve
from chassis.sessions import EndedSessions, ended_fetcher
from chassis.settings import ProcessSettings
from chassis.tokens import TokenVerifier, jwks_fetcher
from console.api import console_app
from console.codec import ClearCodec, ReadableCodec
from console.logins import Logins
from contracts.platform import local_url
from temporal.codec import HistoryCodec
from temporal.keys import DataKeys, HistorySettings, KeysOfOrderService


class ConsoleSettings(ProcessSettings, HistorySettings):
    """What the console reads."""

    order_url: str = local_url("order")
    service_client_secret: SecretStr = Field(validation_alias="SERVICE_CLIENT_SECRET_CONSOLE")


def history_codec(settings: ConsoleSettings, http: HttpSession) -> PayloadCodec:
    """What decrypts histories."""
    master = settings.master_keys()
    if master is None:
        return ClearCodec()
    tokens = ServiceTokens(http, settings.identity_url, "console", settings.service_client_secret)
    keys = DataKeys(KeysOfOrderService(ServiceClient("order", settings.order_url, http, tokens)), master)
    return HistoryCodec(keys, writes_in_clear=settings.histories_in_clear)


def console(settings: ConsoleSettings, http: HttpSession, ended: EndedSessions) -> FastAPI:
    """Put the application together; nothing is asked yet."""
    keys = jwks_fetcher(http, settings.identity_url)
    verifier = TokenVerifier(settings.jwt_issuer, settings.jwt_audience, keys, ended=ended)
    logins = Logins(http, settings.identity_url, verifier)
    return console_app(logins, verifier, ReadableCodec(history_codec(settings, http)))


async def run(settings: ConsoleSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpSession())
        ended = EndedSessions(ended_fetcher(http, settings.identity_url))
        await stack.enter_async_context(ended.following())
        await serve(console(settings, http, ended), settings)


if __name__ == "__main__":
    settings = ConsoleSettings()
    run_process("console", settings, lambda: run(settings))
