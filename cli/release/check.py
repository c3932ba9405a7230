"""`commerce release check`: whether this tree could go on with the orders that are in flight now, build by build.

A sample of every build and state is replayed, and all that its histories store is read, with this tree's saga and contracts.
"""

import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress
from temporalio.client import WorkflowHistory
from temporalio.exceptions import FailureError

from chassis.clients import Unavailable
from cli.release.contents import broken
from cli.release.promises import all_differences
from cli.release.releases import accepted, is_accepted, latest
from cli.release.replaying import in_clear, replay
from contracts.orders import OrderStatus
from contracts.parcels import Trouble
from temporal.deployments import Deployment, FlyingOrder, ReleaseError
from temporal.names import ORDER_STATUS, PARCEL_TROUBLE, STUCK_UNDO

UNVERSIONED = "unversioned"
SHOWN = 20
"""So many orders of a build that would break are named; all with --json."""


@dataclass(frozen=True)
class Broken:
    """An order that this tree could not go on with."""

    order: UUID
    state: str
    why: list[str]


@dataclass
class Checked:
    """The orders of one build."""

    build: str
    in_flight: int
    looked_at: dict[str, int] = field(default_factory=dict)
    """By state."""
    broken: list[Broken] = field(default_factory=list)

    def __str__(self) -> str:
        """Of those that were looked at."""
        looked_at = sum(self.looked_at.values())
        return f"{looked_at - len(self.broken)} of {looked_at} looked at"


@dataclass
class Report:
    """What this tree would break."""

    release: str | None
    """The last one that was recorded, whose promises are compared."""
    promises: list[str]
    """Those that are not kept, and that nobody accepted."""
    builds: list[Checked] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.promises and not any(checked.broken for checked in self.builds)


async def check_release(deployment: Deployment, *, sample: int | None, as_json: bool) -> bool:
    """Print what this tree would break; whether that is nothing. `sample`: orders of each build and state; None: all of them."""
    report = _compared()
    builds = [*(each.build_id for each in (await deployment.builds()).builds), None]
    counts = {build: await deployment.in_flight(build) for build in builds}
    report.builds = await check_builds(deployment, counts, sample)
    if as_json:
        typer.echo(json.dumps({"good": report.is_good, **asdict(report)}, default=str, indent=2))
    else:
        _show(report, everything=sample is None)
    return report.is_good


async def check_builds(deployment: Deployment, in_flight: Mapping[str | None, int], sample: int | None) -> list[Checked]:
    """The orders of each build that has some, with those that this tree could not go on with; progress is shown."""
    logging.getLogger("temporalio.worker").setLevel(logging.CRITICAL)  # what fails is told by the caller, and not as a traceback
    found = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for build, count in in_flight.items():
            if count:
                found.append(Checked(build or UNVERSIONED, count))
                await _check_build(deployment, build, found[-1], sample, progress)
    return found


def _compared() -> Report:
    try:
        release = latest()
    except FileNotFoundError:
        return Report(None, [])
    reasons = accepted()
    return Report(release.version, [it for it in all_differences(release) if not is_accepted(it, reasons)])


async def _check_build(
    deployment: Deployment, build: str | None, checked: Checked, sample: int | None, progress: Progress
) -> None:
    states = [""] if sample is None else list(_states())
    task = progress.add_task(f"build {checked.build}", total=checked.in_flight if sample is None else None)
    seen: set[UUID] = set()

    async def orders() -> AsyncIterator[FlyingOrder]:
        for where in states:
            async for order in deployment.each_order(build, sample, where):
                if sample is not None:
                    if order.order_id in seen:
                        continue
                    seen.add(order.order_id)
                yield order

    reasons = accepted()
    async for order, said in _look(deployment, orders()):
        why = [it for it in said if not is_accepted(it, reasons)]
        state = _state(order)
        checked.looked_at[state] = checked.looked_at.get(state, 0) + 1
        if why:
            checked.broken.append(Broken(order.order_id, state, why))
        progress.update(task, advance=1, description=f"build {checked.build}, {len(checked.broken)} would break")
    progress.remove_task(task)


async def _look(deployment: Deployment, orders: AsyncIterator[FlyingOrder]) -> AsyncIterator[tuple[FlyingOrder, list[str]]]:
    """Each order with why this tree could not go on with it. One history at a time is in memory."""
    replaying: list[FlyingOrder] = []
    unread: list[tuple[FlyingOrder, list[str]]] = []

    async def histories() -> AsyncIterator[WorkflowHistory]:
        async for order in orders:
            try:
                stored = await deployment.history(order.order_id)
                clear = await in_clear(stored, deployment.data_converter.payload_codec)
            except ReleaseError:
                continue  # it has ended, and Temporal has forgotten it
            except (FailureError, Unavailable) as error:
                unread.append((order, [f"its history cannot be decrypted: {error}"]))
            else:
                replaying.append(order)
                yield clear

    async for replayed in replay(histories()):
        yield replaying.pop(), broken(replayed)
    for found in unread:
        yield found


def _states() -> Iterator[str]:
    """Visibility queries: so that the sample has orders in every state."""
    yield f"{STUCK_UNDO.name} IS NOT NULL"
    yield from (f"{PARCEL_TROUBLE.name} = '{trouble}'" for trouble in Trouble)
    yield from (f"{ORDER_STATUS.name} = '{status}'" for status in OrderStatus)


def _state(order: FlyingOrder) -> str:
    trouble = f", {order.parcel_trouble}" if order.parcel_trouble else ""
    return f"{order.status}{trouble}{', undo stuck' if order.stuck_undo else ''}"


def _show(report: Report, *, everything: bool) -> None:
    if report.release is None:
        typer.echo("No release is recorded here, so what was promised is not compared: commerce release record VERSION")
    for difference in report.promises:
        typer.echo(f"Release {report.release} promised otherwise: {difference}")
    for checked in report.builds:
        looked_at = sum(checked.looked_at.values())
        share = "" if everything else f" ({looked_at} looked at)"
        these = ", these:" if checked.broken else "."
        typer.echo(f"Build {checked.build}: {checked.in_flight} in flight{share}, {len(checked.broken)} would break{these}")
        for order in checked.broken[:SHOWN]:
            typer.echo(f"  {order.order}  {order.state}: {'; '.join(order.why)}")
        if len(checked.broken) > SHOWN:
            typer.echo(f"  and {len(checked.broken) - SHOWN} more: --json names them all")
    if not report.builds:
        typer.echo("No order is in flight.")
