"""What a person does in the dashboard, and what a test asks of the simulator.

| `POST /_dashboard/…`               | body               | what happens                                              |
|------------------------------------|--------------------|-----------------------------------------------------------|
| `charges/{reference}/refunds`      | `amount`, `reason` | money goes back that the shop did not ask for             |
| `charges/{reference}/disputes`     | `amount`, `reason` | the customer's bank takes it until the dispute is decided |
| `charges/{reference}/expire`       |                    | the hold's time is up                                     |
| `refunds/{id}/succeed`, `…/fail`   |                    | a refund arrives, or does not, also one that had          |
| `disputes/{id}/win`, `…/lose`      |                    | the bank decides                                          |

`{reference}` is our own of a payment (`metadata[reference]`), or the id of a payment intent or a charge. No amount: all of it.

`POST /_control/3ds/{reference}` with `result` `confirm` or `refuse` is what the customer says on the bank's page.
`GET /_control/ledger` sums up what moved; `/_control/attempts/{reference}` says how often a payment was asked for, and
`/_control/webhooks` what was told.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators._refusals import Refused
from simulators._requests import Body, path_reference, read_body
from simulators._webhooks import WebhookQueue
from simulators.stripe.books import Books, Row, Table
from simulators.stripe.errors import refused
from simulators.stripe.intents import Intents, unexpected
from simulators.stripe.params import LARGEST_AMOUNT
from simulators.stripe.refunds import Refunds
from simulators.stripe.shapes import Shapes


class Dashboard:
    def __init__(self, books: Books, intents: Intents, refunds: Refunds, shapes: Shapes, queue: WebhookQueue) -> None:
        self._books, self._intents, self._refunds, self._shapes = books, intents, refunds, shapes
        self._queue = queue

    def routes(self) -> list[Route]:
        # `:path`, because a reference may hold a slash, sent as such or as %2F
        one = "/_dashboard/charges/{reference:path}"
        return [
            Route(f"{one}/refunds", self.refund, methods=["POST"]),
            Route(f"{one}/disputes", self.dispute, methods=["POST"]),
            Route(f"{one}/expire", self.expire, methods=["POST"]),
            Route("/_dashboard/refunds/{id}/{end}", self.end_refund, methods=["POST"]),
            Route("/_dashboard/disputes/{id}/{end}", self.end_dispute, methods=["POST"]),
            Route("/_control/3ds/{reference:path}", self.act, methods=["POST"]),
            Route("/_control/attempts/{reference:path}", self.attempts, methods=["GET"]),
            Route("/_control/webhooks", self.webhooks, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def refund(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        amount, reason = optional_amount(body), body.optional_text("reason") or None
        with self._books.changed_by():
            charge = self._refunds.charge_of(self._intent(request)["id"])
            refund = self._refunds.create(charge, amount, "requested_by_customer", {"note": reason} if reason else {})
        return self._shown("refunds", refund)

    async def dispute(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        amount, reason = optional_amount(body), body.optional_text("reason") or "fraudulent"
        with self._books.changed_by():
            charge = self._refunds.charge_of(self._intent(request)["id"])
            dispute = self._refunds.dispute(charge, amount, reason)
        return self._shown("disputes", dispute)

    async def expire(self, request: Request) -> JSONResponse:
        with self._books.changed_by():
            row = self._intents.expire(self._intent(request))
        return self._shown("payment_intents", row)

    async def end_refund(self, request: Request) -> JSONResponse:
        status = one_of(request, {"succeed": "succeeded", "fail": "failed"})
        with self._books.changed_by():
            refund = self._refunds.end(request.path_params["id"], status)
        return self._shown("refunds", refund)

    async def end_dispute(self, request: Request) -> JSONResponse:
        status = one_of(request, {"win": "won", "lose": "lost"})
        with self._books.changed_by():
            dispute = self._refunds.decide(request.path_params["id"], status)
        return self._shown("disputes", dispute)

    async def act(self, request: Request) -> JSONResponse:
        result = (await read_body(request)).text("result")
        if result not in ("confirm", "refuse"):
            raise refused("result: confirm or refuse", param="result")
        with self._books.changed_by():
            row = self._intent(request)
            if row["status"] != "requires_action":
                raise unexpected(row, "act on", "acted on", ("requires_action",))
            row = self._intents.act(row, confirmed=result == "confirm")
        return self._shown("payment_intents", row)

    async def attempts(self, request: Request) -> JSONResponse:
        return JSONResponse({"attempts": self._books.attempts(path_reference(request))})

    async def webhooks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._books.totals())

    def _intent(self, request: Request) -> Row:
        return self._books.intent_of(path_reference(request))

    def _shown(self, table: Table, row: Row) -> JSONResponse:
        return JSONResponse(self._shapes.shown(table, row))


def optional_amount(body: Body) -> int | None:
    return None if body.document.get("amount") is None else body.integer("amount", 1, LARGEST_AMOUNT)


def one_of(request: Request, ends: Mapping[str, str]) -> str:
    status = ends.get(request.path_params["end"])
    if status is None:
        raise Refused(404, "not_found", f"One of {', '.join(ends)}.")
    return status
