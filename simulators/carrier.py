"""A parcel carrier: `python -m simulators.carrier`.

| magic value                  | what happens                                                          |
|------------------------------|-----------------------------------------------------------------------|
| postal code starting `00000` | 422 `address_undeliverable`                                           |
| city `Nowhere`               | 422 `address_undeliverable`                                           |
| weight above 150,000 grams   | 422 `parcel_too_heavy`                                                |
| depot `nowhere`              | 422 `depot_unknown`                                                   |
| city `Flakytown`             | 503 to the first three bookings of a reference, booked at the fourth  |
| city `Lostville`             | booked, then the connection drops without a reply; repeated: answered |
| city `Slowville`             | booked, then answered after fault switch `slow_ms`; repeated: at once |

A parcel goes to an address, `to`; or it comes back: it is fetched at an address, `from`, and goes to one of the shop's places,
`depot`. Postal code and city are those of the address that is given.

A `reference` names one parcel for ever:

| from       | to                                                        |
|------------|-----------------------------------------------------------|
| booked     | picked_up, cancelled                                      |
| picked_up  | in_transit, delivered, lost, returned                     |
| in_transit | delivered, lost, returned                                 |
| lost       | in_transit, delivered, returned: the parcel has turned up |

A refused booking leaves nothing behind, so it may come again with a better address.

`POST /_control/advance` with `to` (in_transit, delivered, lost or returned) moves the parcels of `references`, or, with
`all`, every one that is under way; each with its webhook. A lost parcel turns up only if its reference is named. With
picked_up, customers hand in the parcels of `references` that come back: the shop does not ask for that, and hears of it.

Environment: PORT, SIMULATOR_DATA_DIR, CARRIER_API_KEY, HOST (127.0.0.1), CARRIER_CURRENCY (EUR).
CARRIER_WEBHOOK_URL, CARRIER_WEBHOOK_SECRET: where the shop hears of progress; without a URL nothing is sent.
CARRIER_AUTO_DELIVER_SECONDS: deliver that long after pickup; without it parcels move only on demand.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from simulators import _shipments, _webhooks
from simulators._faults import HttpFaults
from simulators._ledger import open_ledger
from simulators._refusals import LostReply, Refused, Unavailable
from simulators._requests import LARGEST_BODY, Body, page, path_reference, read_body
from simulators._service import Simulator, data_directory, required, serve
from simulators._shipments import COMES_FROM, HANDED_IN, Booking, Shipments
from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget, signature

SIGNATURE = "X-Carrier-Signature"


@dataclass(slots=True)
class CarrierFaults(HttpFaults):
    fail_cancels: bool = False
    """503 to every cancellation, which then has done nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    data_dir: Path
    api_key: str
    currency: str = "EUR"
    webhook: WebhookTarget | None = None
    deliver_after: timedelta | None = None


