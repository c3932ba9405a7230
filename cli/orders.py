"""`commerce orders …`: where an order is and why, and the repair of one whose workflow was lost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from cli.operators import DEFAULT_DATA, DONE, REFUSED, AsJson, Data, at, columns, database_url, environment, fail, plain, run

if TYPE_CHECKING:
    from contracts.orders import OrderState, TimelineEntry
    from services.order.model import Order
    from temporal.orders import OrderSagas, StuckUndo

orders_app = typer.Typer(no_args_is_help=True, help="One order: where it is and why; repair it if its workflow was lost.")

_Order = Annotated[UUID, typer.Argument(help="The order's id.")]


@orders_app.command()
def show(order: _Order, as_json: AsJson = False, data: Data = DEFAULT_DATA) -> None:
    """Show where an order is, what it waits for, and all that happened to it, as staff may know it."""
    from cli.repair import read_books
    from contracts.ids import order_workflow_id

    env = environment(data)
    urls = _books_of(env)

    async def work(sagas: "OrderSagas") -> int:
        books = await read_books(urls, order)
        if books is None:
            fail(f"There is no order {order}.", REFUSED)
        row, saga = books.order, await _ask(sagas, order)
        state = saga.state
        if saga.fault:
            waits_for = f"(its saga cannot be asked: {saga.fault})"
        elif row.is_over:
            waits_for = "nothing"
        elif state is None:
            waits_for = (
                "its saga to be started" if row.to_start else "nobody: its workflow was lost; see `commerce orders repair`"
            )
        else:
            waits_for = state.waiting_for
        facts: dict[str, object] = {
            "order": order,
            "customer": row.customer_id,
            "status": state.status if state else row.status,
            "waits for": waits_for,
            "refused because": f"{row.code}: {row.detail}" if row.code else None,
            "the client was told": row.outcome and f"{row.outcome['status']} {row.outcome.get('code') or ''}".strip(),
            "total": row.total,
            "refunded": row.refunded if row.refunded_minor else None,
            "another card until": row.pay_until and at(row.pay_until),
            "parcel's trouble": state.trouble if state else row.trouble,
            "may be decided": ", ".join(state.choices) if state else None,
            "undos given up": "; ".join(state.given_up) if state else None,
            "workflow": order_workflow_id(order),
        }
        parcels = _parcels_of(row) or [
            (each.parcel, each.status, each.tracking_number or "", each.warehouse_id or "", "", "") for each in books.shipments
        ]
        if as_json:
            typer.echo(_as_json(facts, parcels, saga.stuck, saga.timeline or row.timeline()))
        else:
            _print(facts, parcels, saga.stuck, saga.timeline or row.timeline())
        return DONE

    run(env, work)


@orders_app.command()
def repair(
    order: _Order,
    reason: Annotated[str, typer.Option(help="How the workflow was lost, for those who come after.")],
    by: Annotated[str, typer.Option(help="Your name.")],
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Do not cancel: a confirmed order goes on waiting for its parcel.")
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Start the workflow of an order again that lost its own: to undo what was done, or to follow a parcel that has left."""
    from pydantic import ValidationError

    from cli.repair import read_books, repair_of
    from contracts.ids import order_workflow_id

    env = environment(data)
    urls = _books_of(env)

    async def work(sagas: "OrderSagas") -> int:
        books = await read_books(urls, order)
        if books is None:
            fail(f"There is no order {order}.", REFUSED)
        was_started = await sagas.count(f"WorkflowId = '{order_workflow_id(order)}'") > 0
        try:
            plan = repair_of(books, was_started=was_started, by=by, reason=reason, go_on=go_on)
        except ValidationError as error:
            fail("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors()), REFUSED)
        if not await sagas.start(plan.placement, f"place-{books.order.fingerprint}", plan.so_far):
            fail(f"The workflow {order_workflow_id(order)} runs; there is nothing to repair.", REFUSED)
        for report in plan.reports:
            await sagas.shipment_updated(order, report)
        for update in plan.filled:
            await sagas.stock_updated(order, update)
        aim = "to cancel it, unless its parcel turns out to have left" if plan.so_far.cancel else "to follow its parcel"
        typer.echo(f"The workflow {order_workflow_id(order)} runs again, {aim}. See: commerce orders show {order}")
        return DONE

    run(env, work)


def _books_of(env: Mapping[str, str]) -> tuple[str, str, str, str]:
    """The databases that `cli.repair.read_books` asks."""
    order, shipping, inventory, payment = (
        database_url(env, service) for service in ("order", "shipping", "inventory", "payment")
    )
    return order, shipping, inventory, payment


def _parcels_of(row: "Order") -> list[tuple[object, ...]]:
    """The parcels of an order that is sent in several: number, status, tracking number, warehouse, goods, what is in its way."""
    rows: list[tuple[object, ...]] = []
    for parcel in row.told_parcels:
        goods = ", ".join(f"{line.quantity} x {line.product_id}" for line in parcel.lines)
        expected = f"goods expected on {parcel.expected_on}" if parcel.expected_on else ""
        resent = f"sent again as parcel {parcel.resent_as}" if parcel.resent_as else ""
        words = "; ".join(filter(None, (parcel.trouble, expected, resent)))
        rows.append((parcel.parcel, parcel.status, parcel.tracking_number or "", parcel.warehouse_id or "", goods, words))
    return rows


@dataclass(frozen=True)
class _Saga:
    """What a saga that runs says of its order; nothing, if none runs or it cannot be asked."""

    state: "OrderState | None" = None
    timeline: "Sequence[TimelineEntry]" = ()
    stuck: "Sequence[StuckUndo]" = ()
    fault: str | None = None


async def _ask(sagas: "OrderSagas", order: UUID) -> _Saga:
    from chassis.clients import Unavailable
    from contracts.ids import order_workflow_id

    runs = f"WorkflowId = '{order_workflow_id(order)}' AND ExecutionStatus = 'Running'"
    try:
        if not await sagas.count(runs):
            return _Saga()
        stuck = [undo for undo in await sagas.stuck() if undo.order_id == order]
        return _Saga(await sagas.state(order), await sagas.timeline(order) or (), stuck)
    except Unavailable as error:
        return _Saga(fault=str(error))


def _print(
    facts: dict[str, object],
    parcels: Sequence[Sequence[object]],
    stuck: "Sequence[StuckUndo]",
    timeline: "Sequence[TimelineEntry]",
) -> None:
    for name, value in facts.items():
        if value not in (None, ""):
            typer.echo(f"{name:<20} {plain(value)}")
    if stuck:
        typer.echo("")
        undos = [(_undo(undo), undo.attempt, at(undo.since), undo.last_error) for undo in stuck]
        columns(("STUCK UNDO", "ATTEMPT", "SINCE (UTC)", "LAST ERROR"), undos)
    if parcels:
        typer.echo("")
        columns(("PARCEL", "STATUS", "TRACKING", "WAREHOUSE", "GOODS", "NOTE"), parcels)
    typer.echo("")
    rows = [(at(entry.at), entry.status, entry.what, entry.detail or "", entry.for_staff or "") for entry in timeline]
    columns(("TIME (UTC)", "STATUS", "WHAT", "DETAIL", "FOR STAFF ONLY"), rows)


def _undo(undo: "StuckUndo") -> str:
    return f"{undo.undo} of return {undo.of_return}" if undo.of_return else undo.undo


def _as_json(
    facts: dict[str, object],
    parcels: Sequence[Sequence[object]],
    stuck: "Sequence[StuckUndo]",
    timeline: "Sequence[TimelineEntry]",
) -> str:
    names = ("parcel", "status", "tracking_number", "warehouse_id", "goods", "note")
    return json.dumps(
        {
            **{name.replace(" ", "_").replace("'", ""): value for name, value in facts.items()},
            "stuck_undos": [vars(undo) for undo in stuck],
            "parcels": [dict(zip(names, parcel, strict=True)) for parcel in parcels],
            "timeline": [entry.model_dump(mode="json") for entry in timeline],
        },
        default=str,
        indent=2,
    )
