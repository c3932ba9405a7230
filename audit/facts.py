"""Collects the books: each service's database, read only and as of one moment, the outside ledgers over HTTP, and Temporal.

Whoever decides is read after those who hear of it, so that the provider, the carrier and Temporal may be ahead of our services'
books in one look, and never behind them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import aiohttp
import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ListWorkflowExecutionsRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from audit.books import (
    LISTENERS,
    NO_RESULT,
    Books,
    ChargeRow,
    EventRow,
    FactRow,
    LineRow,
    MailRow,
    NotificationRow,
    OrderRow,
    ParcelRow,
    PaymentRow,
    PriceRow,
    ReservationRow,
    ShipmentRow,
    Source,
    StockRow,
    SumRow,
    WorkflowRow,
)
from audit.settings import AuditSettings
from chassis.clock import utc_now
from contracts.ids import order_workflow_id
from contracts.orders import OrderState
from temporal.client import connect
from temporal.names import ORDER_STATUS, ORDER_WORKFLOW, STUCK_UNDO

FETCH = 5_000
"""Rows at a time."""
PAGE = 1_000
TIMEOUT_S = 60.0
RPC = timedelta(seconds=20)
CALLS_AT_ONCE = 16
BUSY_ASKED = 500
"""Of so many orders at most it is asked whether their saga is at work."""

Row = TypeVar("Row")

_ORDERS = """
select o.order_id, o.customer_id, o.status, o.currency, o.total_minor, o.refunded_minor, o.workflow_run_id,
       o.placed_at, o.confirmed_at, o.updated_at, line.total, line.lines
from orders o, lateral (
    select sum((l->'unit_price'->>'amount')::numeric * (l->>'quantity')::int) as total,
           string_agg((l->>'product_id') || ' x ' || (l->>'quantity'), ', ' order by (l->>'product_id') collate "C") as lines
    from jsonb_array_elements(o.lines) as l
) as line
"""
_LINES = """
select order_id, l->>'product_id', (l->'unit_price'->>'amount')::numeric, l->'unit_price'->>'currency'
from orders, jsonb_array_elements(lines) as l
"""
_PRICES = "select product_id, amount, currency, valid_from, valid_to from price_history"
_PAYMENTS = """
with moved as (
    select t.payment_id,
           sum(t.amount_minor) filter (where t.kind = 'authorize') as authorized,
           sum(t.amount_minor) filter (where t.kind = 'capture') as captured,
           sum(t.amount_minor) filter (where t.kind = 'refund') as refunded,
           sum(t.amount_minor) filter (where t.kind = 'void') as voided,
           count(*) filter (where t.currency <> p.currency) as other_currency
    from transactions t join payments p using (payment_id) group by t.payment_id
)
select p.order_id, p.attempt, p.provider_reference, p.status, p.currency, p.amount_minor, p.refunded_minor, p.provider_id,
       p.customer_id is null, coalesce(m.authorized, 0)::bigint, coalesce(m.captured, 0)::bigint,
       coalesce(m.refunded, 0)::bigint, coalesce(m.voided, 0)::bigint, coalesce(m.other_currency, 0)
from payments p left join moved m using (payment_id)
"""
_STOCK = """
with movement as (
    select warehouse_id, product_id, sum(change) as moved, coalesce(sum(change) filter (where change > 0), 0) as received
    from stock_movements group by warehouse_id, product_id
), reserved as (
    select r.warehouse_id, l->>'product_id' as product_id,
           coalesce(sum((l->>'quantity')::bigint) filter (where r.status in ('RESERVED', 'HELD')), 0) as promised,
           coalesce(sum((l->>'quantity')::bigint) filter (where r.status = 'SHIPPED'), 0) as shipped
    from reservations r, jsonb_array_elements(r.lines) as l
    where r.status in ('RESERVED', 'HELD', 'SHIPPED') group by 1, 2
)
select warehouse_id, product_id, s.on_hand, s.reserved, coalesce(m.moved, 0)::bigint, coalesce(m.received, 0)::bigint,
       coalesce(r.promised, 0)::bigint, coalesce(r.shipped, 0)::bigint
