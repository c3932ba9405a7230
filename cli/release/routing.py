"""Where new orders go: promote, ramp, roll back, drain."""

import asyncio

import typer

from chassis.clients import Unavailable
from cli.release.running import FIRST_POLL_S, POLL_S
from temporal.deployments import Build, Deployment, ReleaseError, Standing

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
    build = (await deployment.builds())[build_id]
    if build.standing == Standing.CURRENT:
        typer.echo(f"New orders go to build {build_id} already.")
        return
    _require_workers(build)
    previous = await deployment.set_current(build_id)
    typer.echo(f"New orders go to build {build_id}.")
    if previous:
        left = await deployment.in_flight(previous)
        typer.echo(f"In flight with build {previous}: {_orders(left)}. Its workers are needed until they have ended.")


async def ramp_build(deployment: Deployment, build_id: str, percent: float) -> None:
    """Send a share of the new orders to a build; 0 ends the ramp. ReleaseError, Unavailable."""
    builds = await deployment.builds()
    if percent == 0:
        if builds.ramping is None:
            typer.echo("No build is ramping.")
            return
        await deployment.unset_ramp()
        typer.echo(f"New orders go to build {builds.current.build_id if builds.current else 'nobody'} alone.")
        return
    build = builds[build_id]
    if build.standing == Standing.CURRENT:
        raise ReleaseError(f"Build {build_id} is the current one: it gets all new orders but those of a ramping build.")
    if builds.current is None:
        raise ReleaseError("No build is the current one, so nobody would get the other orders. Promote one first.")
    _require_workers(build)
    await deployment.set_ramp(build_id, percent)
    rest = f", the others to build {builds.current.build_id}" if percent < 100 else ""
    typer.echo(f"{percent:g} % of the new orders go to build {build_id}{rest}.")


async def roll_back(deployment: Deployment, *, yes: bool) -> bool:
    """Say what going back to the build before means, and with `yes` do it. ReleaseError, Unavailable."""
    builds = await deployment.builds()
    if builds.current is None:
        raise ReleaseError("No build is the current one: there is nothing to go back from.")
    newer, back = (builds.ramping, builds.current) if builds.ramping else (builds.current, builds.previous)
    if back is None:
        raise ReleaseError(f"No build was the current one before {newer.build_id}.")
    _require_workers(back)
    pinned = await deployment.in_flight(newer.build_id)
    typer.echo(f"New orders {'go' if yes else 'would go'} to build {back.build_id}, and none to build {newer.build_id}.")
    typer.echo(
        f"{_orders(pinned)} in flight {'is' if pinned == 1 else 'are'} pinned to build {newer.build_id}. What is in flight stays"
        f" there and goes on only as long as its workers run: keep them until `commerce release drain {newer.build_id}` is done."
    )
    typer.echo(f"No order is moved: build {back.build_id} may not be able to read what the newer one wrote.")
    if not newer.pollers and pinned:
        typer.echo(f"No worker of build {newer.build_id} runs now: those orders stand still until one is started.")
    if not yes:
        typer.echo("Nothing has been changed. To do it: --yes")
        return False
    await (deployment.unset_ramp() if builds.ramping else _go_back(deployment, back))
    return True


async def _go_back(deployment: Deployment, back: Build) -> None:
    await deployment.set_current(back.build_id)


async def drain_builds(deployment: Deployment, build_id: str | None, *, delete: bool, wait_s: float | None) -> bool:
    """Wait until a build, or all that get no new orders, have none in flight; False if that takes longer than `wait_s`."""
    builds = await deployment.builds()
    chosen = [builds[build_id]] if build_id else [build for build in builds.builds if build.standing == Standing.DRAINING]
    for build in chosen:
        if build.standing in (Standing.CURRENT, Standing.RAMPING):
            raise ReleaseError(f"Build {build.build_id} gets new orders. Promote another one first, or end the ramp.")
    if not chosen:
        typer.echo("No build is draining.")
    loop = asyncio.get_running_loop()
    until = None if wait_s is None else loop.time() + wait_s
    for build in chosen:
        if not await _drain(deployment, build.build_id, until):
            return False
        typer.echo(f"No order of build {build.build_id} is in flight: its workers may stop.")
        if delete and not await _delete(deployment, build.build_id, until):
            return False
    return True


async def _drain(deployment: Deployment, build_id: str, until: float | None) -> bool:
    loop, told = asyncio.get_running_loop(), ""
    while True:
        counted = await deployment.in_flight_by_state(build_id)
        standing = (await deployment.builds())[build_id].standing
        if standing in (Standing.CURRENT, Standing.RAMPING):
            raise ReleaseError(f"Build {build_id} gets new orders again: somebody promoted or ramped it.")
        if not counted.total and not counted.returns and standing != Standing.DRAINING:
            return True
        states = ", ".join(f"{count} {status}" for status, count in counted.by_status.items())
        returns = [f"returns in flight: {counted.returns}"] if counted.returns else []
        orders = [f"{_orders(counted.total)} of build {build_id} in flight: {states}"] if counted.total else []
        line = (
            "; ".join([*orders, *returns])
            if orders or returns
            else f"No order of build {build_id} is listed any more; Temporal waits whether one turns up late."
        )
        if line != told:
            typer.echo(line)
            told = line
        if until is not None and loop.time() >= until:
            typer.echo(f"Build {build_id} has not drained yet: its workers must go on.")
            return False
        await asyncio.sleep(POLL_S)


async def _delete(deployment: Deployment, build_id: str, until: float | None) -> bool:
    loop, told = asyncio.get_running_loop(), False
    while True:
        try:
            await deployment.delete(build_id)
        except ReleaseError as error:
            if not told:
                typer.echo(f"Stop its workers now; Temporal keeps the build until none has been heard of for a while ({error}).")
                told = True
            if until is not None and loop.time() >= until:
                return False
            await asyncio.sleep(POLL_S)
        else:
            typer.echo(f"Temporal has forgotten build {build_id}.")
            return True


def _require_workers(build: Build) -> None:
    if not build.pollers:
        raise ReleaseError(f"No worker of build {build.build_id} asks for work: new orders would wait for one.")


def _orders(count: int) -> str:
    return "1 order" if count == 1 else f"{count} orders"
