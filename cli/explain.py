"""`commerce explain`: where an order is and why, and who may act with which call, also while no worker or no Temporal is up."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import typer

from cli.operators import DONE, REFUSED, at, database_url, fail, plain, run_with_returns

if TYPE_CHECKING:
    from services.order.explaining import StaffCall, StaffExplanation, StaffPart
    from temporal.orders import OrderSagas
    from temporal.returns import ReturnSagas


def explain_order(env: Mapping[str, str], order_id: UUID, *, as_json: bool) -> NoReturn:
    """Print it, as staff may know it, and exit."""
    from chassis.database import Database
    from contracts.errors import Refusal
    from services.order.queries import explain_to_operator

    url = database_url(env, "order")

    async def work(sagas: "OrderSagas", sagas_of_returns: "ReturnSagas") -> int:
        database = Database(url, pool_size=2)
        try:
            told = await explain_to_operator(database, sagas, sagas_of_returns, order_id)
        except Refusal:
            fail(f"There is no order {order_id}.", REFUSED)
        finally:
            await database.close()
        if as_json:
            typer.echo(told.model_dump_json(indent=2))
        else:
            for line in lines(told):
                typer.echo(line)
        return DONE

    run_with_returns(env, work)


def lines(told: "StaffExplanation") -> Iterator[str]:
    """An explanation for a terminal. Other people's words in it cannot steer that."""
    yield plain(told.headline)
    yield ""
    yield from _facts(_of_order(told))
    for part in told.parts:
        yield ""
        yield plain(f"{part.part}: waits for {part.waiting_for}")
        yield from _facts(_of_part(part), indent="  ")
        yield from _calls(part.calls)
    if told.calls:
        yield ""
        yield "the order as a whole"
        yield from _calls(told.calls)


def _of_order(told: "StaffExplanation") -> dict[str, object]:
    facts: dict[str, object] = {
        "order": told.order_id,
        "status": f"{told.status} since {_time(told.since)}",
        "cause": told.cause.replace("_", " "),
        "told by": {"workflow": "its saga", "temporal": "Temporal and its record", "record": "its record"}[told.source],
        "ended because": f"{told.code}: {told.detail or ''}" if told.code else None,
        "for staff only": told.for_staff,
        "undos given up": "; ".join(told.given_up),
    }
    if saga := told.saga:
        ended = "" if saga.runs else f", {saga.ended_as or 'unknown to Temporal'}"
        facts |= {"workflow": f"{saga.workflow_id}{ended}", "build": saga.build, "did not answer": saga.silence}
        if saga.runs and saga.workers is not None:
            facts["workers"] = ", ".join(f"{each.identity} (asked at {at(each.asked_at)})" for each in saga.workers) or "none"
    return facts


def _of_part(part: "StaffPart") -> dict[str, object]:
    return {
        "since": _time(part.since),
        "until": _time(part.until),
        "then": part.then,
        "who may act": ", ".join(part.who),
        "step": part.step and f"{part.step}{f' (service {part.service})' if part.service else ''}",
        "attempt": part.attempt,
        "last error": part.last_error,
        "last worker": part.last_worker,
        "next try": _time(part.next_try),
    }


def _facts(facts: Mapping[str, object], indent: str = "") -> Iterator[str]:
    for name, value in facts.items():
        if value not in (None, ""):
            yield f"{indent}{name:<16} {plain(value)}"


def _calls(calls: "tuple[StaffCall, ...]") -> Iterator[str]:
    for call in calls:
        choices = f" (choice: {', '.join(call.choices)})" if call.choices else ""
        yield f"  → {call.does}, by {', '.join(call.who)}{choices}"
        if call.path:
            headers = "".join(f" {name}: {value}" for name, value in call.headers.items())
            yield f"      {call.method} {call.path}{headers}{f' {json.dumps(call.body)}' if call.body else ''}"
        if call.url:
            yield f"      {call.url}"
        if call.command:
            yield f"      {call.command}"


def _time(moment: datetime | None) -> str | None:
    return f"{at(moment)} UTC" if moment else None
