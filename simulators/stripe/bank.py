"""The bank's own page, on which a customer confirms a payment (3-D Secure)."""

from __future__ import annotations

import hmac
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from simulators._requests import read_raw
from simulators.stripe.books import Books, Row
from simulators.stripe.intents import Intents
from simulators.stripe.shapes import parsed

DECIMALS = {
    **dict.fromkeys(("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"), 0),
    **dict.fromkeys(("pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"), 0),
    **dict.fromkeys(("bhd", "jod", "kwd", "omr", "tnd"), 3),
}
"""Of the currencies that do not have two."""
LARGEST_FORM = 4_096
SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; line-height: 1.5; max-width: 26rem; margin: 4rem auto; padding: 0 1rem; }}
button {{ font: inherit; padding: .5rem 1.25rem; margin: 0 .5rem .5rem 0; }}
small {{ color: #595959; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
<p><small>This is the simulated bank of a test system. No money moves.</small></p>
</main>
</body>
</html>
"""
QUESTION = """<p>Confirm {amount} to {payee}?</p>
<form method="post" action="/3ds/{intent}">
<input type="hidden" name="key" value="{key}">
<button type="submit" name="result" value="confirm">Confirm</button>
<button type="submit" name="result" value="refuse">Refuse</button>
</form>"""


class Bank:
    def __init__(self, books: Books, intents: Intents) -> None:
        self._books, self._intents = books, intents

    def routes(self) -> list[Route]:
        return [
            Route("/3ds/{id}", self.ask, methods=["GET"]),
            Route("/3ds/{id}", self.decide, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        row = self._found(request.path_params["id"], request.query_params.get("key", ""))
        if row is None:
            return nothing()
        if row["status"] != "requires_action":
            return back(row)
        payee = parsed(row["details"]).get("statement_descriptor") or "the shop"
        body = QUESTION.format(
            amount=amount_text(row["amount"], row["currency"]),
            payee=escape(payee),
            intent=escape(row["id"]),
            key=escape(row["action_key"]),
        )
        return page("Your bank asks", body)

    async def decide(self, request: Request) -> Response:
        form = dict(parse_qsl((await read_raw(request, LARGEST_FORM)).decode("utf-8", "replace")))
        row = self._found(request.path_params["id"], form.get("key", ""))
        if row is None:
            return nothing()
        if form.get("result") not in ("confirm", "refuse"):
            return page("Your bank did not understand", "<p>Please go back and choose one of the two.</p>", 400)
        with self._books.changed_by():
            row = self._intents.act(row, confirmed=form["result"] == "confirm")
        return back(row)

    def _found(self, intent_id: str, key: str) -> Row | None:
        row = self._books.find("payment_intents", intent_id)
        if row is None or not row["action_key"]:
            return None
        return row if hmac.compare_digest(row["action_key"].encode(), key.encode()) else None


def nothing() -> Response:
    return page("Nothing to confirm", "<p>There is no payment that waits for you here.</p>", 404)


def back(row: Row) -> Response:
    """To the shop, once there is nothing to ask any more."""
    if row["return_url"] is None:
        return page("Thank you", "<p>You can close this page.</p>")
    return RedirectResponse(return_url(row), 303, SAFE)


def return_url(row: Row) -> str:
    """Where the shop wants its customer back, with what Stripe adds."""
    parts = urlsplit(str(row["return_url"]))
    result = "succeeded" if row["status"] in ("requires_capture", "succeeded") else "failed"
    added = {"payment_intent": row["id"], "payment_intent_client_secret": row["client_secret"], "redirect_status": result}
    query = "&".join(filter(None, [parts.query, urlencode(added)]))
    return urlunsplit(parts._replace(query=query))


def amount_text(amount: int, currency: str) -> str:
    decimals = DECIMALS.get(currency, 2)
    return f"{amount / 10**decimals:,.{decimals}f} {currency.upper()}"


def page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(title=title, body=body), status, SAFE)