from stock s full join movement m using (warehouse_id, product_id) full join reserved r using (warehouse_id, product_id)
"""
_RESERVATIONS = """
select r.order_id, r.status, r.expires_at, r.created_at, line.lines
from reservations r, lateral (
    select string_agg((l->>'product_id') || ' x ' || (l->>'quantity'), ', ' order by (l->>'product_id') collate "C") as lines
    from jsonb_array_elements(r.lines) as l
) as line
"""
_SHIPMENTS = "select order_id, status, asked, tracking_number, customer_id is null, created_at from shipments"
_NOTIFICATIONS = "select notification_id, order_id, kind, status, created_at, sent_at from notifications"
_EVENTS = """
select event_id, topic, envelope->>'type', key, seq, created_at, published_at, "partition", "offset" from outbox
where published_at is null or envelope->>'type' = any($1)
"""
_FACTS = """
select order_id, currency, total, refunded, placed_at, confirmed_at is not null, completed_at is not null,
       cancelled_at is not null
from orders
"""
_SUMS = """
with fact as (
    select currency, count(placed_at) as placed, count(confirmed_at) as confirmed, count(completed_at) as completed,
           count(cancelled_at) as cancelled, coalesce(sum(total) filter (where confirmed_at is not null), 0) as gross,
           coalesce(sum(refunded) filter (where confirmed_at is not null and cancelled_at is not null), 0) as refunds
    from orders group by currency
), sold as (
    select o.currency, sum(l.quantity) as quantity, sum(l.revenue) as revenue
    from orders o, jsonb_to_recordset(o.lines) as l (quantity int, revenue numeric)
    where o.confirmed_at is not null and o.cancelled_at is null group by o.currency
), day as (
    select currency, sum(placed) as placed, sum(confirmed) as confirmed, sum(completed) as completed,
           sum(cancelled) as cancelled, sum(gross) as gross, sum(refunds) as refunds
    from sales_by_day group by currency
), customer as (
    select currency, sum(orders) as placed, sum(revenue) as gross, sum(refunds) as refunds from customers group by currency
), product as (
    select currency, sum(quantity) as quantity, sum(revenue) as revenue from products_by_day group by currency
)
select v.kept_in, v.what, currency, coalesce(v.kept, 0)::numeric, coalesce(v.of_facts, 0)::numeric
from fact full join sold using (currency) full join day using (currency) full join customer using (currency)
     full join product using (currency),
