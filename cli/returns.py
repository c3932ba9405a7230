"""`commerce returns …`: see returns, decide about them, call them off, and say what has come."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from uuid import UUID

import typer

from cli.operators import (
    DEFAULT_DATA,
    DONE,
    REFUSED,
    AsJson,
    Data,
    at,
    columns,
    database_url,
    environment,
    fail,
    plain,
    run_with_returns,
)

if TYPE_CHECKING:
    from chassis.database import Database
    from contracts.returns import Condition, ReceivedLine, ReturnState
    from services.order.model import Return
    from temporal.orders import OrderSagas
    from temporal.returns import ReturnSagas

returns_app = typer.Typer(no_args_is_help=True, help="Returns: see them, decide about them, say what has come.")

_Order = Annotated[UUID, typer.Argument(help="The order's id.")]
_Number = Annotated[int, typer.Argument(help="Which of its returns.", min=1, max=20)]
_Reason = Annotated[str, typer.Option(help="Why, for those who come after.")]
_By = Annotated[str, typer.Option(help="Your name.")]
_Units = Annotated[list[str] | None, typer.Option(metavar="LINE=UNITS", help="So many units of a line; may be repeated.")]


@returns_app.command("list")
def list_returns(
    status: Annotated[
        str | None, typer.Option(help="Only those that are, e.g., APPROVED; without it, all that are open.")
    ] = None,
    order: Annotated[UUID | None, typer.Option(help="All of one order.")] = None,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List returns, newest first: those that are open, at most 200."""
    from contracts.returns import ReturnStatus
    from services.order.commands.returns import returns_of
    from services.order.returns_queries import newest_returns

    if status and status not in set(ReturnStatus):
        fail(f"A return is one of: {', '.join(ReturnStatus)}.", REFUSED)

    async def work(database: "Database", _: "ReturnSagas") -> int:
        if order:
            found: Sequence[Return] = await returns_of(database, order)
        else:
            found = await newest_returns(database, ReturnStatus(status) if status else None)
        if as_json:
            typer.echo(json.dumps([_facts(each, None) for each in found], default=str, indent=2))
        else:
            heads = ("ORDER", "NUMBER", "STATUS", "SINCE (UTC)", "KIND", "RESOLUTION", "WAREHOUSE", "GOODS")
            columns(heads, [_row(each) for each in found])
        return DONE

    _run(data, work)


@returns_app.command()
def show(order: _Order, number: _Number, as_json: AsJson = False, data: Data = DEFAULT_DATA) -> None:
    """Show where a return is, what it waits for, and all that happened to it, as staff may know it."""
    from chassis.clients import Unavailable

    async def work(database: "Database", sagas: "ReturnSagas") -> int:
        found = await _find(database, order, number)
        try:
            state, told = await sagas.state(order, number), await sagas.timeline(order, number)
        except Unavailable:
            state, told = None, None
        facts, timeline = _facts(found, state), told or found.timeline()
        if as_json:
            entries = [entry.model_dump(mode="json") for entry in timeline]
            typer.echo(json.dumps({**facts, "timeline": entries}, default=str, indent=2))
            return DONE
        for name, value in facts.items():
            if value not in (None, ""):
                typer.echo(f"{name.replace('_', ' '):<20} {plain(value)}")
        typer.echo("")
        rows = [(at(entry.at), entry.status, entry.what, entry.detail or "", entry.for_staff or "") for entry in timeline]
        columns(("TIME (UTC)", "STATUS", "WHAT", "DETAIL", "FOR STAFF ONLY"), rows)
        return DONE

    _run(data, work)


@returns_app.command()
def approve(order: _Order, number: _Number, reason: _Reason, by: _By, data: Data = DEFAULT_DATA) -> None:
    """Approve a return."""
    from contracts.orders import Decision

    decision = Decision(by=by, reason=reason)
    _tell(order, number, data, lambda sagas: sagas.approve(order, number, decision, _update_id("approve", by, reason)))


@returns_app.command()
def reject(order: _Order, number: _Number, reason: _Reason, by: _By, data: Data = DEFAULT_DATA) -> None:
    """Reject a return."""
    from contracts.orders import Decision

    decision = Decision(by=by, reason=reason)
    _tell(order, number, data, lambda sagas: sagas.reject(order, number, decision, _update_id("reject", by, reason)))


@returns_app.command()
def cancel(order: _Order, number: _Number, reason: _Reason, by: _By, data: Data = DEFAULT_DATA) -> None:
    """Call a return off, before anything came."""
    from contracts.orders import CancelRequest

    request = CancelRequest(reason=reason, requested_by=f"operator {by}")
    _tell(order, number, data, lambda sagas: sagas.cancel(order, number, request, _update_id("cancel", by, reason)))


