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
    BackRow,
    Books,
    ChargeRow,
    DeliveryRow,
    DiscountUsesRow,
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
    WorkflowRow,
)
from contracts.events import (
    CustomerForgotten,
    EmailVerified,
    Event,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderForgotten,
    OrderRefunded,
    OrderUndelivered,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentLost,
    ShipmentReturned,
)
from contracts.ids import order_workflow_id, parcel_reference, payment_reference, return_reference
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.parcels import Trouble

NOW = datetime.now(UTC)
EARLIER = NOW - timedelta(minutes=10)
TOTAL = 1_250
QUANTITY = 2
PLACE = ("410", "milk")
ELSEWHERE = ("411", "milk")
CODE = "SPRING"
CORRECTED, TRANSFERRED = -3, 10
"""Units: three were lost, and ten went elsewhere."""

S, T = OrderStatus, Trouble
CONFIRMED = frozenset({S.CONFIRMED, S.SHIPPED, S.UNDELIVERED, S.DELIVERED, S.COMPLETED, S.REFUNDED})
LEFT = frozenset({S.SHIPPED, S.DELIVERED, S.COMPLETED, S.REFUNDED})
SHIPMENT = {
    S.CONFIRMED: "BOOKED", S.SHIPPED: "DISPATCHED", S.COMPLETED: "DELIVERED",
    T.NOT_PICKED_UP: "BOOKED", T.SILENT: "IN_TRANSIT", T.LOST: "LOST", T.RETURNED: "RETURNED",
}  # fmt: skip
CARRIED = {
    S.CONFIRMED: "booked", S.SHIPPED: "in_transit", S.COMPLETED: "delivered",
    T.NOT_PICKED_UP: "booked", T.SILENT: "in_transit", T.LOST: "lost", T.RETURNED: "returned",
}  # fmt: skip
PATHS: dict[OrderStatus, tuple[OrderStatus, ...]] = {
    S.PENDING: (),
    S.RESERVED: (S.RESERVED,),
    S.PAYMENT_DUE: (S.RESERVED, S.PAYMENT_DUE),
    S.ACTION_REQUIRED: (S.RESERVED, S.ACTION_REQUIRED),
    S.IN_REVIEW: (S.RESERVED, S.IN_REVIEW),
    S.PAID: (S.RESERVED, S.PAID),
    S.CONFIRMED: (S.RESERVED, S.PAID, S.CONFIRMED),
    S.SHIPPED: (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED),
    S.UNDELIVERED: (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED),
    S.REFUNDED: (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.UNDELIVERED, S.REFUNDED),
    S.DELIVERED: (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED),
    S.CANCELLING: (S.CANCELLING,),
    S.COMPLETED: (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED),
}


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
        trouble: Trouble | None = None,
        was_confirmed: bool = False,
        declined: bool = False,
        at: datetime = EARLIER,
        total: int = TOTAL,
        customer: UUID | None = None,
    ) -> UUID:
        """An order that came so far. A cancelled one was refused, or cancelled when it was confirmed; one that is undelivered or
        was refunded has a parcel in `trouble`."""
        order_id = uuid4()
        confirmed = status in CONFIRMED or was_confirmed
        paid = status in CONFIRMED or status == S.PAID
        gave_back = was_confirmed or status == S.REFUNDED
        refunded = total if gave_back else 0
        code = _code(status, was_confirmed=was_confirmed, declined=declined)
        told = (S.CONFIRMED if confirmed else S.CANCELLING if code else None), None if confirmed else code
        self._add(
            "orders",
            OrderRow(
                order_id, customer or self._customer, status, "USD", total, refunded, code, trouble, *told, False,
                _path(status, trouble, was_confirmed=was_confirmed), at, at if confirmed else None, at,
                Decimal(total) / 100, f"milk x {QUANTITY}", True, *_sums(status, total),
            ),
        )  # fmt: skip
        is_held = status != S.CANCELLED
        self._add("redemptions", RedemptionRow(order_id, CODE, 100, "USD", is_held, Decimal("1.00"), "USD"))
        self._counts.update(uses=int(is_held))
        unit_price = total // QUANTITY
        self._add("lines", LineRow(order_id, PLACE[1], Decimal(unit_price) / 100, "USD"))
        self._add("prices", PriceRow(PLACE[1], unit_price, "USD", at - timedelta(hours=1), None))
        final = status in FINAL_STATUSES
        workflow = WorkflowRow(
            order_id, order_workflow_id(order_id), str(uuid4()), "COMPLETED" if final else "RUNNING", at, at if final else None,
            status, code, None, status if final else None, code if final else None,
        )  # fmt: skip
        self._add("workflows", workflow)
        self._pay(order_id, status, total, paid=paid, refunded=gave_back, declined=declined, at=at)
        self._reserve(order_id, status, trouble, was_confirmed or declined, at)
        self._send(order_id, trouble or status, was_confirmed, at)
        self._tell(order_id, status, trouble, confirmed, at)
        if confirmed:
            self._mail(order_id, at)
        kept = status in CONFIRMED and status != S.REFUNDED
        self._counts.update(
            placed=1,
            confirmed=int(confirmed),
            completed=int(status == S.COMPLETED),
            cancelled=int(status == S.CANCELLED),
            gross=total if confirmed else 0,
            refunds=refunded,
            units=QUANTITY if kept else 0,
            sold=total if kept else 0,
        )
        self._add(
            "facts",
            FactRow(
                order_id, "USD", total, refunded, at, confirmed, status == S.COMPLETED,
                status == S.CANCELLED, status == S.REFUNDED, code,
            ),
        )  # fmt: skip
        return order_id

    def come_back(self, order_id: UUID) -> None:
        """A return of one unit that came back damaged, one that is expected, and one that was cancelled."""
        back = f"{PLACE[1]}: 0 + 1"
        self._add("received", ReceivedRow(order_id, 1, back, EARLIER))
        self._add("return_facts", ReturnFactRow(order_id, 1, "USD", 0))
        self._add("back", BackRow(order_id, PLACE[1], QUANTITY, 1))
        ways = (
            ("COMPLETED", back, "DELIVERED", "delivered"),
            ("APPROVED", None, "BOOKED", "booked"),
            ("CANCELLED", None, "CANCELLED", "cancelled"),
        )
        for number, (status, came, ours, carried) in enumerate(ways, start=1):
            tracking = f"RET{number} {order_id.hex}"
            known = tracking if status != "CANCELLED" else None
            self._add("returns", ReturnRow(order_id, number, "return", status, known, came, EARLIER))
            self._add("labels", ShipmentRow(order_id, number, ours, "none", tracking, False, EARLIER))
            self._add("parcels", ParcelRow(return_reference(order_id, number), carried, tracking, EARLIER))

    def forget(self) -> None:
        """A customer with an order that was delivered and one that was refused is forgotten."""
        customer = uuid4()
        ended = [self.place(S.COMPLETED, customer=customer), self.place(S.CANCELLED, declined=True, customer=customer)]
        self._happened(Source.IDENTITY, CustomerForgotten, str(customer))
        self._add("forgotten", ForgottenRow(customer, EARLIER, None))
        self._add("keys", KeyRow(customer, EARLIER, False, True))
        for order_id in ended:
            self._happened(Source.ORDER, OrderForgotten, str(order_id))
            for table in ("orders", "payments", "shipments"):
                if any(row.order_id == order_id for row in self._rows[table]):
                    change(self._rows[table], of(order_id), names_person=False)

    def give_back(self, order_id: UUID, back: int = 500, *, at: datetime = EARLIER) -> None:
        """A return of a completed order, which is completed, too."""
        reference = payment_reference(order_id, 1)
        payments, charges = self._rows["payments"], self._rows["charges"]
        for n, row in enumerate(payments):
            if row.order_id == order_id:
                provider = row.ledger_provider - back
                payments[n] = row._replace(refunded=back, refunded_moved=back, ledger_provider=provider)
        for n, row in enumerate(charges):
            if row.reference == reference:
                charges[n] = row._replace(refunded=back)
        refund = RefundRow(reference, f"re_{order_id.hex}", "SUCCEEDED", back, "USD", at, "return-1")
        self._add("refunds", refund)
        self._add("provider_refunds", refund._replace(state="succeeded", key=""))
        value = Decimal(back) / 100
        self._add("returns", ReturnRow(order_id, 1, "return", "COMPLETED", None, None, at, "USD", value, back))
        self._add("return_refunds", ReturnRefundRow(order_id, "return-1", back, back))
        self._add("return_facts", ReturnFactRow(order_id, 1, "USD", back))

    def books(self) -> Books:
        """What an audit would read."""
        rows = self._rows
        counts = Counter(row.status for row in rows.get("reservations", ()))
        open_, back = counts["RESERVED"] * QUANTITY, counts["RESTOCKED"] * QUANTITY
        gone = counts["SHIPPED"] * QUANTITY + back
        received = open_ + gone + 50
        damaged = len(rows.get("received", ()))
        on_hand = received - gone + back + CORRECTED - TRANSFERRED
        sums = self._counts
        kept = [
            ("sales_by_day", "orders placed", sums["placed"]),
            ("sales_by_day", "orders confirmed", sums["confirmed"]),
            ("sales_by_day", "revenue (minor units)", sums["gross"]),
            ("customers", "refunds (minor units)", sums["refunds"]),
            ("products_by_day", "units sold", sums["units"]),
        ]
        tables: dict[str, Any] = {name: [] for name in ("disputes", "provider_disputes", "debts", "returns", "return_refunds")}
        tables |= {name: list(found) for name, found in rows.items()}
        return Books(
            NOW,
            **tables,
            discount_uses=[DiscountUsesRow(CODE, sums["uses"], sums["uses"]), DiscountUsesRow("UNUSED", 0, 0)],
            stock=[
                StockRow(
                    *PLACE, on_hand, open_, on_hand, received, CORRECTED, -TRANSFERRED, open_, gone, back, 0, damaged, damaged
                ),
                StockRow(*ELSEWHERE, TRANSFERRED, 0, TRANSFERRED, 0, 0, TRANSFERRED, 0, 0, 0),
            ],
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
                PaymentRow(
                    *(order_id, 1, reference, ours, "USD", total, back, provider_id, False, total, total, back, 0, 0),
                    authorized=total,
                    captured=total,
                    ledger_provider=total - back,
                ),
            )
            self._add("charges", ChargeRow(reference, provider_id, theirs, "USD", total, total, back, at))
            if back:
                refund = RefundRow(reference, f"re_{order_id.hex}", "SUCCEEDED", back, "USD", at, "undo")
                self._add("refunds", refund)
                self._add("provider_refunds", refund._replace(state="succeeded", key=""))
        elif status == S.IN_REVIEW:
            self._add(
                "payments",
                PaymentRow(
                    *(order_id, 1, reference, "AUTHORIZED", "USD", total, 0, provider_id, False, total, 0, 0, 0, 0),
                    authorized=total,
                    ledger_held=total,
                ),
            )
            self._add("charges", ChargeRow(reference, provider_id, "authorized", "USD", total, 0, 0, at))
        elif status == S.ACTION_REQUIRED:
            waiting = PaymentRow(
                *(order_id, 1, reference, "ACTION_REQUIRED", "USD", total, 0, provider_id, False, 0, 0, 0, 0, 0),
            )
            self._add("payments", waiting)
            self._add("charges", ChargeRow(reference, provider_id, "action_required", "USD", total, 0, 0, at))
        elif declined:
            self._add("payments", PaymentRow(order_id, 1, reference, "DECLINED", "USD", total, 0, None, False, 0, 0, 0, 0, 0))
            self._add("charges", ChargeRow(reference, provider_id, "declined", "USD", total, 0, 0, at))

    def _reserve(self, order_id: UUID, status: OrderStatus, trouble: Trouble | None, was_reserved: bool, at: datetime) -> None:
        lines = f"milk x {QUANTITY}"
        match status:
            case S.PENDING:
                return
            case S.CANCELLED:
                row = ReservationRow(order_id, 1, "RELEASED", at, lines if was_reserved else None)
            case S.REFUNDED if trouble == T.RETURNED:
                row = ReservationRow(order_id, 1, "RESTOCKED", at, lines)
            case _ if status in LEFT or trouble not in (None, T.NOT_PICKED_UP):
                row = ReservationRow(order_id, 1, "SHIPPED", at, lines)
            case _:
                row = ReservationRow(order_id, 1, "RESERVED", at, lines)
        self._add("reservations", row)

    def _send(self, order_id: UUID, status: OrderStatus | Trouble, was_confirmed: bool, at: datetime) -> None:
        ours, carried = ("CANCELLED", "cancelled") if was_confirmed else (SHIPMENT.get(status), CARRIED.get(status))
        if ours and carried:
            self._add("shipments", ShipmentRow(order_id, 1, ours, "none", f"TRK{order_id.hex}", False, at))
            self._add("parcels", ParcelRow(parcel_reference(order_id, 1), carried, f"TRK{order_id.hex}", at))

    def _tell(self, order_id: UUID, status: OrderStatus, trouble: Trouble | None, confirmed: bool, at: datetime) -> None:
        key = str(order_id)
        self._happened(Source.ORDER, OrderCreated, key, at)
        if confirmed:
            self._happened(Source.ORDER, OrderConfirmed, key, at)
        if status in LEFT or trouble not in (None, T.NOT_PICKED_UP):
            self._happened(Source.SHIPPING, ShipmentDispatched, key, at)
        if trouble in (T.LOST, T.RETURNED):
            self._happened(Source.SHIPPING, ShipmentLost if trouble == T.LOST else ShipmentReturned, key, at)
        if trouble:
            self._happened(Source.ORDER, OrderUndelivered, key, at)
        if status == S.COMPLETED:
            self._happened(Source.SHIPPING, ShipmentDelivered, key, at)
        ends: dict[OrderStatus, type[Event]] = {
            S.COMPLETED: OrderCompleted,
            S.CANCELLED: OrderCancelled,
            S.REFUNDED: OrderRefunded,
        }
        if status in ends:
            self._happened(Source.ORDER, ends[status], key, at)

    def _happened(self, producer: Source, kind: type[Event], key: str, at: datetime = EARLIER) -> None:
        event_id, offset = uuid7(at), next(self._offsets)
        event = EventRow(event_id, kind.topic, kind.__name__, key, offset, at, at, 0, offset)
        self._events[producer].append(event)
        for listener, kinds in LISTENERS.items():
            if kind in kinds:
                self._applied[listener][event_id] = at + timedelta(milliseconds=100)

    def _mail(self, order_id: UUID, at: datetime) -> None:
        notification_id = uuid4()
        self._add("notifications", NotificationRow(notification_id, order_id, "order_confirmed", "SENT", at))
        self._add("deliveries", DeliveryRow(notification_id, notification_id, "email", "SENT", 1, 1, at))
        number = len(self._rows.get("mails", ())) + 1
        self._add("mails", MailRow(number, f"<{notification_id}@shop.example>", at))
        sms, pushed = uuid7(at), uuid7(at)
        self._add("deliveries", DeliveryRow(sms, notification_id, "sms", "DELIVERED", 1, 1, at, f"SM{sms.hex}"))
        self._add("sms", MessageRow(f"SM{sms.hex}", str(sms), "arrived", at, at))
        self._add("deliveries", DeliveryRow(pushed, notification_id, "push", "SENT", 1, 1, at))
        self._add("pushed", MessageRow(uuid4().hex, pushed.hex, "on its way", at, at))

    def _add(self, table: str, row: tuple[Any, ...]) -> None:
        self._rows.setdefault(table, []).append(row)


