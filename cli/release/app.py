"""The commands. What they do is in the modules beside this one, which are loaded when they are called."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.operators import DEFAULT_DATA, DONE, Data
from cli.release.running import own_build, run

if TYPE_CHECKING:
    from temporal.deployments import Deployment

release_app = typer.Typer(no_args_is_help=True, help="Builds of the saga: which gets new orders, and what is in flight on each.")

_Build = Annotated[str | None, typer.Argument(help="A build id; this tree's (or image's) if left out.")]


@release_app.command()
def promote(
    build: _Build = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a worker of the build, five minutes at most.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send all new orders to a build. Orders in flight stay with theirs."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.routing import promote_build

        await promote_build(deployment, build or own_build(), wait=wait)
        return DONE

    run(data, work)
