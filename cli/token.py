"""`commerce token`: what other programs log in with, such as the `temporal` command at the codec server."""

import asyncio
from collections.abc import Mapping

import aiohttp

from cli.client import ApiProblem, Gateway
from cli.operators import REFUSED, UNREACHABLE, fail


def access_token(env: Mapping[str, str], email: str, password: str) -> str:
    """A new one, from the gateway that the environment names. Exits if there is none."""
    if "GATEWAY_URL" not in env:
        fail("No platform runs here, and the environment does not say where one is: GATEWAY_URL", UNREACHABLE)

    async def ask() -> str:
        async with Gateway(env["GATEWAY_URL"]) as gateway:
            return await gateway.login(email, password)

    try:
        return asyncio.run(ask())
    except ApiProblem as problem:
        fail(f"{problem.code}: {problem.body.get('detail')}", REFUSED)
    except (aiohttp.ClientError, OSError) as error:
        fail(f"The gateway does not answer: {error}", UNREACHABLE)
