"""`commerce amend`: what a change of an order would come to, and making it, as support does."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import typer

from cli.operators import DONE, REFUSED, UNREACHABLE, columns, database_url, environment, fail

if TYPE_CHECKING:
    from contracts.orders import AmendmentRequest

_OPERATORS = UUID("6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11")
"""Namespace of the ids under which people at a terminal act."""


def amend_order(
    order: UUID,
    *,
    lines: Sequence[str],
    add: Sequence[str],
    speed: str | None,
    ship_to: str | None,
    card: str | None,
    by: str,
    makes_it: bool,
    data: Path,
) -> None:
    """Exits: 0 told or done, 1 refused, 2 the platform cannot be reached. `lines`: `LINE:UNITS` each; `add`: `PRODUCT:UNITS`;
    `ship_to`: the whole address, as JSON."""
    import asyncio
    import json

    from pydantic import ValidationError

    from chassis.clients import Unavailable
    from contracts.errors import Refusal
    from contracts.orders import AmendmentRequest

    env = environment(data)
    database_url(env, "order")
    wanted: dict[str, Any] = {
        "lines": [
            *({"line_id": _number(name), "quantity": _number(units)} for name, units in map(_pair, lines)),
            *({"product_id": name, "quantity": _number(units)} for name, units in map(_pair, add)),
        ]
    }
    try:
        wanted |= {"ship_to": json.loads(ship_to)} if ship_to else {}
        wanted |= {"shipping": speed} if speed else {}
        request = AmendmentRequest.model_validate(wanted | ({"payment_token": card} if card else {}))
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()), REFUSED)
    except ValueError as error:
        fail(f"--ship-to is no JSON: {error}", REFUSED)
    try:
        asyncio.run(_amend(env, order, request, by, makes_it))
    except Refusal as refusal:
        fail(f"{refusal.code}: {refusal.detail}", REFUSED)
    except Unavailable as error:
        fail(str(error), UNREACHABLE)
    raise typer.Exit(DONE)


async def _amend(env: Mapping[str, str], order: UUID, request: "AmendmentRequest", by: str, makes_it: bool) -> None:
    from chassis.access import Grant, Reach
    from chassis.dependencies import provided
    from chassis.idempotency import IdempotencyKey
    from chassis.tokens import Principal
    from contracts.identity import Role
    from contracts.orders import AmendmentTerms
    from services.order.app import OrderSettings, build
    from services.order.commands import AmendmentService

    os.environ.update(env)
    service = build(OrderSettings())
    async with service.opened(frozenset()):
        amendments: AmendmentService = provided(service.api, AmendmentService)
        caller = Grant(
            Principal(subject=uuid5(_OPERATORS, by), roles=frozenset({Role.SUPPORT}), expires_at=math.inf), frozenset({Reach.ALL})
        )
        terms = AmendmentTerms.model_validate(request.model_dump(exclude={"payment_token"}, exclude_none=True))
        previewed = await amendments.preview(order, terms, caller)
        rows = [(line.line_id, line.product_id, line.quantity, line.unit_price) for line in previewed.amended.priced.lines]
        columns(("LINE", "PRODUCT", "UNITS", "PRICE"), rows)
        typer.echo(f"\n{previewed.amended.priced.charges.total} instead of {previewed.amended.owed_before}")
        if not makes_it:
            typer.echo("Nothing was changed; with --apply it is.")
            return
        body = request.model_dump_json(exclude={"payment_token"})
        digest = hashlib.sha256(f"{by} {previewed.order.version} {body}".encode()).hexdigest()
        made, _ = await amendments.amend(order, request, caller, IdempotencyKey(f"commerce amend {order}", digest, digest))
        typer.echo(f"Amendment {made.number} is {made.status}; see: commerce orders show {order}")


def _pair(text: str) -> tuple[str, str]:
    name, _, units = text.rpartition(":")
    return name, units


def _number(text: str) -> int | str:
    """What is no number is refused where it is validated."""
    return int(text) if text.isdigit() else text
