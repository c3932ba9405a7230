"""How the commands about releases reach Temporal, and say what went wrong."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from cli.operators import REFUSED, UNREACHABLE, environment, fail, history_codec

if TYPE_CHECKING:
    from temporal.deployments import Deployment

POLL_S = 1.0
"""Between two looks at what is waited for."""
FIRST_POLL_S = 0.1


def run(data: Path, work: "Callable[[Deployment], Awaitable[int]]", *, reads_histories: bool = False) -> NoReturn:
    """Do some work with the deployment, and exit: 0 done, 1 refused or there is no such thing, 2 Temporal cannot be reached.

    Who `reads_histories` needs the keys of customers and the order service's database, too."""
    from pydantic import ValidationError

    from chassis.clients import Unavailable
    from temporal.client import TemporalSettings, connect
    from temporal.deployments import Deployment, ReleaseError
    from temporal.versions import VersionSettings

    env = dict(os.environ) if os.environ.get("TEMPORAL_ADDRESS") else environment(data)
    given = {name.lower(): value for name, value in env.items() if name.startswith("TEMPORAL_") and value}

    async def main() -> int:
        async with history_codec(env) if reads_histories else nullcontext() as codec:
            client = await connect(TemporalSettings.model_validate(given), codec, lazy=True)
            return await work(Deployment(client, VersionSettings.model_validate(given).temporal_deployment_name))

    try:
        code = asyncio.run(main())
    except ValidationError as error:
        words = (": ".join([*map(str, item["loc"]), item["msg"].removeprefix("Value error, ")]) for item in error.errors())
        fail("; ".join(words), UNREACHABLE)
    except ReleaseError as error:
        fail(str(error), REFUSED)
    except (Unavailable, OSError) as error:
        fail(str(error), UNREACHABLE)
    raise typer.Exit(code)


def own_build() -> str:
    """The build of this tree or image."""
    from temporal.versions import VersionSettings

    return VersionSettings().build_id