lateral (values
    ('sales_by_day', 'orders placed', day.placed, fact.placed),
    ('sales_by_day', 'orders confirmed', day.confirmed, fact.confirmed),
    ('sales_by_day', 'orders completed', day.completed, fact.completed),
    ('sales_by_day', 'orders cancelled', day.cancelled, fact.cancelled),
    ('sales_by_day', 'revenue', day.gross, fact.gross),
    ('sales_by_day', 'refunds', day.refunds, fact.refunds),
    ('customers', 'orders placed', customer.placed, fact.placed),
    ('customers', 'revenue', customer.gross, fact.gross),
    ('customers', 'refunds', customer.refunds, fact.refunds),
    ('products_by_day', 'units sold', product.quantity, sold.quantity),
    ('products_by_day', 'revenue', product.revenue, sold.revenue)
) as v (kept_in, what, kept, of_facts)
"""


class Reader:
    """Reads the books, as often as one looks. An async context manager."""

    def __init__(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._results: dict[str, str] = {}
        """By run id: what a closed workflow returned. That never changes."""
        self._http: aiohttp.ClientSession
        self._temporal: Client

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        self._temporal = await connect(self._settings, lazy=True)
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
        if self._settings.mail_sink_url:
            outside[Source.MAIL_SINK] = self._read_mail_sink(books)
        else:
            books.absent = frozenset({Source.MAIL_SINK})
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
            books.orders = await _rows(database, OrderRow._make, _ORDERS)
            books.lines = await _rows(database, LineRow._make, _LINES)
            await self._read_outbox(database, Source.ORDER, books)

    async def _read_payment(self, books: Books) -> None:
        async with self._snapshot(Source.PAYMENT) as database:
            books.payments = await _rows(database, PaymentRow._make, _PAYMENTS)
            await self._read_outbox(database, Source.PAYMENT, books)

    async def _read_inventory(self, books: Books) -> None:
        async with self._snapshot(Source.INVENTORY) as database:
            books.stock = await _rows(database, StockRow._make, _STOCK)
            books.reservations = await _rows(database, ReservationRow._make, _RESERVATIONS)
            await self._read_outbox(database, Source.INVENTORY, books)

    async def _read_shipping(self, books: Books) -> None:
        async with self._snapshot(Source.SHIPPING) as database:
            books.shipments = await _rows(database, ShipmentRow._make, _SHIPMENTS)
            await self._read_outbox(database, Source.SHIPPING, books)

    async def _read_notification(self, books: Books) -> None:
        async with self._snapshot(Source.NOTIFICATION) as database:
            books.notifications = await _rows(database, NotificationRow._make, _NOTIFICATIONS)
            await self._read_outbox(database, Source.NOTIFICATION, books)

    async def _read_identity(self, books: Books) -> None:
        async with self._snapshot(Source.IDENTITY) as database:
            await self._read_outbox(database, Source.IDENTITY, books)

    async def _read_catalog(self, books: Books) -> None:
        async with self._snapshot(Source.CATALOG) as database:
            books.prices = await _rows(database, PriceRow._make, _PRICES)
            await self._read_outbox(database, Source.CATALOG, books)

    async def _read_analytics(self, books: Books) -> None:
        async with self._snapshot(Source.ANALYTICS) as database:
            books.facts = await _rows(database, FactRow._make, _FACTS)
            books.sums = await _rows(database, SumRow._make, _SUMS)
            books.inboxes[Source.ANALYTICS] = await _inbox(database)

    async def _read_outbox(self, database: asyncpg.Connection, service: Source, books: Books) -> None:
        heard = sorted({kind.__name__ for kinds in LISTENERS.values() for kind in kinds})
        books.events[service] = await _rows(database, EventRow._make, _EVENTS, heard)
        books.outbox_rows += await database.fetchval("select count(*) from outbox")
        if service in LISTENERS:
            books.inboxes[service] = await _inbox(database)

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
        url, key = self._settings.payment_provider_url, self._settings.payment_provider_api_key.get_secret_value()
        books.charges = [
            ChargeRow(
                row["reference"],
                row["id"],
                row["status"],
                row["currency"],
                row["amount"],
                row["captured_amount"],
                row["refunded_amount"],
                _time(row["created_at"]),
            )
            async for row in self._listed(f"{url}/v1/charges", key)
        ]

    async def _read_carrier(self, books: Books) -> None:
        url, key = self._settings.carrier_url, self._settings.carrier_api_key.get_secret_value()
        books.parcels = [
            ParcelRow(row["reference"], row["status"], row["tracking_number"], _time(row["created_at"]))
            async for row in self._listed(f"{url}/v1/shipments", key)
        ]

    async def _read_mail_sink(self, books: Books) -> None:
        key = self._settings.mail_sink_api_key
        url = f"{self._settings.mail_sink_url}/messages"
        books.mails = [
            MailRow(row["id"], row["message_id"], _time(row["received_at"]))
            async for row in self._listed(url, key.get_secret_value() if key else None)
        ]

    async def _listed(self, url: str, key: str | None) -> AsyncIterator[Mapping[str, Any]]:
        """The items of a list, page after page."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
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
        listed, stuck = (json.loads(fields[key.name].data) if key.name in fields else None for key in (ORDER_STATUS, STUCK_UNDO))
        return WorkflowRow(
            order_id=_order_id(info.execution.workflow_id),
            workflow_id=info.execution.workflow_id,
            run_id=info.execution.run_id,
            status=_status(info),
            started_at=_utc(info.start_time),
            closed_at=_utc(info.close_time) if info.HasField("close_time") else None,
            listed_as=listed,
            stuck_undo=stuck,
            result=self._results.get(info.execution.run_id),
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
                except (RPCError, WorkflowFailureError):
                    raise
                except Exception:  # whatever the converter says to a result of another shape
                    self._results[run_id] = NO_RESULT
                else:
                    self._results[run_id] = state.status if isinstance(state, OrderState) else NO_RESULT

        newest = [info.execution for info in completed[: self._settings.audit_results]]
        await asyncio.gather(*[read(run.workflow_id, run.run_id) for run in newest if run.run_id not in self._results])


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


async def _inbox(database: asyncpg.Connection) -> dict[UUID, datetime]:
    return dict(await _rows(database, tuple, "select event_id, applied_at from inbox"))


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
