"""The simulator as an application: its parts, put together, and what it does by itself."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from simulators._refusals import Refused, Unauthorized, Unavailable
from simulators._service import Lifespan, Simulator, required
from simulators._webhooks import WebhookQueue, WebhookSender, WebhookTarget
from simulators.stripe import legacy
from simulators.stripe.api import Api
from simulators.stripe.bank import Bank
from simulators.stripe.books import Books
from simulators.stripe.dashboard import Dashboard
from simulators.stripe.errors import NothingDone, OfOurOwn, StripeError, unavailable
from simulators.stripe.faults import StripeFaults
from simulators.stripe.idempotency import KEPT_S, Keys
from simulators.stripe.intents import Intents
from simulators.stripe.methods import Methods
from simulators.stripe.refunds import Refunds
from simulators.stripe.shapes import Shapes

SIGNATURE = "Stripe-Signature"
HOLD_S = 7 * 86_400.0
TIDY_S = 3_600.0
SENT_TYPES = (
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.amount_capturable_updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    webhook: WebhookTarget | None = None
    sent_types: Sequence[str] = SENT_TYPES
    """Of the events that have a webhook; all others are only listed."""
    hold_s: float = HOLD_S
    multi_capture: bool = True
    keys_kept_s: float = KEPT_S
    public_url: str | None = None
    """Where a customer's browser reaches the bank's page; None: where the request came to."""
    clock: Callable[[], float] = time.time


class StripeSimulator(Simulator):
    def __init__(self, routes: Sequence[BaseRoute], *, api_key: str, faults: StripeFaults, lifespan: Lifespan) -> None:
        super().__init__(routes, api_key=api_key, switches=faults, lifespan=lifespan)
        self._limits = faults

    async def _disturb(self, scope: Scope) -> bool:
        if self._limits.limit_next and scope["path"].startswith("/v1/"):
            self._limits.limit_next -= 1
            raise NothingDone(429, "invalid_request_error", "Request rate limit exceeded.", "rate_limit")
        return await super()._disturb(scope)

    def is_open(self, path: str) -> bool:
        return super().is_open(path) or path.startswith("/3ds/")

    def answer(self, refusal: Refused) -> Response:
        if isinstance(refusal, Unauthorized):
            refusal = StripeError(401, "invalid_request_error", "Invalid API Key provided.")
        elif isinstance(refusal, Unavailable):
            refusal = unavailable()
        elif not isinstance(refusal, StripeError):
            refusal = OfOurOwn(refusal.status, "invalid_request_error", refusal.message, refusal.code)
        return JSONResponse(refusal.content(), refusal.status, {"Request-Id": f"req_{secrets.token_hex(8)}"})


def create_app(data_dir: Path, api_key: str, options: Options = Options()) -> Simulator:
    books = Books(
        data_dir,
        clock=options.clock,
        sent_types=frozenset(options.sent_types) if options.webhook else frozenset(),
    )
    legacy.carry_on(books, data_dir, hold_s=options.hold_s)
    faults = StripeFaults()
    queue = WebhookQueue(books.ledger, held=lambda: faults.webhooks_held, newest_first=lambda: faults.webhooks_newest_first)

    def announce(event_id: str, body: str) -> None:
        late_s = faults.webhooks_late_ms / 1000
        queue.repeat(event_id, body, wait_s=late_s)
        if faults.webhooks_twice:
            queue.repeat(f"{event_id} again", body, wait_s=late_s)  # a name of its own: events are in no order

    books.announce = announce
    methods, shapes, keys = Methods(books), Shapes(books), Keys(books, options.keys_kept_s)
    intents = Intents(books, methods, multi_capture=options.multi_capture, hold_s=options.hold_s)
    refunds = Refunds(books, shapes, refund_s=lambda: faults.refund_ms / 1000)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(settle_in_time(books, intents, refunds)), asyncio.create_task(tidy(keys))]
        if options.webhook:
            tasks.append(asyncio.create_task(WebhookSender(queue, options.webhook).run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            books.ledger.close()

    api = Api(books, intents, methods, refunds, shapes, keys, queue, faults, options.public_url)
    routes = [
        *api.routes(),
        *Bank(books, intents).routes(),
        *Dashboard(books, intents, refunds, shapes, queue).routes(),
    ]
    return StripeSimulator(routes, api_key=api_key, faults=faults, lifespan=lifespan)


async def settle_in_time(books: Books, intents: Intents, refunds: Refunds) -> None:
    """By the recorded times, so that a restart forgets nothing."""
    while True:
        books.look_when_due()
        wait = None if books.next_due == inf else max(0.0, books.next_due - books.clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await books.sooner.wait()
        with books.changed_by():
            intents.settle()
            refunds.settle()


async def tidy(keys: Keys) -> None:
    while True:
        keys.forget()
        await asyncio.sleep(TIDY_S)


def signed_with(*keys: str) -> Callable[[str, int], Mapping[str, str]]:
    """Stripe's signature, one for each of the secrets: while they are changed, the old one and the new one are right."""

    def sign(body: str, at: int) -> Mapping[str, str]:
        stamped = f"{at}.{body}".encode()
        digests = [hmac.digest(key.encode(), stamped, "sha256").hex() for key in keys]
        return {SIGNATURE: ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])}

    return sign


def texts(value: str) -> list[str]:
    return [text for text in (part.strip() for part in value.split(",")) if text]


def read_options(environment: Mapping[str, str]) -> Options:
    url = environment.get("PAYMENT_WEBHOOK_URL")
    keys = texts(required(environment, "PAYMENT_WEBHOOK_SECRET")) if url else []
    return Options(
        webhook=WebhookTarget(url=url, sign=signed_with(*keys)) if url else None,
        sent_types=texts(environment.get("PAYMENT_WEBHOOK_EVENTS") or "") or SENT_TYPES,
        hold_s=float(environment.get("PAYMENT_PROVIDER_HOLD_SECONDS") or HOLD_S),
        multi_capture=(environment.get("PAYMENT_PROVIDER_MULTI_CAPTURE") or "true").casefold() == "true",
        public_url=environment.get("PAYMENT_PROVIDER_PUBLIC_URL") or None,
    )
