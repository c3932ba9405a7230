"""A shop whose books are right: every order leaves in every book what the real services would leave there."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from audit.books import (
    LISTENERS,
    PRODUCERS,
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
from contracts.events import (
    EmailVerified,
    Event,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    ShipmentDelivered,
    ShipmentDispatched,
)
from contracts.ids import order_workflow_id, payment_reference
from contracts.orders import FINAL_STATUSES, OrderStatus

NOW = datetime.now(UTC)
EARLIER = NOW - timedelta(minutes=10)
TOTAL = 1_250
QUANTITY = 2
PLACE = ("410", "milk")

S = OrderStatus
CONFIRMED = frozenset({S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED})
SHIPMENT = {S.CONFIRMED: "BOOKED", S.SHIPPED: "DISPATCHED", S.COMPLETED: "DELIVERED"}
PARCEL = {S.CONFIRMED: "booked", S.SHIPPED: "picked_up", S.COMPLETED: "delivered"}


class Shop:
    """Place orders, then take `books()`."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {}
        self._events: dict[Source, list[EventRow]] = {producer: [] for producer in PRODUCERS}
        self._applied: dict[Source, dict[UUID, datetime]] = {listener: {} for listener in LISTENERS}
        self._offsets = count()
        self._counts: Counter[str] = Counter()
        self._customer = uuid4()
        self._happened(Source.IDENTITY, EmailVerified, str(self._customer))

    def place(
        self,
        status: OrderStatus,
        *,
        was_confirmed: bool = False,
        declined: bool = False,
        at: datetime = EARLIER,
        total: int = TOTAL,
    ) -> UUID:
        """An order that came so far. A cancelled one was refused, or cancelled when it was confirmed."""
        order_id, run_id = uuid4(), str(uuid4())
        confirmed = status in CONFIRMED or was_confirmed
        paid = status in CONFIRMED or status == S.PAID
        refunded = total if was_confirmed else 0
        self._add(
            "orders",
            OrderRow(
                order_id, self._customer, status, "USD", total, refunded, run_id, at, at if confirmed else None, at,
                Decimal(total) / 100, f"milk x {QUANTITY}",
            ),
        )  # fmt: skip
        unit_price = Decimal(total) / 100 / QUANTITY
        self._add("lines", LineRow(order_id, PLACE[1], unit_price, "USD"))
        self._add("prices", PriceRow(PLACE[1], unit_price, "USD", at - timedelta(hours=1), None))
        final = status in FINAL_STATUSES
        workflow = WorkflowRow(
            order_id, order_workflow_id(order_id), run_id, "COMPLETED" if final else "RUNNING", at, at if final else None,
            status, None, status if final else None,
        )  # fmt: skip
        self._add("workflows", workflow)
        self._pay(order_id, status, total, paid=paid, refunded=was_confirmed, declined=declined, at=at)
        self._reserve(order_id, status, was_confirmed or declined, at)
        self._send(order_id, status, was_confirmed, at)
        self._tell(order_id, status, confirmed, at)
        if confirmed:
            self._mail(order_id, at)
        self._counts.update(
            placed=1,
            confirmed=int(confirmed),
            completed=int(status == S.COMPLETED),
            cancelled=int(status == S.CANCELLED),
            gross=total if confirmed else 0,
            refunds=refunded,
            units=QUANTITY if status in CONFIRMED else 0,
            sold=total if status in CONFIRMED else 0,
        )
        self._add(
            "facts",
            FactRow(
                order_id, "USD", Decimal(total) / 100, Decimal(refunded) / 100, at, confirmed, status == S.COMPLETED,
                status == S.CANCELLED,
            ),
        )  # fmt: skip
        return order_id

    def books(self) -> Books:
        """What an audit would read."""
        rows = self._rows
        open_ = sum(QUANTITY for row in rows.get("reservations", ()) if row.status in ("RESERVED", "HELD"))
        gone = sum(QUANTITY for row in rows.get("reservations", ()) if row.status == "SHIPPED")
        received = open_ + gone + 50
        sums = self._counts
        money = {name: Decimal(sums[name]) / 100 for name in ("gross", "refunds", "sold")}
        kept = [
            ("sales_by_day", "orders placed", Decimal(sums["placed"])),
            ("sales_by_day", "orders confirmed", Decimal(sums["confirmed"])),
            ("sales_by_day", "revenue", money["gross"]),
            ("customers", "refunds", money["refunds"]),
            ("products_by_day", "units sold", Decimal(sums["units"])),
        ]
        tables: dict[str, Any] = {name: list(found) for name, found in rows.items()}
        return Books(
            NOW,
            **tables,
            stock=[StockRow(*PLACE, received - gone, open_, received - gone, received, open_, gone)],
            events={producer: list(events) for producer, events in self._events.items()},
            outbox_rows=sum(map(len, self._events.values())),
            inboxes={listener: dict(applied) for listener, applied in self._applied.items()},
            sums=[SumRow(table, what, "USD", value, value) for table, what, value in kept],
        )

    def _pay(
        self, order_id: UUID, status: OrderStatus, total: int, *, paid: bool, refunded: bool, declined: bool, at: datetime
    ) -> None:
        reference, provider_id = payment_reference(order_id, 1), f"ch_{order_id.hex}"
        if paid or refunded:
            back = total if refunded else 0
            ours, theirs = ("REFUNDED", "refunded") if refunded else ("CAPTURED", "captured")
            self._add(
                "payments",
                PaymentRow(order_id, 1, reference, ours, "USD", total, back, provider_id, False, 0, total, back, 0, 0),
            )
            self._add("charges", ChargeRow(reference, provider_id, theirs, "USD", total, total, back, at))
        elif status == S.IN_REVIEW:
            self._add(
                "payments",
                PaymentRow(order_id, 1, reference, "AUTHORIZED", "USD", total, 0, provider_id, False, total, 0, 0, 0, 0),
            )
            self._add("charges", ChargeRow(reference, provider_id, "authorized", "USD", total, 0, 0, at))
        elif declined:
            self._add("payments", PaymentRow(order_id, 1, reference, "DECLINED", "USD", total, 0, None, False, 0, 0, 0, 0, 0))
            self._add("charges", ChargeRow(reference, provider_id, "declined", "USD", total, 0, 0, at))

    def _reserve(self, order_id: UUID, status: OrderStatus, was_reserved: bool, at: datetime) -> None:
        lines = f"milk x {QUANTITY}"
        match status:
            case S.PENDING:
                return
            case S.CANCELLED:
                row = ReservationRow(order_id, "RELEASED", None, at, lines if was_reserved else None)
            case S.SHIPPED | S.DELIVERED | S.COMPLETED:
                row = ReservationRow(order_id, "SHIPPED", None, at, lines)
            case S.CONFIRMED:
                row = ReservationRow(order_id, "HELD", None, at, lines)
            case _:
                row = ReservationRow(order_id, "HELD", NOW + timedelta(hours=1), at, lines)
        self._add("reservations", row)

    def _send(self, order_id: UUID, status: OrderStatus, was_confirmed: bool, at: datetime) -> None:
        if status in SHIPMENT:
            self._add("shipments", ShipmentRow(order_id, SHIPMENT[status], "nothing", f"TRK{order_id.hex}", False, at))
            self._add("parcels", ParcelRow(str(order_id), PARCEL[status], f"TRK{order_id.hex}", at))
        elif was_confirmed:
            self._add("shipments", ShipmentRow(order_id, "CANCELLED", "nothing", f"TRK{order_id.hex}", False, at))
            self._add("parcels", ParcelRow(str(order_id), "cancelled", f"TRK{order_id.hex}", at))

    def _tell(self, order_id: UUID, status: OrderStatus, confirmed: bool, at: datetime) -> None:
        key = str(order_id)
        self._happened(Source.ORDER, OrderCreated, key, at)
        if confirmed:
            self._happened(Source.ORDER, OrderConfirmed, key, at)
        if status in (S.SHIPPED, S.COMPLETED):
            self._happened(Source.SHIPPING, ShipmentDispatched, key, at)
        if status == S.COMPLETED:
            self._happened(Source.SHIPPING, ShipmentDelivered, key, at)
            self._happened(Source.ORDER, OrderCompleted, key, at)
        if status == S.CANCELLED:
            self._happened(Source.ORDER, OrderCancelled, key, at)

    def _happened(self, producer: Source, kind: type[Event], key: str, at: datetime = EARLIER) -> None:
        event_id, offset = uuid7(at), next(self._offsets)
        event = EventRow(event_id, kind.topic, kind.__name__, key, offset, at, at, 0, offset)
        self._events[producer].append(event)
        for listener, kinds in LISTENERS.items():
            if kind in kinds:
                self._applied[listener][event_id] = at + timedelta(milliseconds=100)

    def _mail(self, order_id: UUID, at: datetime) -> None:
        notification_id = uuid4()
        self._add("notifications", NotificationRow(notification_id, order_id, "order_confirmed", "SENT", at, at))
        number = len(self._rows.get("mails", ())) + 1
        self._add("mails", MailRow(number, f"<{notification_id}@shop.example>", at))

    def _add(self, table: str, row: tuple[Any, ...]) -> None:
        self._rows.setdefault(table, []).append(row)


