"""Where new orders go: promote, ramp, roll back, drain."""

import asyncio

import typer

from chassis.clients import Unavailable
from cli.release.running import FIRST_POLL_S, POLL_S
from temporal.deployments import Deployment, ReleaseError, Standing

WAIT_S = 300.0


async def promote_build(deployment: Deployment, build_id: str, *, wait: bool) -> None:
    """Make a build the current one. ReleaseError, Unavailable; with `wait`, only when five minutes of trying have passed."""
    loop = asyncio.get_running_loop()
    until, pause, told = loop.time() + WAIT_S, FIRST_POLL_S, False
    while True:
        try:
            await _promote(deployment, build_id)
            return
        except (ReleaseError, Unavailable):
            if not wait or loop.time() > until:
                raise
            if not told:
                typer.echo(f"Waiting for a worker of build {build_id} …")
                told = True
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_S)


async def _promote(deployment: Deployment, build_id: str) -> None:
    builds = await deployment.builds()
    build = builds[build_id]
    if build.standing == Standing.CURRENT:
        typer.echo(f"New orders go to build {build_id} already.")
        return
    if not build.pollers:
        raise ReleaseError(f"No worker of build {build_id} asks for work: new orders would wait for one.")
    previous = await deployment.set_current(build_id)
    typer.echo(f"New orders go to build {build_id}.")
    if previous:
        left = await deployment.in_flight(previous)
        typer.echo(f"{left} in flight stay with build {previous}; its workers are needed until they have ended.")