class Carrier:
    def __init__(self, shipments: Shipments, queue: WebhookQueue, faults: CarrierFaults, currency: str) -> None:
        self._shipments = shipments
        self._queue = queue
        self._faults = faults
        self._currency = currency

    def routes(self) -> list[Route]:
        # `:path`, because a reference may hold a slash ("<order id>/<step>"), sent as such or as %2F
        one = "/v1/shipments/{reference:path}"
        return [
            Route("/v1/shipments", self.book, methods=["POST"]),
            Route("/v1/shipments", self.listing, methods=["GET"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/pickup", self.pick_up, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route("/v1/labels/{tracking_number}", self.label, methods=["GET"]),
            Route("/_control/advance", self.advance, methods=["POST"]),
            Route("/_control/webhooks", self.webhooks, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
        ]

    async def book(self, request: Request) -> JSONResponse:
        wanted = booking(await read_body(request))
        town = wanted.city.casefold()
        row, booked_now = self._shipments.book(wanted, failures_first=3 if town == "flakytown" else 0)
        if booked_now and town == "slowville":
            await asyncio.sleep(self._faults.slow_ms / 1000)
        if booked_now and town == "lostville":
            raise LostReply
        return JSONResponse(self._shown(row, request), 201)

    async def cancel(self, request: Request) -> JSONResponse:
        if self._faults.fail_cancels:
            raise Unavailable
        return JSONResponse(self._shown(self._shipments.cancel(path_reference(request)), request))

    async def pick_up(self, request: Request) -> JSONResponse:
        return JSONResponse(self._shown(self._shipments.pick_up(path_reference(request)), request))

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(self._shown(self._shipments.get(path_reference(request)), request))

    async def listing(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._shipments.listed(limit, cursor)
        following = str(rows[-1]["seq"]) if len(rows) == limit else None
        return JSONResponse({"data": [self._shown(row, request) for row in rows], "next_cursor": following})

    async def label(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(self._shipments.label(request.path_params["tracking_number"]))

    async def advance(self, request: Request) -> JSONResponse:
        body = await read_body(request, largest=20 * LARGEST_BODY)
        to = body.text("to")
        if to not in COMES_FROM and to != HANDED_IN:
            raise Refused(422, "invalid_request", f"to: must be one of {', '.join((*COMES_FROM, HANDED_IN))}")
        everything = body.flag("all", default=False)
        references = self._shipments.under_way(to) if everything else body.texts("references", most=10_000)
        moved, kept = self._shipments.advance(references, to)
        return JSONResponse({"advanced": len(moved), "references": moved, "skipped": kept})

    async def webhooks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(self._shipments.totals())

    def _shown(self, row: sqlite3.Row, request: Request) -> dict[str, Any]:
        names = (
            "id",
            "reference",
            "tracking_number",
            "status",
            "service",
            "weight_grams",
            "depot",
            "created_at",
            "attempts",
        )
        label = f"{request.base_url}v1/labels/{row['tracking_number']}" if row["tracking_number"] else None
        return {
            **{name: row[name] for name in names},
            "label_url": label,
            "cost": {"amount": row["cost_amount"], "currency": self._currency},
        }


def booking(body: Body) -> Booking:
    depot = body.optional_text("depot", 50) or None
    address = body.part("from" if depot else "to")
    lines = [address.text("name"), address.text("line1"), address.optional_text("line2")]
    place = [address.optional_text("region"), address.text("postal_code", 20), address.text("city"), address.text("country", 2)]
    written = [*lines, " ".join(filter(None, place))]
    body.optional_text("from_postal_code", 20)  # accepted, but every tariff is flat
    return Booking(
        reference=body.reference(),
        service=body.text("service", 50),
        label="\n".join(filter(None, [f"RETURN to {depot}, from", *written] if depot else written)),
        postal_code=address.text("postal_code", 20),
        city=address.text("city"),
        depot=depot,
        weight_grams=body.integer("weight_grams", 1, 10_000_000),
    )


async def deliver_by_itself(shipments: Shipments, after: timedelta) -> None:
    """Counted from the recorded pickup, so that a restart forgets no parcel."""
    pause = min(1.0, max(0.05, after.total_seconds() / 2))
    while True:
        due = shipments.due_for_delivery(after)
        if due:
            shipments.advance(due, "delivered")
        await asyncio.sleep(pause)


def create_app(settings: Settings) -> Simulator:
    ledger = open_ledger(settings.data_dir, "carrier", _shipments.SCHEMA + _webhooks.SCHEMA)
    queue = WebhookQueue(ledger)

    def announce(shipment: sqlite3.Row) -> None:
        if settings.webhook:
            news = {name: shipment[name] for name in ("reference", "tracking_number", "status")}
            queue.add(shipment["reference"], news)

    shipments = Shipments(ledger, announce)
    faults = CarrierFaults()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks: list[asyncio.Task[None]] = []
        if settings.webhook:
            tasks.append(asyncio.create_task(WebhookSender(queue, settings.webhook).run()))
        if settings.deliver_after is not None:
            tasks.append(asyncio.create_task(deliver_by_itself(shipments, settings.deliver_after)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            ledger.close()

    carrier = Carrier(shipments, queue, faults, settings.currency)
    return Simulator(carrier.routes(), api_key=settings.api_key, switches=faults, lifespan=lifespan)


def read_settings(environment: Mapping[str, str]) -> Settings:
    url = environment.get("CARRIER_WEBHOOK_URL")
    secret = required(environment, "CARRIER_WEBHOOK_SECRET") if url else ""
    seconds = environment.get("CARRIER_AUTO_DELIVER_SECONDS")
    return Settings(
        data_dir=data_directory(environment),
        api_key=required(environment, "CARRIER_API_KEY"),
        currency=environment.get("CARRIER_CURRENCY") or "EUR",
        webhook=WebhookTarget(url=url, sign=lambda body, at: {SIGNATURE: signature(body, secret, at)}) if url else None,
        deliver_after=timedelta(seconds=float(seconds)) if seconds else None,
    )


if __name__ == "__main__":
    serve(create_app(read_settings(os.environ)))
