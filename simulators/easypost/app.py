"""How the carriers' process is put together."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Scope, Send

from simulators import _webhooks
from simulators._ledger import open_ledger
from simulators._refusals import Refused
from simulators._requests import LARGEST_BODY, Body, page, read_body
from simulators._service import Lifespan, Simulator, data_directory, required
from simulators._webhooks import WebhookQueue, WebhookTarget
from simulators.easypost import entries, news, objects, shipments, trackers
from simulators.easypost.api import Api
from simulators.easypost.clock import Clock, event_stamp
from simulators.easypost.legacy import carry_on
from simulators.easypost.news import CarrierFaults, HookQueue, Hooks, HookSender, News, no_target, sign_with
from simulators.easypost.objects import Objects
from simulators.easypost.refusals import Refusal, in_our_shape, invalid
from simulators.easypost.shipments import FILES, Shipments
from simulators.easypost.trackers import Trackers
from simulators.easypost.world import COMES_FROM, World

SCHEMA = "".join((_webhooks.SCHEMA, entries.SCHEMA, news.SCHEMA, objects.SCHEMA, shipments.SCHEMA, trackers.SCHEMA))
MOST_NAMES = 10_000
LOOK_S = 1.0
"""How often it is looked whether a parcel is to be scanned or delivered by itself, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    data_dir: Path
    api_key: str
    webhook: WebhookTarget | None = None
    scan_after: timedelta | None = None
    deliver_after: timedelta | None = None


class EasyPost(Simulator):
    """Answers in EasyPost's shape, each answer with a number."""

    def __init__(self, routes: Sequence[Route], *, api_key: str, faults: CarrierFaults, lifespan: Lifespan) -> None:
        super().__init__(routes, api_key=api_key, switches=faults, lifespan=lifespan)
        self._limits = faults

    def wrapped(self, send: Send) -> Send:
        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-ep-request-uuid", secrets.token_hex(16).encode())]
            await send(message)

        return numbered

    def answer(self, refusal: Refused) -> Response:
        return in_our_shape(refusal).response()

    def is_open(self, path: str) -> bool:
        return path.startswith(f"{FILES}/") or super().is_open(path)

    async def _disturb(self, scope: Scope) -> bool:
        if self._limits.limit_next and scope["path"].startswith("/v2/"):
            self._limits.limit_next -= 1
            raise Refusal(429, "RATE_LIMITED", "Too many requests; slow down.")
        return await super()._disturb(scope)


