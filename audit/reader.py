"""Collects the books: each service's database, read only and as of one moment, the outside ledgers over HTTP, and Temporal.

Whoever decides is read after those who hear of it, so that the provider, the carrier and Temporal may be ahead of our services'
books in one look, and never behind them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import aiohttp
import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ListWorkflowExecutionsRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from audit import queries
from audit.bank import BankBooks
from audit.books import (
    LISTENERS,
    NO_RESULT,
    BackRow,
    BankEntryRow,
    BankOrderRow,
    Books,
    DeadLetterRow,
    DebtRow,
    DeliveryRow,
    DiscountUsesRow,
    DisputeRow,
    EventRow,
    FactRow,
    ForgottenRow,
    KeyRow,
    LineRow,
    MailRow,
    MessageRow,
    NotificationRow,
    OrderRow,
    ParcelRow,
    PaymentRow,
    PriceRow,
    ReceivedRow,
    RedemptionRow,
    RefundRow,
    ReservationRow,
    ReturnFactRow,
    ReturnRefundRow,
    ReturnRow,
    ShipmentRow,
    Source,
    StockRow,
    SumRow,
    TransferRow,
    WaitingRow,
    WorkflowRow,
)
from audit.settings import AuditSettings
from audit.stripe import StripeBooks
from chassis.clients import Unavailable
from chassis.clock import utc_now
from contracts.ids import order_workflow_id
from contracts.keys import WrappedKey
from contracts.orders import OrderState
from temporal.client import connect
from temporal.codec import HistoryCodec
from temporal.keys import DataKeys, KeyDestroyed
from temporal.names import FAILURE_REASON, ORDER_STATUS, ORDER_WORKFLOW, STUCK_UNDO

FETCH = 5_000
"""Rows at a time."""
PAGE = 1_000
TIMEOUT_S = 60.0
RPC = timedelta(seconds=20)
_MOVED = {
    "in_transit": "in_transit",
    "out_for_delivery": "in_transit",
    "available_for_pickup": "in_transit",
    "delivered": "delivered",
    "return_to_sender": "returned",
    "failure": "lost",
}
"""What EasyPost's tracker says of a label that a carrier has scanned."""
_SMS = {"delivered": "arrived", "undelivered": "failed", "failed": "failed"}
"""What Twilio says of a message that will not change any more."""
CALLS_AT_ONCE = 16
BUSY_ASKED = 500
"""Of so many orders at most it is asked whether their saga is at work."""

Row = TypeVar("Row")


