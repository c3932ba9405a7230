"""`commerce cancel ORDER`: an order, or some units of it, is cancelled by its saga, and what was taken goes back."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from cli.operators import DONE, REFUSED, environment, fail, run

if TYPE_CHECKING:
    from temporal.orders import OrderSagas

WAIT = timedelta(seconds=20)


def cancel_order(order: UUID, lines: Sequence[str], *, reason: str, by: str, data: Path) -> None:
    """Exits: 0 done, or it will be; 1 refused; 2 Temporal cannot be reached. `lines`: `LINE:UNITS` each."""
    from pydantic import ValidationError

    from contracts.orders import CancelReply, CancelRequest

    units = [line.split(":", 1) if ":" in line else [line, ""] for line in lines]
    told = {
        "reason": reason,
        "requested_by": f"operator {by}",
        "lines": [{"line_id": line_id, "quantity": quantity} for line_id, quantity in units],
    }
    key = f"cancel-{hashlib.sha256(f'{by} {reason} {sorted(lines)}'.encode()).hexdigest()}"
    try:
        request = CancelRequest.model_validate(told | ({"key": key} if lines else {}))
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()), REFUSED)

    async def work(sagas: "OrderSagas") -> int:
        reply = await sagas.cancel(order, request, key, WAIT)
        if reply is None:
            fail(f"No workflow of order {order} runs.", REFUSED)
        if isinstance(reply, CancelReply):
            typer.echo(f"{reply.detail} Refunded {reply.refunded}. The order is {reply.status}.")
        else:
            typer.echo(f"It is being cancelled; see: commerce orders show {order}")
        return DONE

    run(environment(data), work)
