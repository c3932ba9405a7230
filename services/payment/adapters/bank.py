"""The shop's bank over HTTP, in the plain manner of host-to-host banking: documents are fetched and acknowledged, and sent."""

from collections.abc import Sequence
from urllib.parse import quote
from uuid import uuid4

from pydantic import SecretStr

from chassis.clients import Answer, HttpSession, OutboundClient, fault
from chassis.clock import utc_now
from contracts.budgets import PROVIDER_CALL_S, RETRIES
from services.payment.adapters.iso20022 import Iso20022, initiation, reports_in
from services.payment.model import TransferAccount
from services.payment.ports import Bookings, CreditTransfer, Reports

NAME = "bank"
NOTHING = 204
DOCUMENT_ID = "document-id"
"""Header of a document that was fetched: under this name its receipt is acknowledged."""


class HttpBank:
    """A `Bank`."""

    def __init__(
        self,
        http: HttpSession,
        url: str,
        api_key: SecretStr,
        account: TransferAccount,
        *,
        timeout_s: float = PROVIDER_CALL_S,
        retries: int = RETRIES,
    ) -> None:
        self._client = OutboundClient(NAME, url, http, timeout_s=timeout_s, retries=retries)
        self._headers = {"Authorization": f"Bearer {api_key.get_secret_value()}"}
        self._account, self._statements = account, Iso20022(account)

    async def next_bookings(self) -> Bookings | None:
        found = await self._next("notifications")
        return Bookings(found[0], self._statements.bookings(found[1])) if found else None

    async def next_reports(self) -> Reports | None:
        found = await self._next("reports")
        return Reports(found[0], reports_in(found[1])) if found else None

    async def acknowledge(self, document: Bookings | Reports) -> None:
        kind = "notifications" if isinstance(document, Bookings) else "reports"
        path = f"/v1/{kind}/{quote(document.document_id, safe='')}"
        await self._client.call(f"acknowledge {kind}", "DELETE", path, _acknowledged, headers=self._headers, is_repeatable=True)

    async def send(self, orders: Sequence[CreditTransfer]) -> None:
        body = initiation(orders, self._account, uuid4().hex, utc_now())
        headers = {**self._headers, "Content-Type": "application/xml"}
        # Each order is known by its EndToEndId: a repeated one is not paid again.
        await self._client.call("send", "POST", "/v1/payments", _accepted, body=body, headers=headers, is_repeatable=True)

    async def _next(self, kind: str) -> tuple[str, bytes] | None:
        return await self._client.call(kind, "GET", f"/v1/{kind}", _document, headers=self._headers, is_repeatable=True)


def _document(answer: Answer) -> tuple[str, bytes] | None:
    if answer.status == NOTHING:
        return None
    name = answer.headers.get(DOCUMENT_ID)
    if answer.status != 200 or not name:
        raise fault(NAME, answer, "it gives no document")
    return name, answer.content


def _acknowledged(answer: Answer) -> None:
    if answer.status not in (200, 204, 404):  # what was acknowledged before may be gone
        raise fault(NAME, answer, "it takes no receipt")


def _accepted(answer: Answer) -> None:
    if answer.status not in (200, 201, 202):
        raise fault(NAME, answer, "it takes no orders")
