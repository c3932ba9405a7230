"""Analytics on a fresh database, and orders whose events can be told in any order."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx2
import pytest_asyncio
from aiokafka import ConsumerRecord

from chassis.consumer import Consumer
from chassis.database import Database
from contracts.errors import ErrorCode
from contracts.events import (
    CloudEvent,
    Event,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderPartCancelled,
    OrderRefunded,
    ReturnCompleted,
)
from contracts.money import Money
from contracts.orders import OrderLine
from contracts.parcels import ParcelLine, Trouble
from contracts.returns import Resolution, ReturnKind, ReturnLine, ReturnReason, Settlement
from services.analytics.app import AnalyticsSettings, build
from services.analytics.consumers import subscription
from services.analytics.model import inbox
from tests.conftest import Databases, TokenMint, running_api


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("analytics"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def client(database: Database, mint: TokenMint) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_api(build(AnalyticsSettings(database_url=database.url)), mint) as client:
        yield client


def at(day: int, hour: int = 12) -> datetime:
    """A moment in October 2026."""
    return datetime(2026, 10, day, hour, tzinfo=UTC)


def line(product_id: str, quantity: int, price: str, currency: str = "USD") -> OrderLine:
    return OrderLine(
        product_id=product_id, name=product_id.title(), quantity=quantity, unit_price=Money(amount=price, currency=currency)
    )


@dataclass(frozen=True)
class Order:
    """One order and the envelopes that tell of it."""

    customer_id: UUID
    lines: tuple[OrderLine, ...]
    order_id: UUID

    @property
    def total(self) -> Money:
        total = Money.zero(self.lines[0].unit_price.currency)
        for each in self.lines:
            total += each.total
        return total

    def created(self, time: datetime) -> CloudEvent:
        event = OrderCreated(order_id=self.order_id, customer_id=self.customer_id, lines=self.lines, total=self.total)
        return envelope(event, time)

    def confirmed(self, time: datetime) -> CloudEvent:
        event = OrderConfirmed(order_id=self.order_id, customer_id=self.customer_id, lines=self.lines, total=self.total)
        return envelope(event, time)

    def completed(self, time: datetime, refunded: Money | None = None) -> CloudEvent:
        event = OrderCompleted(order_id=self.order_id, customer_id=self.customer_id, total=self.total, refunded=refunded)
        return envelope(event, time)

    def part_cancelled(self, time: datetime, place: int, first: int, units: int, refunded: str) -> CloudEvent:
        """Some units of a line, by its place from 1."""
        line = ParcelLine(line_id=place, product_id=self.lines[place - 1].product_id, quantity=units, first=first)
        event = OrderPartCancelled(
            order_id=self.order_id,
            customer_id=self.customer_id,
            total=self.total,
            parcel=1,
            lines=(line,),
            refunded=Money(amount=refunded, currency=self.total.currency),
        )
        return envelope(event, time)

    def returned(
        self,
        time: datetime,
        number: int,
        units: Sequence[tuple[int, int, int, ReturnReason]],
        refunded: str,
        kind: ReturnKind = ReturnKind.RETURN,
    ) -> CloudEvent:
        """Units: place of the line from 1, first, how many, why."""
        lines = tuple(
            ReturnLine(
                line_id=place, product_id=self.lines[place - 1].product_id, quantity=many, first=first, parcel=1, reason=reason
            )
            for place, first, many, reason in units
        )
        back, nothing = Money(amount=refunded, currency=self.total.currency), Money.zero(self.total.currency)
        event = ReturnCompleted(
            order_id=self.order_id,
            customer_id=self.customer_id,
            number=number,
            kind=kind,
            resolution=Resolution.REFUND,
            lines=lines,
            settlement=Settlement(goods=back, restocking=nothing, label=nothing, value=back, of_credit=nothing),
            refunded=back,
        )
        return envelope(event, time)

    def refunded(self, time: datetime) -> CloudEvent:
        event = OrderRefunded(
            order_id=self.order_id, customer_id=self.customer_id, total=self.total, refunded=self.total, trouble=Trouble.LOST
        )
        return envelope(event, time)

    def cancelled(
        self,
        time: datetime,
        *,
        was_confirmed: bool,
        refunded: Money | None = None,
        code: ErrorCode | None = ErrorCode.CANCELLED_BY_REQUEST,
    ) -> CloudEvent:
        event = OrderCancelled(
            order_id=self.order_id,
            customer_id=self.customer_id,
            total=self.total,
            refunded=refunded or Money.zero(self.total.currency),
            was_confirmed=was_confirmed,
            code=code,
        )
        return envelope(event, time)


def order(*lines: OrderLine, customer_id: UUID | None = None) -> Order:
    return Order(customer_id or uuid4(), lines, uuid4())


def envelope(event: Event, time: datetime) -> CloudEvent:
    return CloudEvent(
        id=uuid4(),
        source="/services/order",
        type=type(event).__name__,
        subject=event.key,
        time=time,
        partitionkey=event.key,
        data=event.model_dump(mode="json"),
    )


async def consume(database: Database, envelopes: Sequence[CloudEvent]) -> None:
    """Apply events as the consumer does: one batch, one transaction."""
    settings = AnalyticsSettings(database_url=database.url, consumer_attempts=1, kafka_bootstrap_servers="127.0.0.1:1")
    await Consumer("analytics", subscription, database, inbox, settings).apply([_record(each) for each in envelopes])


def _record(envelope: CloudEvent) -> ConsumerRecord:
    value = envelope.model_dump_json().encode()
    return ConsumerRecord("order-events", 0, 0, 0, 0, envelope.partitionkey.encode(), value, None, 0, len(value), ())
