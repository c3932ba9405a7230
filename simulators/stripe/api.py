"""The API's endpoints: parameters in, objects out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators._refusals import LostReply
from simulators._requests import LARGEST_BODY, read_raw
from simulators._webhooks import WebhookQueue
from simulators.stripe.books import EVENTS_KEPT_S, Books, Cause, Table, encoded
from simulators.stripe.errors import InvalidParameter, NothingDone, StripeError, broken, unavailable
from simulators.stripe.faults import StripeFaults
from simulators.stripe.idempotency import Keys, fingerprint
from simulators.stripe.intents import Confirmation, Intents, NewIntent
from simulators.stripe.methods import Methods
from simulators.stripe.params import Params
from simulators.stripe.refunds import Refunds
from simulators.stripe.shapes import Shapes, Shown

EARLY_S = 10.0
"""How long an answer waits at most until its webhook has arrived."""
CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
FUTURE = ("off_session", "on_session")
IF_AVAILABLE = ("if_available", "never")
CARD_OPTIONS = {
    "capture_method": ("manual",),
    "request_extended_authorization": IF_AVAILABLE,
    "request_incremental_authorization": IF_AVAILABLE,
    "request_multicapture": IF_AVAILABLE,
    "request_overcapture": IF_AVAILABLE,
    "request_three_d_secure": ("any", "automatic", "challenge"),
}
FORM = "application/x-www-form-urlencoded"

Work = Callable[[], Shown]
"""What a request does, once its parameters are understood."""
Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    def __init__(
        self,
        books: Books,
        intents: Intents,
        methods: Methods,
        refunds: Refunds,
        shapes: Shapes,
        keys: Keys,
        queue: WebhookQueue,
        faults: StripeFaults,
        public_url: str | None = None,
    ) -> None:
        self._books, self._intents, self._methods, self._refunds = books, intents, methods, refunds
        self._shapes, self._keys, self._queue, self._faults = shapes, keys, queue, faults
        self._public_url = public_url

    def routes(self) -> list[Route]:
        intents, one = "/v1/payment_intents", "/v1/payment_intents/{id}"
        refunds, methods = "/v1/refunds", "/v1/payment_methods"
        writes: list[tuple[str, Endpoint]] = [
            (intents, self._write(self.create_intent, asks_bank=True)),
            (f"{one}/confirm", self._write(self.confirm, asks_bank=True)),
            (f"{one}/capture", self._write(self.capture)),
            (f"{one}/cancel", self._write(self.cancel, reverses=True)),
            (refunds, self._write(self.create_refund, reverses=True)),
            (f"{refunds}/{{id}}/cancel", self._write(self.cancel_refund, reverses=True)),
            (methods, self._write(self.create_method)),
            ("/v1/customers", self._write(self.create_customer)),
        ]
        reads: list[tuple[str, Endpoint]] = [
            (one, self._one("payment_intents", "intent", "client_secret")),
            (intents, self._list("payment_intents", "customer")),
            ("/v1/charges/{id}", self._one("charges")),
            ("/v1/charges", self._list("charges", "payment_intent", "customer")),
            (f"{refunds}/{{id}}", self._one("refunds", "refund")),
            (refunds, self._list("refunds", "payment_intent", "charge")),
            (f"{methods}/{{id}}", self._one("payment_methods", "payment_method")),
            (methods, self._list("payment_methods", "customer", ignored=("type",))),
            ("/v1/customers/{id}", self._one("customers")),
            ("/v1/disputes/{id}", self._one("disputes", "dispute")),
            ("/v1/disputes", self._list("disputes", "payment_intent", "charge")),
            ("/v1/balance_transactions/{id}", self._one("balance_transactions")),
            ("/v1/balance_transactions", self._list("balance_transactions", "type", "source", "currency")),
            ("/v1/events/{id}", self._one("events")),
            ("/v1/events", self._read(self.events)),
            ("/v1/account", self._read(self.account)),
        ]
        return [
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in writes),
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in reads),
        ]

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, parse: Callable[[Request, Params], Work], *, asks_bank: bool = False, reverses: bool = False) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            raw = await read_raw(request, LARGEST_BODY)
            if raw and not request.headers.get("content-type", "").startswith(FORM):
                raise InvalidParameter(f"Invalid request (check that your POST content type is {FORM})")
            params, key = Params(raw), request.headers.get("idempotency-key")
            if reverses and self._faults.fail_reversals:
                raise unavailable()
            mark = fingerprint(request.url.path, params.pairs)
            cause = Cause(f"req_{secrets.token_hex(8)}", key)
            asked_for = self._asked_for(request, params, key or mark.hex()) if asks_bank else None
            if key is not None and (kept := self._keys.earlier(key, mark)):
                if asked_for is not None:
                    self._books.count_attempt(asked_for)
                return reply(cause, kept.content, kept.status, replayed=True)
            work = parse(request, params)
            params.done()
            with self._keys.under_way(key):
                try:
                    status, content = self._carry_out(work, cause, mark, asked_for)
                except NothingDone as error:
                    if asked_for is not None:
                        self._books.count_attempt(asked_for)
                    if error.waits:
                        await asyncio.sleep(self._faults.slow_ms / 1000)
                    raise
                await self._tell_first()
                if cause.reply == "slow":
                    await asyncio.sleep(self._faults.slow_ms / 1000)
                if cause.reply == "lost":
                    raise LostReply
            return reply(cause, content, status)

        return endpoint

    def _carry_out(self, work: Work, cause: Cause, mark: bytes, asked_for: str | None) -> tuple[int, str]:
        """Do it and keep what is answered. What was done before a refusal stays done: a decline is on the books."""
        with self._books.changed_by(cause):
            if asked_for is not None:
                cause.attempt = self._books.count_attempt(asked_for)
            try:
                status, shown = 200, work()
            except StripeError as error:
                if not error.kept:
                    raise
                status, shown = error.status, error.content()
            if self._faults.break_next:
                self._faults.break_next -= 1
                status, shown = 500, broken().content()
            content = encoded(shown)
            if cause.key is not None:
                self._keys.keep(cause.key, mark, status, content)
        return status, content

    def _asked_for(self, request: Request, params: Params, otherwise: str) -> str | None:
        """By what the attempts at a payment are counted; None: this only makes it known."""
        given = dict(params.pairs)
        if (id_ := request.path_params.get("id")) is not None:
            row = self._books.find("payment_intents", id_)
            return (row["reference"] or row["id"]) if row is not None else None
        return (given.get("metadata[reference]") or otherwise) if given.get("confirm") == "true" else None

    async def _tell_first(self) -> None:
        until = time.monotonic() + EARLY_S
        while self._faults.webhooks_early and self._queue.status()["pending"] and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def create_intent(self, request: Request, params: Params) -> Work:
        amount, currency = params.amount(), params.currency()
        confirm, may_ask, off_session = params.flag("confirm"), *who_is_there(params)
        if not confirm:
            for name in ("off_session", "error_on_requires_action", "return_url"):
                if params.given(name):
                    why = f"You can only use {name} when confirm is true."
                    raise InvalidParameter(why, param=name)
        wanted = NewIntent(
            amount=amount,
            currency=currency,
            capture_method=params.choice("capture_method", *CAPTURE_METHODS) or "automatic",
            payment_method=params.text("payment_method"),
            customer=params.text("customer"),
            setup_future_usage=params.choice("setup_future_usage", *FUTURE),
            card_options=card_options(params),
            metadata=params.metadata(),
            details=details(params, create=True),
            confirmation=Confirmation(
                return_url=params.url("return_url"),
                off_session=off_session,
                may_ask=may_ask,
                page_url=self._page_url(request),
            )
            if confirm
            else None,
        )
        expand = params.expand()
        return lambda: self._shapes.shown("payment_intents", self._intents.create(wanted), expand)

    def confirm(self, request: Request, params: Params) -> Work:
        may_ask, off_session = who_is_there(params)
        wanted = Confirmation(
            payment_method=params.text("payment_method"),
            capture_method=params.choice("capture_method", *CAPTURE_METHODS),
            setup_future_usage=params.choice("setup_future_usage", *FUTURE, unset=True),
            return_url=params.url("return_url"),
            card_options=card_options(params),
            details=details(params),
            off_session=off_session,
            may_ask=may_ask,
            amount=params.integer("amount_to_confirm", least=1),
            page_url=self._page_url(request),
        )
        id_, expand = request.path_params["id"], params.expand()
        return lambda: self._shapes.shown("payment_intents", self._intents.confirm(id_, wanted), expand)

    def capture(self, request: Request, params: Params) -> Work:
        id_, amount = request.path_params["id"], params.integer("amount_to_capture")
        final = params.flag("final_capture") if params.given("final_capture") else None
        metadata, expand = params.metadata(), params.expand()
        params.text("statement_descriptor", 22)
        params.text("statement_descriptor_suffix", 22)

        def work() -> Shown:
            row = self._intents.capture(id_, amount, final=final, metadata=metadata)
            return self._shapes.shown("payment_intents", row, expand)

        return work

    def cancel(self, request: Request, params: Params) -> Work:
        id_, expand = request.path_params["id"], params.expand()
        reasons = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")
        reason = params.choice("cancellation_reason", *reasons)
        return lambda: self._shapes.shown("payment_intents", self._intents.cancel(id_, reason), expand)

    def create_refund(self, request: Request, params: Params) -> Work:
        intent, charge, amount = params.text("payment_intent"), params.text("charge"), params.integer("amount", least=1)
        if (intent is None) == (charge is None):
            why = "One of the following params should be provided for this request: payment_intent or charge."
            raise InvalidParameter(why, "parameter_missing")
        reason = params.choice("reason", "duplicate", "fraudulent", "requested_by_customer")
        metadata, expand = params.metadata(), params.expand()

        def work() -> Shown:
            row = self._books.one("charges", charge, "charge") if charge else self._refunds.charge_of(intent or "")
            return self._shapes.shown("refunds", self._refunds.create(row, amount, reason, metadata), expand)

        return work

    def cancel_refund(self, request: Request, params: Params) -> Work:
        id_, expand = request.path_params["id"], params.expand()
        return lambda: self._shapes.shown("refunds", self._refunds.cancel(id_), expand)

    def create_method(self, request: Request, params: Params) -> Work:
        params.required("type")
        params.choice("type", "card")
        card, expand, metadata = params.part("card"), params.expand(), params.metadata()
        if "number" in card:
            why = "Sending credit card numbers directly to the API is generally unsafe; use card[token]."
            raise InvalidParameter(why, param="card[number]")
        if set(card) != {"token"}:
            raise InvalidParameter("Missing required param: card[token].", "parameter_missing", param="card[token]")
        billing = billing_details(params, "billing_details")

        def work() -> Shown:
            row = self._methods.create(self._methods.of_token(card["token"]), billing, metadata)
            return self._shapes.shown("payment_methods", row, expand)

        return work

    def create_customer(self, request: Request, params: Params) -> Work:
        metadata, expand = params.metadata(), params.expand()
        values = {name: params.text(name, unset=True) for name in ("email", "name", "phone", "description")}
        return lambda: self._shapes.shown("customers", self._methods.add_customer(metadata, **values), expand)

    def _page_url(self, request: Request) -> str:
        return self._public_url or str(request.base_url)

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, answer: Callable[[Params], Shown]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            params = Params(request.scope["query_string"])
            shown = answer(params)
            params.done()
            return reply(Cause(f"req_{secrets.token_hex(8)}"), encoded(shown))

        return endpoint

    def _one(self, table: Table, param: str = "id", *ignored: str) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            def answer(params: Params) -> Shown:
                for name in ignored:
                    params.text(name)
                row = self._books.one(table, request.path_params["id"], param)
                return self._shapes.shown(table, row, params.expand())

            return await self._read(answer)(request)

        return endpoint

    def _list(self, table: Table, *filters: str, ignored: tuple[str, ...] = ()) -> Endpoint:
        def answer(params: Params) -> Shown:
            for name in ignored:
                params.text(name)
            wanted = {name: params.text(name) for name in filters}
            found = self._books.listed(table, params.page(), params.created(), **wanted)
            return self._shapes.page(table, found, f"/v1/{table}", params.expand())

        return self._read(answer)

    def events(self, params: Params) -> Shown:
        types = tuple(params.texts("types")) or None
        kind, page, created = params.text("type"), params.page(), params.created()
        created = replace(created, first=max(created.first, self._books.now - EVENTS_KEPT_S + 1))
        found = self._books.listed("events", page, created, type=types or kind)
        return self._shapes.page("events", found, "/v1/events", params.expand())

    def account(self, params: Params) -> Shown:
        return {
            "id": "acct_simulated",
            "object": "account",
            "business_type": "company",
            "charges_enabled": True,
            "country": "US",
            "default_currency": "usd",
            "details_submitted": True,
            "email": None,
            "payouts_enabled": True,
            "type": "standard",
        }


def reply(cause: Cause, content: str, status: int = 200, *, replayed: bool = False) -> Response:
    headers = {"Request-Id": cause.request_id or ""}
    if cause.key is not None:
        headers["Idempotency-Key"] = cause.key
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(content, status, headers, "application/json")


def who_is_there(params: Params) -> tuple[bool, bool]:
    """Whether the customer may be asked, and whether nobody is there at all."""
    off_session = params.choice("off_session", "true", "false", "one_off", "recurring") or "false"
    return not params.flag("error_on_requires_action"), off_session != "false"


def card_options(params: Params) -> dict[str, str]:
    found = {name: params.choice(f"payment_method_options[card][{name}]", *choices) for name, choices in CARD_OPTIONS.items()}
    return {name: value for name, value in found.items() if value is not None}


def details(params: Params, *, create: bool = False) -> dict[str, Any]:
    """What is only shown again. `create`: with what can be said only then."""
    params.flag("use_stripe_sdk")
    found: dict[str, Any] = {
        "receipt_email": params.text("receipt_email", 512, unset=not create),
        "payment_method_types": params.texts("payment_method_types") or None,
    }
    if create:
        found |= {
            "description": params.text("description", 1_000),
            "statement_descriptor": params.text("statement_descriptor", 22),
            "statement_descriptor_suffix": params.text("statement_descriptor_suffix", 22),
            "transfer_group": params.text("transfer_group"),
            "confirmation_method": params.choice("confirmation_method", "automatic", "manual"),
        }
        if params.given("automatic_payment_methods"):
            redirects = params.choice("automatic_payment_methods[allow_redirects]", "always", "never")
            enabled = {"enabled": params.flag("automatic_payment_methods[enabled]")}
            found["automatic_payment_methods"] = enabled | ({"allow_redirects": redirects} if redirects else {})
    if params.given("shipping"):
        names = ("carrier", "name", "phone", "tracking_number")
        found["shipping"] = {
            "address": address(params, "shipping[address]"),
            **{name: params.text(f"shipping[{name}]") for name in names},
        }
    return {name: value for name, value in found.items() if value is not None}


def address(params: Params, name: str) -> dict[str, str | None]:
    lines = ("city", "country", "line1", "line2", "postal_code", "state")
    return {line: params.text(f"{name}[{line}]", unset=True) for line in lines}


def billing_details(params: Params, name: str) -> dict[str, Any]:
    names = ("email", "name", "phone", "tax_id")
    return {
        "address": address(params, f"{name}[address]"),
        **{each: params.text(f"{name}[{each}]", unset=True) for each in names},
    }
