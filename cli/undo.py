"""`commerce undo …`: undos that do not succeed. See them, try them now, or end them by hand with a reason that is kept."""

import json
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from cli.operators import DEFAULT_DATA, DONE, REFUSED, AsJson, Data, at, columns, database_url, environment, fail, run

if TYPE_CHECKING:
    from contracts.money import Money
    from temporal.orders import OrderSagas, StuckUndo

undo_app = typer.Typer(no_args_is_help=True, help="Undos that do not succeed: see them, try them now, or end them by hand.")

_Order = Annotated[UUID, typer.Argument(help="The order's id.")]
_Return = Annotated[int | None, typer.Option("--return", min=1, help="Which of the order's returns; left out: the order itself.")]


@undo_app.command("list")
def list_stuck(as_json: AsJson = False, data: Data = DEFAULT_DATA) -> None:
    """List the undos that do not succeed, of all orders and their returns."""

    async def work(sagas: "OrderSagas") -> int:
        _print(await sagas.stuck(), as_json)
        return DONE

    run(environment(data), work)


@undo_app.command()
def show(order: _Order, of_return: _Return = None, as_json: AsJson = False, data: Data = DEFAULT_DATA) -> None:
    """Show the undos that do not succeed of one order, or of one of its returns, and what it waits for."""

    async def work(sagas: "OrderSagas") -> int:
        found = await _stuck(sagas, order, of_return)
        state = await (sagas.state_of_return(order, of_return) if of_return else sagas.state(order))
        _print(found, as_json)
        if state and not as_json:
            given_up = [("given up", undo) for undo in state.given_up]
            columns(("", ""), [("status", state.status), ("waits for", state.waiting_for), *given_up])
        return DONE if found else REFUSED

    run(environment(data), work)


@undo_app.command()
def retry(
    order: _Order,
    undo: Annotated[str | None, typer.Argument(help="Its name, e.g. refund-payment; all that are stuck if left out.")] = None,
    of_return: _Return = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Try undos now, instead of when their time has come. To try one again does no harm."""

    async def work(sagas: "OrderSagas") -> int:
        names = [undo] if undo else [stuck.undo for stuck in await _stuck(sagas, order, of_return)]
        tried = [name for name in names if await sagas.retry_undo(order, name, of_return)]
        for name in tried:
            typer.echo(f"{name} is tried now.")
        if not tried:
            what = _named(order, of_return)
            fail(f"Nothing of that name is pending for {what}." if undo else f"No undo of {what} is stuck.", REFUSED)
        return DONE

    run(environment(data), work)


@undo_app.command()
def settle(
    order: _Order,
    undo: Annotated[str, typer.Argument(help="Its name, e.g. refund-payment.")],
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")],
    by: Annotated[str, typer.Option(help="Your name.")],
    done: Annotated[
        bool, typer.Option("--done/--give-up", help="It was done by hand, or it is given up and leaves something open.")
    ],
    refunded: Annotated[
        str | None, typer.Option(help="What the customer got back by hand, e.g. 12.34, in the order's currency.")
    ] = None,
    of_return: _Return = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """End an undo that can never succeed. The services' books do not know it: `commerce audit` goes on telling what they lack."""
    from pydantic import ValidationError

    from contracts.orders import UndoSettlement

    env = environment(data)

    async def work(sagas: "OrderSagas") -> int:
        money = await _in_its_currency(database_url(env, "order"), order, refunded) if refunded else None
        try:
            settlement = UndoSettlement(undo=undo, done=done, reason=reason, by=by, refunded=money)
        except ValidationError as error:
            fail("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors()), REFUSED)
        what = _named(order, of_return)
        state = await sagas.settle_undo(order, settlement, of_return)
        if state is None:
            fail(f"No workflow of {what} runs.", REFUSED)
        typer.echo(
            f"{undo} is {'done by hand' if done else 'given up'}. The {'return' if of_return else 'order'} is {state.status}."
        )
        return DONE

    run(env, work)


async def _stuck(sagas: "OrderSagas", order: UUID, of_return: int | None) -> "list[StuckUndo]":
    return [stuck for stuck in await sagas.stuck() if (stuck.order_id, stuck.of_return) == (order, of_return)]


def _named(order: UUID, of_return: int | None) -> str:
    return f"return {of_return} of order {order}" if of_return else f"order {order}"


def _print(found: "list[StuckUndo]", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(stuck) for stuck in found], default=str, indent=2))
    elif found:
        columns(
            ("ORDER", "RETURN", "UNDO", "ATTEMPT", "SINCE (UTC)", "LAST ERROR"),
            [
                (stuck.order_id, stuck.of_return or "", stuck.undo, stuck.attempt, at(stuck.since), stuck.last_error)
                for stuck in found
            ],
        )
    else:
        typer.echo("No undo is stuck.")


async def _in_its_currency(url: str, order_id: UUID, amount: str) -> "Money":
    """An amount in the currency of the order, which must not be more than it cost."""
    from pydantic import ValidationError

    from chassis.database import Database
    from contracts.money import Money
    from services.order.commands import find_order

    database = Database(url)
    try:
        order = await find_order(database, order_id)
    finally:
        await database.close()
    if order is None:
        fail(f"There is no order {order_id}.", REFUSED)
    try:
        money = Money(amount=Decimal(amount), currency=order.currency)
    except (InvalidOperation, ValidationError):
        fail(f"{amount} is no amount of money.", REFUSED)
    if not 0 <= money.minor <= order.total_minor or Money.from_minor(money.minor, order.currency).amount != money.amount:
        fail(f"{money} cannot have gone back of an order that cost {order.total}.", REFUSED)
    return money
