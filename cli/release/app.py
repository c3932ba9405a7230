"""The commands. What they do is in the modules beside this one, which are loaded when they are called."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from cli.operators import DEFAULT_DATA, DONE, REFUSED, AsJson, Data, fail
from cli.release.running import own_build, run

if TYPE_CHECKING:
    from temporal.deployments import Deployment

release_app = typer.Typer(no_args_is_help=True, help="Builds of the saga: which gets new orders, and what is in flight on each.")

SAMPLE = 20
"""So many orders of each build and state are looked at."""
_Build = Annotated[str | None, typer.Argument(help="A build id; this tree's (or image's) if left out.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without it, the command says what it would do.")]
_Unchecked = Annotated[
    bool, typer.Option("--unchecked", help="Move it though nobody can tell whether the build can go on with it.")
]


@release_app.command()
def status(
    orders: Annotated[int, typer.Option(min=0, max=1000, help="Name so many orders in flight of each build.")] = 0,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Also say how many of each build this tree could go on with, by a sample.")
    ] = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show each build: what it gets, its workers, and its orders in flight by what they wait for."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.status import show_status

        await show_status(deployment, orders, sample=SAMPLE if candidate else None, as_json=as_json)
        return DONE

    run(data, work, reads_histories=candidate)


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


@release_app.command()
def ramp(
    percent: Annotated[float, typer.Argument(min=0, max=100, help="Of the new orders; 0 ends the ramp.")],
    build: _Build = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send a share of the new orders to a build, the rest to the current one."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.routing import ramp_build

        await ramp_build(deployment, build or own_build(), percent)
        return DONE

    run(data, work)


@release_app.command()
def rollback(yes: _Yes = False, data: Data = DEFAULT_DATA) -> None:
    """Send new orders to the build before: end a ramp, or promote the build that was current before this one."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.routing import roll_back

        return DONE if await roll_back(deployment, yes=yes) else REFUSED

    run(data, work)


@release_app.command()
def drain(
    build: Annotated[str | None, typer.Argument(help="A build id; each build that gets no new orders if left out.")] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Then have Temporal forget the build, once its workers stopped.")
    ] = False,
    wait: Annotated[float | None, typer.Option(min=0, help="Seconds to wait at most; as long as it takes if left out.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Wait until no order of a build is in flight, so that its workers may stop."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.routing import drain_builds

        return DONE if await drain_builds(deployment, build, delete=delete, wait_s=wait) else REFUSED

    run(data, work)


@release_app.command()
def move(
    orders: Annotated[list[UUID], typer.Argument(help="Ids of orders.")],
    to: Annotated[str | None, typer.Option(help="The build that goes on with them.")] = None,
    auto_upgrade: Annotated[
        bool, typer.Option("--auto-upgrade", help="Whichever build is the current one goes on with them, now and later.")
    ] = False,
    unchecked: _Unchecked = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Move orders to another build, for an emergency: only those that wait, and whose histories replay there."""
    if (to is None) != auto_upgrade:
        fail("Say either --to BUILD or --auto-upgrade.", REFUSED)

    async def work(deployment: "Deployment") -> int:
        from cli.release.moving import move_orders

        return DONE if await move_orders(deployment, orders, to, own_build(), unchecked=unchecked) else REFUSED

    run(data, work, reads_histories=True)


@release_app.command()
def reset(
    order: Annotated[UUID, typer.Argument(help="The order's id.")],
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")],
    to: Annotated[int | None, typer.Option(min=1, help="The event at which it begins again; lists them if left out.")] = None,
    on: Annotated[str | None, typer.Option(help="The build that goes on with it; its own if left out.")] = None,
    yes: _Yes = False,
    unchecked: _Unchecked = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take an order back to an earlier point of its history, and let it go on from there in another run."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.resetting import reset_order

        done = await reset_order(deployment, order, to, on, own_build(), reason=reason, yes=yes, unchecked=unchecked)
        return DONE if done else REFUSED

    run(data, work, reads_histories=True)


@release_app.command()
def check(
    sample: Annotated[
        int, typer.Option(min=1, max=100_000, help="So many orders of each build and state are looked at.")
    ] = SAMPLE,
    everything: Annotated[bool, typer.Option("--all", help="Look at every order in flight.")] = False,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Say which orders in flight this tree could not go on with, and what it does not keep of the last release's promises."""

    async def work(deployment: "Deployment") -> int:
        from cli.release.check import check_release

        good = await check_release(deployment, sample=None if everything else sample, as_json=as_json)
        return DONE if good else REFUSED

    run(data, work, reads_histories=True)


@release_app.command()
def record(
    version: Annotated[str, typer.Argument(help="E.g. 1.2.0.")],
    force: Annotated[bool, typer.Option("--force", help="Record anew a release that was recorded before.")] = False,
) -> None:
    """Keep what this tree promises, its histories and its worker in releases/VERSION: later changes are compared with them."""
    from cli.release.record import record_release

    raise typer.Exit(record_release(version, force=force))


@release_app.command()
def compare(
    version: Annotated[str | None, typer.Argument(help="A release that was recorded; the last one if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what this tree does not keep of a release's promises: to orders in flight, to consumers of events, to clients."""
    from cli.release.promises import show_differences

    raise typer.Exit(show_differences(version, as_json=as_json))