def every_kind() -> Books:
    """One order of each kind at rest."""
    shop = Shop()
    for status in (S.ACTION_REQUIRED, S.IN_REVIEW, S.CONFIRMED, S.SHIPPED, S.COMPLETED, S.CANCELLED):
        shop.place(status)
    for trouble in Trouble:
        shop.place(S.UNDELIVERED, trouble=trouble)
    for trouble in (T.LOST, T.RETURNED):
        shop.place(S.REFUNDED, trouble=trouble)
    shop.place(S.CANCELLED, was_confirmed=True)
    shop.place(S.CANCELLED, declined=True)
    shop.give_back(shop.place(S.COMPLETED))
    shop.forget()
    shop.come_back(shop.place(S.COMPLETED))
    return shop.books()


def at_place(row: StockRow) -> bool:
    """Where orders are filled."""
    return (row.warehouse_id, row.product_id) == PLACE


def send_again(books: Books, order: OrderRow) -> None:
    """Its parcel was lost; the goods were reserved once more, and lie in a second parcel."""
    order_id = order.order_id
    change(books.orders, of(order_id), status=S.CONFIRMED, trouble=None, path=(*order.path, S.CONFIRMED))
    change(books.workflows, of(order_id), listed_as="CONFIRMED")
    add(books.reservations, ReservationRow(order_id, 2, "RESERVED", EARLIER, f"milk x {QUANTITY}"))
    stock = books.stock[0]
    change(books.stock, at_place, reserved=(stock.reserved or 0) + QUANTITY, promised=stock.promised + QUANTITY)
    add(books.shipments, ShipmentRow(order_id, 2, "BOOKED", "none", "TRK2", False, EARLIER))
    add(books.parcels, ParcelRow(parcel_reference(order_id, 2), "booked", "TRK2", EARLIER))