@returns_app.command()
def receive(
    order: _Order,
    number: _Number,
    by: _By,
    everything: Annotated[bool, typer.Option("--all", help="All that was announced, in good condition.")] = False,
    nothing: Annotated[bool, typer.Option("--nothing", help="Nothing: the parcel was empty.")] = False,
    good: _Units = None,
    damaged: _Units = None,
    warehouse: Annotated[str | None, typer.Option(help="Where; without it, where it was expected.")] = None,
    reason: _Reason = "Received",
    data: Data = DEFAULT_DATA,
) -> None:
    """Say what of a return has come, by line and condition. What is not named has not come."""
    from contracts.returns import Condition, ReceivedLine, ReturnReceipt

    if sum((everything, nothing, bool(good or damaged))) != 1:
        fail("Say either --all, --nothing, or what has come with --good and --damaged.", REFUSED)
    named = [*_lines(good, Condition.GOOD), *_lines(damaged, Condition.DAMAGED)]

    async def work(database: "Database", sagas: "ReturnSagas") -> int:
        found = await _find(database, order, number)
        lines = named
        if everything:
            lines = [
                ReceivedLine(line_id=line.line_id, quantity=line.quantity, condition=Condition.GOOD)
                for line in found.return_lines
            ]
        found.require_announced(lines)
        receipt = ReturnReceipt(by=by, reason=reason, lines=tuple(lines), warehouse_id=warehouse or found.warehouse_id)
        await _start(sagas, found)
        return _print(await sagas.receive(order, number, receipt, _update_id("receive", by, receipt.model_dump_json())))

    _run(data, work)


def _lines(said: Sequence[str] | None, condition: "Condition") -> list["ReceivedLine"]:
    """What `LINE=UNITS` says. Exits if it cannot be read."""
    from pydantic import ValidationError

    from contracts.returns import ReceivedLine

    lines = []
    for each in said or ():
        line_id, _, quantity = each.partition("=")
        try:
            lines.append(ReceivedLine.model_validate({"line_id": line_id, "quantity": quantity, "condition": condition}))
        except ValidationError:
            fail(f"Not of the form LINE=UNITS, e.g. 1=2: {each}", REFUSED)
    return lines


def _tell(order: UUID, number: int, data: Path, tell: "Callable[[ReturnSagas], Awaitable[ReturnState | None]]") -> NoReturn:
    """Ask a return's saga for something, say what came of it, and exit."""

    async def work(database: "Database", sagas: "ReturnSagas") -> int:
        await _start(sagas, await _find(database, order, number))
        return _print(await tell(sagas))

    _run(data, work)


def _run(data: Path, work: "Callable[[Database, ReturnSagas], Awaitable[int]]") -> NoReturn:
    """Do some work with the records and the sagas of returns, and exit."""
    from chassis.database import Database

    env = environment(data)
    url = database_url(env, "order")

    async def main(_: "OrderSagas", sagas: "ReturnSagas") -> int:
        database = Database(url, pool_size=2)
        try:
            return await work(database, sagas)
        finally:
            await database.close()

    run_with_returns(env, main)


async def _find(database: "Database", order: UUID, number: int) -> "Return":
    """Exits if there is none."""
    from services.order.commands import find_return

    found = await find_return(database, order, number)
    if found is None:
        fail(f"The order {order} has no return {number}.", REFUSED)
    return found


async def _start(sagas: "ReturnSagas", found: "Return") -> None:
    """Start its saga, if it is not known to run; the job that does so finds it running."""
    if run := found.to_start:
        await sagas.start(run)


def _print(state: "ReturnState | None") -> int:
    if state is None:
        fail("No saga works on the return: it has ended.", REFUSED)
    then = f" until {at(state.due_at)}, then {state.then}" if state.due_at and state.then else ""
    typer.echo(
        f"Return {state.number} of order {state.order_id} is {state.status}, and waits for {plain(state.waiting_for)}{then}"
    )
    return DONE


def _update_id(what: str, by: str, reason: str) -> str:
    """The same person with the same reason asks the same thing."""
    return f"{what}-{hashlib.sha256(f'{by} {reason}'.encode()).hexdigest()}"


def _goods(found: "Return") -> str:
    return ", ".join(f"{line.quantity} x {line.product_id} ({line.reason})" for line in found.return_lines)


def _row(found: "Return") -> tuple[object, ...]:
    who = (found.order_id, found.number, found.status, at(found.since), found.kind, found.resolution, found.warehouse_id)
    return (*who, _goods(found))


def _facts(found: "Return", state: "ReturnState | None") -> dict[str, object]:
    came = found.units_that_came
    settlement = found.settled or found.estimated
    return {
        "order": found.order_id,
        "number": found.number,
        "customer": found.customer_id,
        "status": state.status if state else found.status,
        "kind": found.kind,
        "resolution": found.resolution,
        "goods": _goods(found),
        "comment": found.comment,
        "waits_for": state.waiting_for if state else None,
        "until": found.due_at and at(found.due_at),
        "then": state.then if state else None,
        "warehouse": found.warehouse_id,
        "tracking_number": found.tracking_number,
        "came": None if came is None else ", ".join(f"{each.line.quantity} {each.condition}" for each in came) or "nothing",
        "worth": settlement.value if found.settled else f"{settlement.value}, if all comes in good condition",
        "refunded": found.refunded if found.refunded_minor else None,
        "brings_order": found.replacement_id,
        "refused_because": f"{found.code}: {found.detail or ''}" if found.code else None,
        "stuck_undos": ", ".join(state.stuck_undos) if state else None,
    }