class Reader:
    """Reads the books, as often as one looks. An async context manager."""

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._results: dict[str, OrderState | None] = {}
        """By run id: what a closed workflow returned, which never changes; None if that was no OrderState."""
        self._forgotten: set[str] = set()
        """Run ids of workflows whose results nobody can read any more."""
        self._http: aiohttp.ClientSession
        self._temporal: Client

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        master = self._settings.master_keys()
        codec = HistoryCodec(DataKeys(_KeysInBooks(self), master)) if master else None
        self._temporal = await connect(self._settings, codec, lazy=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.close()

    async def read(self) -> Books:
        """One look at everything. What cannot be read is noted, and the rest is read."""
        books = Books(utc_now(), outbox_retention=timedelta(hours=self._settings.outbox_retention_hours))
        await _all(
            books,
            {
                Source.ORDER: self._read_order(books),
                Source.PAYMENT: self._read_payment(books),
                Source.INVENTORY: self._read_inventory(books),
                Source.SHIPPING: self._read_shipping(books),
                Source.NOTIFICATION: self._read_notification(books),
                Source.IDENTITY: self._read_identity(books),
                Source.CATALOG: self._read_catalog(books),
            },
        )
        outside = {
            Source.ANALYTICS: self._read_analytics(books),
            Source.PROVIDER: self._read_provider(books),
            Source.CARRIER: self._read_carrier(books),
            Source.TEMPORAL: self._read_temporal(books),
        }
        absent = set()
        if self._settings.mail_sink_url:
            outside[Source.MAIL_SINK] = self._read_mail_sink(books)
        else:
            absent.add(Source.MAIL_SINK)
        if (bank := self._bank()) is not None:
            outside[Source.BANK] = self._read_bank(books, bank)
        else:
            absent.add(Source.BANK)
        if (sms := self._sms_provider()) is not None:
            outside[Source.SMS_PROVIDER] = self._read_sms(books, *sms)
        else:
            absent.add(Source.SMS_PROVIDER)
        if self._settings.push_service_url:
            outside[Source.PUSH_SERVICE] = self._read_pushed(books, self._settings.push_service_url)
        else:
            absent.add(Source.PUSH_SERVICE)
        books.absent = frozenset(absent)
        await _all(books, outside)
        return books

    async def busy(self, order_ids: Iterable[UUID]) -> frozenset[UUID]:
        """Those of the orders whose saga has a task or an activity at hand at this moment, or has ended meanwhile."""
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def is_busy(order_id: UUID) -> bool:
            async with gate:
                handle = self._temporal.get_workflow_handle(order_workflow_id(order_id))
                found = (await handle.describe(rpc_timeout=RPC)).raw_description
            return bool(
                found.pending_activities
                or found.HasField("pending_workflow_task")
                or found.workflow_execution_info.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
            )

        asked = list(order_ids)[:BUSY_ASKED]
        answers = await asyncio.gather(*map(is_busy, asked), return_exceptions=True)
        return frozenset(order_id for order_id, answer in zip(asked, answers, strict=True) if answer is True)

    # ── Our services ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read_order(self, books: Books) -> None:
        async with self._snapshot(Source.ORDER) as database:
            books.orders = await _rows(database, OrderRow._make, queries.ORDERS)
            books.lines = await _rows(database, LineRow._make, queries.LINES)
            books.discount_uses = await _rows(database, DiscountUsesRow._make, queries.DISCOUNT_USES)
            books.redemptions = await _rows(database, RedemptionRow._make, queries.REDEMPTIONS)
            books.keys = await _rows(database, KeyRow._make, queries.KEYS_TO_DESTROY)
            books.returns = await _rows(database, ReturnRow._make, queries.RETURNS)
            await self._read_outbox(database, Source.ORDER, books)

    async def _read_payment(self, books: Books) -> None:
        async with self._snapshot(Source.PAYMENT) as database:
            books.payments = await _rows(database, PaymentRow._make, queries.PAYMENTS)
            books.refunds = await _rows(database, RefundRow._make, queries.REFUNDS)
            books.return_refunds = await _rows(database, ReturnRefundRow._make, queries.RETURN_REFUNDS)
            books.transfers = await _rows(database, TransferRow._make, queries.TRANSFERS)
            books.bank_entries = await _rows(database, BankEntryRow._make, queries.BANK_ENTRIES)
            books.bank_orders = await _rows(database, BankOrderRow._make, queries.BANK_ORDERS)
            books.disputes = await _rows(database, DisputeRow._make, queries.DISPUTES)
            books.debts = await _rows(database, DebtRow._make, queries.DEBTS)
            await self._read_outbox(database, Source.PAYMENT, books)

    async def _read_inventory(self, books: Books) -> None:
        async with self._snapshot(Source.INVENTORY) as database:
            books.stock = await _rows(database, StockRow._make, queries.STOCK)
            books.reservations = await _rows(database, ReservationRow._make, queries.RESERVATIONS)
            books.received = await _rows(database, ReceivedRow._make, queries.RECEIVED)
            books.back = await _rows(database, BackRow._make, queries.BACK)
            books.waiting = await _rows(database, WaitingRow._make, queries.WAITING)
            await self._read_outbox(database, Source.INVENTORY, books)

    async def _read_shipping(self, books: Books) -> None:
        async with self._snapshot(Source.SHIPPING) as database:
            books.shipments = await _rows(database, ShipmentRow._make, queries.SHIPMENTS)
            books.labels = await _rows(database, ShipmentRow._make, queries.LABELS)
            await self._read_outbox(database, Source.SHIPPING, books)

    async def _read_notification(self, books: Books) -> None:
        async with self._snapshot(Source.NOTIFICATION) as database:
            books.notifications = await _rows(database, NotificationRow._make, queries.NOTIFICATIONS)
            books.deliveries = await _rows(database, DeliveryRow._make, queries.DELIVERIES)
            await self._read_outbox(database, Source.NOTIFICATION, books)

    async def _read_identity(self, books: Books) -> None:
        async with self._snapshot(Source.IDENTITY) as database:
            books.forgotten = await _rows(database, ForgottenRow._make, queries.FORGOTTEN)
            await self._read_outbox(database, Source.IDENTITY, books)

    async def _read_catalog(self, books: Books) -> None:
        async with self._snapshot(Source.CATALOG) as database:
            books.prices = await _rows(database, PriceRow._make, queries.PRICES)
            await self._read_outbox(database, Source.CATALOG, books)

    async def _read_analytics(self, books: Books) -> None:
        async with self._snapshot(Source.ANALYTICS) as database:
            books.facts = await _rows(database, FactRow._make, queries.FACTS)
            books.return_facts = await _rows(database, ReturnFactRow._make, queries.RETURN_FACTS)
            books.sums = await _rows(database, SumRow._make, queries.SUMS)
            await self._read_inbox(database, Source.ANALYTICS, books)

    async def _read_outbox(self, database: asyncpg.Connection, service: Source, books: Books) -> None:
        heard = sorted({kind.__name__ for kinds in LISTENERS.values() for kind in kinds})
        books.events[service] = await _rows(database, EventRow._make, queries.EVENTS, heard)
        books.outbox_rows += await database.fetchval("select count(*) from outbox")
        if service in LISTENERS:
            await self._read_inbox(database, service, books)

    async def _read_inbox(self, database: asyncpg.Connection, service: Source, books: Books) -> None:
        books.inboxes[service] = dict(await _rows(database, tuple, "select event_id, applied_at from inbox"))
        books.dead_letters.extend(await _rows(database, lambda row: DeadLetterRow(service, *row), queries.DEAD_LETTERS))

    @asynccontextmanager
    async def _snapshot(self, service: Source) -> AsyncIterator[asyncpg.Connection]:
        """The service's database as it is at one moment; nothing can be changed through it."""
        database = await asyncpg.connect(
            self._settings.database(service),
            timeout=10,
            server_settings={"default_transaction_read_only": "on", "statement_timeout": "60s", "application_name": "audit"},
        )
        try:
            async with database.transaction(isolation="repeatable_read", readonly=True):
                yield database
        finally:
            await database.close(timeout=5)

    # ── The outside world ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read_provider(self, books: Books) -> None:
        key = self._settings.payment_provider_api_key.get_secret_value()
        provider = StripeBooks(self._http, self._settings.payment_provider_url, key)
        books.charges = await provider.charges()
        books.provider_refunds = await provider.refunds()
        books.provider_disputes = await provider.disputes()

    def _bank(self) -> BankBooks | None:
        url, key, iban = self._settings.bank_url, self._settings.bank_api_key, self._settings.bank_iban
        return BankBooks(self._http, url, key.get_secret_value(), iban) if url and key and iban else None

    async def _read_bank(self, books: Books, bank: BankBooks) -> None:
        books.bank = [row async for row in bank.entries()]

    async def _read_carrier(self, books: Books) -> None:
        """The labels that EasyPost has sold us, by its own list."""
        url, key = self._settings.carrier_url, self._settings.carrier_api_key
        books.parcels = []
        if key is None:
            books.absent |= {Source.CARRIER}
            return
        params = {"page_size": "100", "purchased": "true"}
        headers = {"Authorization": aiohttp.encode_basic_auth(key.get_secret_value(), "")}
        while True:
            async with self._http.get(f"{url}/v2/shipments", params=params, headers=headers) as response:
                response.raise_for_status()
                page = json.loads(await response.read())
            books.parcels += [_parcel(shipment) for shipment in page["shipments"]]
            if not page["has_more"]:
                return
            params["before_id"] = page["shipments"][-1]["id"]

    async def _read_mail_sink(self, books: Books) -> None:
        key = self._settings.mail_sink_api_key
        url = f"{self._settings.mail_sink_url}/messages"
        books.mails = [
            MailRow(row["id"], row["message_id"], _time(row["received_at"]))
            async for row in self._listed(url, f"Bearer {key.get_secret_value()}" if key else None)
        ]

    def _sms_provider(self) -> tuple[str, str] | None:
        """Its address, and what to prove ourselves with."""
        settings, token = self._settings, self._settings.twilio_auth_token
        if not (settings.sms_provider_url and settings.twilio_account_sid and token):
            return None
        first = token.get_secret_value().split(",")[0].strip()
        return settings.sms_provider_url, aiohttp.encode_basic_auth(settings.twilio_account_sid, first)

    async def _read_sms(self, books: Books, url: str, authorization: str) -> None:
        books.sms = [
            MessageRow(
                row["sid"],
                parse_qs(urlsplit(row["status_callback"] or "").query).get("message", [""])[0],
                _SMS.get(row["status"], "on its way"),
                datetime.fromtimestamp(row["created_at"], UTC),
                datetime.fromtimestamp(row["updated_at"], UTC),
            )
            async for row in self._listed(f"{url}/_control/messages", authorization)
        ]

    async def _read_pushed(self, books: Books, url: str) -> None:
        books.pushed = [
            MessageRow(row["id"], row["topic"] or "", "on its way", *[_time(row["received_at"])] * 2)
            async for row in self._listed(f"{url}/_control/messages", None)
        ]

    async def _listed(self, url: str, authorization: str | None) -> AsyncIterator[Mapping[str, Any]]:
        """The items of a list, page after page."""
        headers = {"Authorization": authorization} if authorization else {}
        cursor: str | None = "0"
        while cursor is not None:
            async with self._http.get(url, params={"limit": str(PAGE), "cursor": cursor}, headers=headers) as response:
                response.raise_for_status()
                page = json.loads(await response.read())
            for item in page["data"]:
                yield item
            cursor = page["next_cursor"]

    async def _read_temporal(self, books: Books) -> None:
        service, namespace = self._temporal.workflow_service, self._settings.temporal_namespace
        described = await service.describe_namespace(DescribeNamespaceRequest(namespace=namespace), timeout=RPC)
        books.workflow_retention = described.config.workflow_execution_retention_ttl.ToTimedelta()
        infos: list[WorkflowExecutionInfo] = []
        wanted = ListWorkflowExecutionsRequest(namespace=namespace, page_size=PAGE, query=f"WorkflowType = '{ORDER_WORKFLOW}'")
        while True:
            page = await service.list_workflow_executions(wanted, timeout=RPC)
            infos.extend(page.executions)
            if not page.next_page_token:
                break
            wanted.next_page_token = page.next_page_token
        await self._read_results(infos)
        books.workflows = [self._workflow(info) for info in infos]

    def _workflow(self, info: WorkflowExecutionInfo) -> WorkflowRow:
        fields = info.search_attributes.indexed_fields
        listed, reason, stuck = (
            json.loads(fields[key.name].data) if key.name in fields else None
            for key in (ORDER_STATUS, FAILURE_REASON, STUCK_UNDO)
        )
        run_id = info.execution.run_id
        end = self._results.get(run_id)
        return WorkflowRow(
            order_id=_order_id(info.execution.workflow_id),
            workflow_id=info.execution.workflow_id,
            run_id=run_id,
            status=_status(info),
            started_at=_utc(info.start_time),
            closed_at=_utc(info.close_time) if info.HasField("close_time") else None,
            listed_as=listed,
            failure_reason=reason,
            stuck_undo=stuck,
            result=end.status if end else NO_RESULT if run_id in self._results else None,
            result_code=end.code if end else None,
            given_up=end.given_up if end else (),
        )

    async def _read_results(self, infos: Iterable[WorkflowExecutionInfo]) -> None:
        """What the workflows that closed last returned. Each costs a call, so there is a limit (`AUDIT_RESULTS`)."""
        completed = [info for info in infos if _status(info) == "COMPLETED"]
        completed.sort(key=lambda info: info.close_time.ToNanoseconds(), reverse=True)
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def read(workflow_id: str, run_id: str) -> None:
            async with gate:
                handle = self._temporal.get_workflow_handle(workflow_id, run_id=run_id, result_type=OrderState)
                try:
                    state = await handle.result(follow_runs=False, rpc_timeout=RPC)
                except (RPCError, WorkflowFailureError, Unavailable):
                    raise
                except KeyDestroyed:
                    self._forgotten.add(run_id)
                except Exception:  # whatever the converter says to a result of another shape
                    self._results[run_id] = None
                else:
                    self._results[run_id] = state if isinstance(state, OrderState) else None

        newest = [info.execution for info in completed[: self._settings.audit_results]]
        known = self._results.keys() | self._forgotten
        await asyncio.gather(*[read(run.workflow_id, run.run_id) for run in newest if run.run_id not in known])

    async def keys(self, customer_ids: Sequence[UUID]) -> list[WrappedKey]:
        """The keys of those customers who have one."""
        async with self._snapshot(Source.ORDER) as database:
            rows = await database.fetch(queries.KEYS, customer_ids)
        return [WrappedKey.model_validate(dict(row)) for row in rows]


@dataclass(frozen=True)
class _KeysInBooks:
    """A `temporal.keys.KeySource`."""

    reader: Reader

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        return await self.reader.keys(customer_ids)


async def _all(books: Books, reading: Mapping[Source, Awaitable[None]]) -> None:
    """Read from all at once, and note who could not be read."""
    for source, error in zip(reading, await asyncio.gather(*reading.values(), return_exceptions=True), strict=True):
        if isinstance(error, Exception):
            books.unreadable[source] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        elif error is not None:
            raise error


async def _rows(database: asyncpg.Connection, make: Callable[[Any], Row], query: str, *arguments: object) -> list[Row]:
    """All rows of a query, streamed."""
    found: list[Row] = []
    cursor = await database.cursor(query, *arguments)
    while batch := await cursor.fetch(FETCH):
        found.extend(map(make, batch))
    return found


def _status(info: WorkflowExecutionInfo) -> str:
    return WorkflowExecutionStatus.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_")


def _order_id(workflow_id: str) -> UUID | None:
    """The order whose saga has this id; None if it is not the id of an order's saga."""
    try:
        order_id = UUID(workflow_id.removeprefix("order-"))
    except ValueError:
        return None
    return order_id if order_workflow_id(order_id) == workflow_id else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _utc(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _parcel(shipment: Mapping[str, Any]) -> ParcelRow:
    """A label in EasyPost's list, in the auditor's words."""
    tracker, refund = shipment.get("tracker") or {}, shipment.get("refund_status")
    status = _MOVED.get(str(tracker.get("status")), "booked")
    if status == "booked" and refund not in (None, "rejected"):
        status = "cancelled"
    return ParcelRow(shipment["reference"] or shipment["id"], status, shipment["tracking_code"], _time(shipment["created_at"]))