def every_kind() -> Books:
    """One order of each kind at rest."""
    shop = Shop()
    for status in (S.IN_REVIEW, S.CONFIRMED, S.SHIPPED, S.COMPLETED, S.CANCELLED):
        shop.place(status)
    shop.place(S.CANCELLED, was_confirmed=True)
    shop.place(S.CANCELLED, declined=True)
    return shop.books()


def uuid7(at: datetime) -> UUID:
    """An id of version 7, made at that time."""
    rest = uuid4().int & ~(0xFFFF_FFFF_FFFF << 80) & ~(0xF << 76)
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | rest)


def the(books: Books, status: OrderStatus, *, refunded: bool = False) -> OrderRow:
    """The order at this status."""
    return next(row for row in books.orders if row.status == status and bool(row.refunded_minor) == refunded)


def add(rows: Any, row: object) -> None:
    """Add a row to a table."""
    rows.append(row)


def unapply(books: Books, listener: Source, event: EventRow) -> None:
    """The event has had no effect there."""
    applied: Any = books.inboxes[listener]
    del applied[event.event_id]


def change(rows: Any, which: Callable[[Any], bool], **fields: Any) -> None:
    """Change the rows of a table that are meant; at least one is."""
    positions = [position for position, row in enumerate(rows) if which(row)]
    assert positions
    for position in positions:
        rows[position] = rows[position]._replace(**fields)


def remove(rows: Any, which: Callable[[Any], bool]) -> None:
    """Remove the rows of a table that are meant; at least one is."""
    kept = [row for row in rows if not which(row)]
    assert len(kept) < len(rows)
    rows[:] = kept