def uuid7(at: datetime) -> UUID:
    """An id of version 7, made at that time."""
    rest = uuid4().int & ~(0xFFFF_FFFF_FFFF << 80) & ~(0xF << 76)
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | rest)


def the(books: Books, status: OrderStatus, *, refunded: bool | None = None, trouble: Trouble | None = None) -> OrderRow:
    """The first order at this status: one that was or was not refunded, or whose parcel is in this trouble, if that is said."""
    return next(
        row
        for row in books.orders
        if row.status == status and refunded in (None, bool(row.refunded_minor)) and trouble in (None, row.trouble)
    )


def of(order_id: UUID) -> Callable[[Any], bool]:
    """Rows of this order."""
    return lambda row: bool(row.order_id == order_id)


def by_reference(order_id: UUID) -> Callable[[Any], bool]:
    """Rows of this order in the books of the outside world."""
    return lambda row: bool(row.reference.startswith(str(order_id)))


def everything(row: object) -> bool:
    """All rows."""
    return True


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


def _sums(status: OrderStatus, total: int) -> tuple[tuple[Decimal, ...] | None, tuple[int | None, ...]]:
    """What an order's charges say, and its lines. Some are from before there were charges."""
    if status == S.IN_REVIEW:
        return None, (None,) * 5
    amounts = (total, 0, 0, 0, total)
    return tuple(Decimal(amount) / 100 for amount in amounts), amounts


def _code(status: OrderStatus, *, was_confirmed: bool, declined: bool) -> str | None:
    if status != S.CANCELLED:
        return None
    return "cancelled_by_request" if was_confirmed else "payment_declined" if declined else "out_of_stock"


def _path(status: OrderStatus, trouble: Trouble | None, *, was_confirmed: bool) -> tuple[str, ...]:
    if status == S.CANCELLED:
        went = (*(PATHS[S.CONFIRMED] if was_confirmed else ()), S.CANCELLING, S.CANCELLED)
    else:
        went = tuple(passed for passed in PATHS[status] if passed != S.SHIPPED or trouble != T.NOT_PICKED_UP)
    return tuple(passed.value for passed in (S.PENDING, *went))
