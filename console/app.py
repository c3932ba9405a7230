"""What runs in the console process. Its composition root; `python -m console.app`."""

from contextlib import AsyncExitStack

from chassis.clients import HttpSession
from chassis.service import run_process, serve
from chassis.sessions import EndedSessions, ended_fetcher
from chassis.settings import ProcessSettings
from chassis.tokens import TokenVerifier, jwks_fetcher
from console.api import console_app
from console.logins import Logins


class ConsoleSettings(ProcessSettings):
    """What the console reads."""


async def run(settings: ConsoleSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpSession())
        ended = EndedSessions(ended_fetcher(http, settings.identity_url))
        await stack.enter_async_context(ended.following())
        keys = jwks_fetcher(http, settings.identity_url)
        verifier = TokenVerifier(settings.jwt_issuer, settings.jwt_audience, keys, ended=ended)

        class Plain:
            async def encode(self, payloads):
                return list(payloads)

            async def decode(self, payloads):
                return list(payloads)

        app = console_app(Logins(http, settings.identity_url, verifier), verifier, Plain(), {})
        await serve(app, settings)


if __name__ == "__main__":
    settings = ConsoleSettings()
    run_process("console", settings, lambda: run(settings))