class Control:
    """What tests and operators do beside the API."""

    def __init__(
        self, ledger: sqlite3.Connection, world: World, clock: Clock, queue: WebhookQueue, wake: Callable[[], None]
    ) -> None:
        self._ledger, self._world, self._clock, self._queue, self._wake = ledger, world, clock, queue, wake

    def routes(self) -> list[Route]:
        return [
            Route("/_control/hand-over", self.hand_over, methods=["POST"]),
            Route("/_control/advance", self.advance, methods=["POST"]),
            Route("/_control/clock", self.move_clock, methods=["POST"]),
            Route("/_control/webhooks", self.webhooks, methods=["GET"]),
            Route("/_control/ledger", self.totals, methods=["GET"]),
            Route("/_control/parcels", self.parcels, methods=["GET"]),
            Route("/_control/entries", self.entries, methods=["GET"]),
        ]

    async def hand_over(self, request: Request) -> JSONResponse:
        body = await read_body(request, largest=20 * LARGEST_BODY)
        moved, kept = self._world.advance(names_in(body), "picked_up")
        return JSONResponse({"handed_over": len(moved), "references": moved, "skipped": kept})

    async def advance(self, request: Request) -> JSONResponse:
        body = await read_body(request, largest=20 * LARGEST_BODY)
        to = body.text("to")
        if to not in COMES_FROM:
            raise invalid("to", f"must be one of {', '.join(COMES_FROM)}")
        names = self._world.under_way(to) if body.flag("all", default=False) else names_in(body)
        moved, kept = self._world.advance(names, to)
        return JSONResponse({"advanced": len(moved), "references": moved, "skipped": kept})

    async def move_clock(self, request: Request) -> JSONResponse:
        body = await read_body(request)
        self._clock.move(timedelta(seconds=body.integer("ahead_seconds", 0, 10_000_000)))
        self._wake()
        return JSONResponse({"now": event_stamp(self._clock.now())})

    async def webhooks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._queue.status())

    async def totals(self, request: Request) -> JSONResponse:
        return JSONResponse(entries.totals(self._ledger))

    async def parcels(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = self._world.parcels(limit, cursor)
        return JSONResponse({"data": rows, "next_cursor": str(rows[-1]["seq"]) if len(rows) == limit else None})

    async def entries(self, request: Request) -> JSONResponse:
        limit, cursor = page(request)
        rows = entries.listed(self._ledger, limit, cursor)
        return JSONResponse({"data": rows, "next_cursor": str(rows[-1]["seq"]) if len(rows) == limit else None})


def names_in(body: Body) -> list[str]:
    return [*body.texts("references", most=MOST_NAMES), *body.texts("tracking_codes", most=MOST_NAMES)]


def create_app(settings: Settings, clock: Clock | None = None) -> EasyPost:
    clock = clock or Clock()
    ledger = open_ledger(settings.data_dir, "easypost", SCHEMA)
    faults = CarrierFaults()
    queue = HookQueue(ledger, held=lambda: faults.webhooks_held, newest_first=lambda: faults.webhooks_newest_first)
    hooks = Hooks(ledger, clock, settings.webhook)
    told = News(ledger, clock, faults, queue, hooks)
    kept, followed = Objects(ledger, clock), Trackers(ledger, clock, told)
    sold = Shipments(ledger, clock, faults, kept, followed, told)
    world = World(ledger, clock, followed)

    carry_on(ledger, settings.data_dir, followed, told)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        sender = HookSender(queue, settings.webhook or no_target(), hooks)
        tasks = [asyncio.create_task(sender.run()), asyncio.create_task(let_time_pass(settings, sold, world))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            ledger.close()

    api = Api(ledger, kept, sold, followed, told, hooks, faults)
    control = Control(ledger, world, clock, queue, sold.more.set)
    return EasyPost([*api.routes(), *control.routes()], api_key=settings.api_key, faults=faults, lifespan=lifespan)


async def let_time_pass(settings: Settings, sold: Shipments, world: World) -> None:
    """By the recorded times, so that a restart forgets nothing."""
    after = [each.total_seconds() for each in (settings.scan_after, settings.deliver_after) if each is not None]
    look = min(LOOK_S, max(0.05, min(after) / 2)) if after else None
    while True:
        sold.more.clear()
        waits = [wait for wait in (sold.decide_refunds(), look) if wait is not None]
        if settings.scan_after is not None and (codes := world.due_for_scan(settings.scan_after)):
            world.advance(codes, "picked_up")
        if settings.deliver_after is not None and (codes := world.due_for_delivery(settings.deliver_after)):
            world.advance(codes, "delivered")
        with suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await sold.more.wait()


def read_settings(environment: Mapping[str, str]) -> Settings:
    url = environment.get("CARRIER_WEBHOOK_URL")
    # While a secret is replaced there are two: the receiver takes both, the first one signs.
    secret = required(environment, "CARRIER_WEBHOOK_SECRET").split(",")[0].strip() if url else ""
    return Settings(
        data_dir=data_directory(environment),
        api_key=required(environment, "CARRIER_API_KEY"),
        webhook=WebhookTarget(url=url, sign=sign_with(secret)) if url else None,
        scan_after=_seconds(environment.get("CARRIER_AUTO_SCAN_SECONDS")),
        deliver_after=_seconds(environment.get("CARRIER_AUTO_DELIVER_SECONDS")),
    )


def _seconds(text: str | None) -> timedelta | None:
    return timedelta(seconds=float(text)) if text else None
