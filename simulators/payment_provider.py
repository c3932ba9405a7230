"""A card processor, in the manner of Stripe or Adyen: `python -m simulators.payment_provider`.

| card token               | what happens                                                           |
|--------------------------|------------------------------------------------------------------------|
| `tok_visa`               | charged                                                                |
| `tok_mastercard`         | charged                                                                |
| `tok_declined`           | 402 `card_declined`                                                    |
| `tok_insufficient_funds` | 402 `insufficient_funds`                                               |
| `tok_expired`            | 402 `expired_card`                                                     |
| `tok_incorrect_cvc`      | 402 `incorrect_cvc`                                                    |
| `tok_fraudulent`         | 402 `fraudulent`                                                       |
| `tok_review`             | authorized only, risk `elevated`, even when capture was asked for      |
| `tok_flaky_3`            | 503 to the first three requests of a reference, charged at the fourth  |
| `tok_lost_reply`         | charged, then the connection drops without a reply; repeated: answered |
| `tok_slow`               | charged, then answered after fault switch `slow_ms`; repeated: at once |
| `tok_timeout`            | never charged: 503 after `slow_ms`, every time                         |
| any other                | 402 `invalid_card_token`                                               |

Each token is one card; with anything after it, `tok_visa_7`, it is another one that does the same.
Amounts are integers in the currency's minor unit. A `reference` names one charge for ever, whatever the key.
Environment: PORT, SIMULATOR_DATA_DIR, PAYMENT_PROVIDER_API_KEY, HOST (127.0.0.1).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulators._cards import card_of
from simulators._charges import SCHEMA, ChargeRequest, Charges, shown, shown_in_full
from simulators._faults import HttpFaults
from simulators._ledger import open_ledger
from simulators._refusals import LostReply, Refused, Unavailable
from simulators._requests import Body, page, path_reference, read_body
from simulators._service import Simulator, data_directory, required, serve

LARGEST_AMOUNT = 10**12
CURRENCY = re.compile("[A-Z]{3}")


@dataclass(slots=True)
class PaymentFaults(HttpFaults):
    fail_reversals: bool = False
    """503 to every reversal, which then has done nothing."""


class PaymentProvider:
    def __init__(self, charges: Charges, faults: PaymentFaults) -> None:
        self._charges = charges
        self._faults = faults

    def routes(self) -> list[Route]:
        # `:path`, because a reference may hold a slash ("<order id>/<step>"), sent as such or as %2F
        one = "/v1/charges/{reference:path}"
        return [
            Route("/v1/charges", self.charge, methods=["POST"]),
            Route("/v1/charges", self.listing, methods=["GET"]),
            Route(f"{one}/capture", self.capture, methods=["POST"]),
            Route(f"{one}/reversals", self.reverse, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def charge(self, request: Request) -> JSONResponse:
        key = request.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= 255:
            raise Refused(400, "idempotency_key_required", "Send an Idempotency-Key of 1 to 255 characters.")
        wanted = charge_request(await read_body(request))
        reply = self._charges.charge(key, wanted)
        if reply.fresh:
            await self._answer_as_the_card_does(wanted.card_token)
        return JSONResponse(reply.content, reply.status)

    async def _answer_as_the_card_does(self, token: str) -> None:
        card = card_of(token)
        if card.reply == "slow" or card.hangs:
            await asyncio.sleep(self._faults.slow_ms / 1000)
        if card.reply == "lost":
            raise LostReply

    async def capture(self, request: Request) -> JSONResponse:
        return JSONResponse(shown(self._charges.capture(path_reference(request))))

    async def reverse(self, request: Request) -> JSONResponse:
        if self._faults.fail_reversals:
            raise Unavailable
        reason = (await read_body(request)).optional_text("reason")
        return JSONResponse(shown(self._charges.reverse(path_reference(request), reason)))

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(shown_in_full(self._charges.get(path_reference(request))))

    async def listing(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._charges.listed(limit, cursor)
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": [shown_in_full(row) for row in rows], "next_cursor": following})

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._charges.totals())


def charge_request(body: Body) -> ChargeRequest:
    currency = body.text("currency", 3)
    if not CURRENCY.fullmatch(currency):
        raise Refused(422, "invalid_request", "currency: must be an ISO 4217 code")
    return ChargeRequest(
        reference=body.reference(),
        amount=body.integer("amount", 1, LARGEST_AMOUNT),
        currency=currency,
        card_token=body.text("card_token"),
        capture=body.flag("capture", default=True),
        description=body.optional_text("description"),
        metadata=dict(body.part("metadata").document) if body.document.get("metadata") else {},
    )


def create_app(data_dir: Path, api_key: str) -> Simulator:
    ledger = open_ledger(data_dir, "payment_provider", SCHEMA)
    faults = PaymentFaults()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            ledger.close()

    provider = PaymentProvider(Charges(ledger), faults)
    return Simulator(provider.routes(), api_key=api_key, switches=faults, lifespan=lifespan)


if __name__ == "__main__":
    serve(create_app(data_directory(os.environ), required(os.environ, "PAYMENT_PROVIDER_API_KEY")))
