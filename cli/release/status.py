"""What `commerce release status` shows."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import typer

from cli.operators import at, columns
from contracts.orders import OrderStatus
from contracts.parcels import Trouble
from temporal.deployments import Build, Deployment, FlyingOrder, InFlight, Standing

if TYPE_CHECKING:
    from cli.release.check import Checked

WAIT_FOR = {
    OrderStatus.PENDING: "stock, the payment and the booking of a parcel",
    OrderStatus.RESERVED: "the payment",
    OrderStatus.PAYMENT_DUE: "the customer to pay with another card",
    OrderStatus.ACTION_REQUIRED: "the customer to confirm the payment",
    OrderStatus.IN_REVIEW: "an operator to approve or reject",
    OrderStatus.PAID: "the booking of a parcel",
    OrderStatus.CONFIRMED: "the carrier to pick the parcel up",
    OrderStatus.SHIPPED: "the carrier to deliver",
    OrderStatus.UNDELIVERED: "somebody to decide about the parcel",
    OrderStatus.DELIVERED: "their last step",
    OrderStatus.CANCELLING: "their undos",
}
TROUBLES = {
    Trouble.NOT_PICKED_UP: "parcel not picked up",
    Trouble.SILENT: "nothing heard of the parcel",
    Trouble.LOST: "parcel lost",
    Trouble.RETURNED: "parcel returned",
}
NO_BUILD = "(none)"


@dataclass(frozen=True)
class _Row:
    """A build, or the orders without one."""

    build: Build | None
    in_flight: InFlight
    orders: list[FlyingOrder]
    could_be_taken: "Checked | None" = None
    """By this tree, as far as it was asked."""

    @property
    def build_id(self) -> str | None:
        return self.build.build_id if self.build else None

    @property
    def name(self) -> str:
        return self.build_id or NO_BUILD

    @property
    def standing(self) -> str:
        if self.build is None:
            return "not begun"
        share = f" {self.build.percent:g} %" if self.build.percent is not None else ""
        return f"{self.build.standing}{share}"

    @property
    def stands_still(self) -> bool:
        """Whether orders wait for a worker that is not there."""
        in_flight = self.in_flight.total + self.in_flight.returns
        return bool(self.build and in_flight and not self.build.pollers)


async def show_status(deployment: Deployment, limit: int, *, sample: int | None, as_json: bool) -> None:
    """Print it. Of a build without orders only the first table's row is printed. `sample`: of so many orders of each build and
    state say whether this tree could go on with them; None: of none."""
    builds = (await deployment.builds()).builds
    rows = []
    for build in (*builds, None):
        build_id = build.build_id if build else None
        counted = await deployment.in_flight_by_state(build_id)
        if build or counted.total or counted.returns:
            rows.append(_Row(build, counted, await deployment.orders(build_id, limit) if limit else []))
    if sample is not None:
        rows = await _judged(deployment, rows, sample)
    if as_json:
        typer.echo(json.dumps({"deployment": deployment.name, "builds": [_as_json(row) for row in rows]}, default=str, indent=2))
        return
    if not rows:
        typer.echo(f"No worker of the deployment {deployment.name} has asked for work yet.")
        return
    columns(
        ("BUILD", "GETS", "WORKERS", "IN FLIGHT", "SINCE (UTC)", *(("THIS TREE COULD TAKE",) if sample is not None else ())),
        [
            (
                row.name,
                row.standing,
                row.build.pollers if row.build else "",
                row.in_flight.total,
                at(row.build.created) if row.build else "",
                *((row.could_be_taken or "",) if sample is not None else ()),
            )
            for row in rows
        ],
    )
    waiting = [(row.name, *line) for row in rows for line in _waiting(row.in_flight)]
    if waiting:
        typer.echo("")
        columns(("BUILD", "ORDERS", "ARE", "WAIT FOR"), waiting)
    named = [(row.name, *_cells(order)) for row in rows for order in row.orders]
    if named:
        typer.echo("")
        columns(("BUILD", "ORDER", "IS", "TROUBLE", "PLACED (UTC)"), named)
    for row in rows:
        if row.stands_still:
            in_flight = row.in_flight.total + row.in_flight.returns
            typer.echo(f"\nNo worker of build {row.name} runs: its {in_flight} in flight stand still. Start one again.")


async def _judged(deployment: Deployment, rows: list[_Row], sample: int) -> list[_Row]:
    # It loads the saga, the services and their documents: only who asks for it waits for that.
    from cli.release.check import check_builds

    counts = {row.build_id: row.in_flight.total for row in rows}
    checked = iter(await check_builds(deployment, counts, sample))
    return [replace(row, could_be_taken=next(checked)) if row.in_flight.total else row for row in rows]


def _waiting(counted: InFlight) -> Iterator[tuple[int, str, str]]:
    for status, count in counted.by_status.items():
        yield count, status, WAIT_FOR.get(status, "their end")
    if counted.stuck:
        yield counted.stuck, "stuck", "an undo that does not succeed (commerce undo list)"
    for trouble, count in counted.in_trouble.items():
        yield count, TROUBLES[trouble], "somebody to decide about the parcel"
    if counted.returns:
        yield counted.returns, "returns", "their goods, or their end (commerce returns)"


def _cells(order: FlyingOrder) -> tuple[object, ...]:
    return order.order_id, order.status, order.stuck_undo or order.parcel_trouble or "", at(order.started)


def _as_json(row: _Row) -> dict[str, object]:
    build = row.build
    return {
        "build": row.build_id,
        "gets": build and build.standing,
        "percent": build and build.percent,
        "workers": build and build.pollers,
        "created": build and build.created,
        "last_current": build and build.last_current,
        "in_flight": row.in_flight.total,
        "by_status": row.in_flight.by_status,
        "stuck": row.in_flight.stuck,
        "in_trouble": row.in_flight.in_trouble,
        "returns": row.in_flight.returns,
        "stands_still": row.stands_still,
        "could_be_taken": row.could_be_taken and asdict(row.could_be_taken),
        "takes_new_orders": bool(build and build.standing in (Standing.CURRENT, Standing.RAMPING)),
        "orders": [
            {
                "order": order.order_id,
                "status": order.status,
                "stuck_undo": order.stuck_undo,
                "parcel_trouble": order.parcel_trouble,
                "placed": order.started,
            }
            for order in row.orders
        ],
    }
