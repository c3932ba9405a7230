"""`commerce providers check`: do our keys at the companies that the shop works with work? Nothing is bought, moved or sent."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import typer

from cli.operators import DEFAULT_DATA, DONE, REFUSED, UNREACHABLE, Data, columns, environment

if TYPE_CHECKING:
    import aiohttp

providers_app = typer.Typer(no_args_is_help=True, help="The companies that the shop works with.")
TIMEOUT_S = 10.0
STRIPE, EASYPOST, TWILIO = "https://api.stripe.com", "https://api.easypost.com", "https://api.twilio.com"
Environment = Mapping[str, str]


class State(StrEnum):
    """What came of a look at one company."""

    WORKS = "works"
    OFF = "off"
    """Not configured: the shop does without it."""
    REFUSED = "refused"
    """The company answers, and does not take the key."""
    AWAY = "away"


class Found(NamedTuple):
    state: State
    detail: str


@providers_app.command()
def check(data: Data = DEFAULT_DATA) -> None:
    """Ask each company that is configured whether it knows our key. Exit code: 1 if one does not, 2 if one gives no answer."""
    found = asyncio.run(look(environment(data)))
    columns(("COMPANY", "STATE", ""), [(name, each.state, each.detail) for name, each in found.items()])
    states = {each.state for each in found.values()}
    raise typer.Exit(REFUSED if State.REFUSED in states else UNREACHABLE if State.AWAY in states else DONE)


async def look(env: Environment) -> dict[str, Found]:
    """What each company says, by its name for people."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        found = await asyncio.gather(*(_tried(company, http, env) for company in COMPANIES.values()))
    return dict(zip(COMPANIES, found, strict=True))


async def _tried(company: "Company", http: "aiohttp.ClientSession", env: Environment) -> Found:
    try:
        return await company(http, env)
    except (OSError, TimeoutError, ValueError) as error:  # what aiohttp raises is an OSError or a ValueError
        return Found(State.AWAY, f"no answer ({type(error).__name__})")


async def _cards(http: "aiohttp.ClientSession", env: Environment) -> Found:
    return await _asked(http, env.get("PAYMENT_PROVIDER_URL", STRIPE), "/v1/account", env.get("PAYMENT_PROVIDER_API_KEY"))


async def _bank(http: "aiohttp.ClientSession", env: Environment) -> Found:
    if "BANK_URL" not in env:
        return Found(State.OFF, "statements are uploaded by hand" if "BANK_IBAN" in env else "")
    return await _asked(http, env["BANK_URL"], "/v1/notifications", env.get("BANK_API_KEY"))


async def _carriers(http: "aiohttp.ClientSession", env: Environment) -> Found:
    return await _asked(http, env.get("CARRIER_URL", EASYPOST), "/v2/webhooks", env.get("CARRIER_API_KEY"))


async def _texts(http: "aiohttp.ClientSession", env: Environment) -> Found:
    sid, token = env.get("TWILIO_ACCOUNT_SID"), env.get("TWILIO_AUTH_TOKEN", "").split(",")[0].strip()
    if not (sid and token):
        return Found(State.OFF, "")
    basic = base64.b64encode(f"{sid}:{token}".encode()).decode()
    url = env.get("TWILIO_URL", TWILIO)
    return await _asked(http, url, f"/2010-04-01/Accounts/{sid}.json", token, authorization=f"Basic {basic}")


async def _mails(_: "aiohttp.ClientSession", env: Environment) -> Found:
    from aiosmtplib import SMTPAuthenticationError, SMTPException

    from cli.operators import settings_from
    from services.notification.adapters.smtp import SmtpSettings, server_of

    settings = settings_from(env, SmtpSettings)
    server = server_of(settings)
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        await server.connect()
        await server.noop()
        await server.quit()
    except SMTPAuthenticationError:
        return Found(State.REFUSED, f"{where} does not take the login")
    except SMTPException as error:
        return Found(State.AWAY, f"{where}: {type(error).__name__}")
    return Found(State.WORKS, where)


async def _push(_: "aiohttp.ClientSession", env: Environment) -> Found:
    from pydantic import ValidationError

    from cli.operators import settings_from
    from services.notification.adapters.webpush import PushSettings

    if "VAPID_PRIVATE_KEY" not in env:
        return Found(State.OFF, "")
    try:
        settings_from(env, PushSettings)
    except ValidationError:
        return Found(State.REFUSED, "VAPID_PRIVATE_KEY is not a key")
    return Found(State.WORKS, "the key is one; each browser has a push service of its own")


async def _asked(
    http: "aiohttp.ClientSession", url: str, path: str, key: str | None, *, authorization: str | None = None
) -> Found:
    """What a company answers to a question that changes nothing."""
    if not key:
        return Found(State.OFF, "")
    headers = {"Authorization": authorization or f"Bearer {key}"}
    async with http.get(url.rstrip("/") + path, headers=headers, allow_redirects=False) as response:
        if response.status in (401, 403):
            return Found(State.REFUSED, f"{url} does not take the key ({response.status})")
        if response.status >= 300:
            return Found(State.AWAY, f"{url} answers {response.status}")
    return Found(State.WORKS, url)


Company = Callable[["aiohttp.ClientSession", Environment], Awaitable[Found]]
COMPANIES: Mapping[str, Company] = {
    "card processor": _cards,
    "bank": _bank,
    "carriers": _carriers,
    "mail server": _mails,
    "text messages": _texts,
    "web push": _push,
}
