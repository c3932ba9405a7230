"""The order's record: where its saga told that it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.orders import NEXT_STATUS, AdvanceOrder, Amendment, OrderAdvanced, OrderStatus, Outcome, PlaceOrder
from contracts.parcels import OrderParcel, Trouble
from contracts.payment_actions import ActionDue

ON_ITS_WAY = frozenset(
    {
        OrderStatus.CONFIRMED,
        OrderStatus.PARTIALLY_SHIPPED,
        OrderStatus.SHIPPED,
        OrderStatus.DELIVERED,
        OrderStatus.COMPLETED,
    }
)
"""Once an order is in one of these, the trouble with its parcels is over."""
EVENTS = {
    OrderStatus.ACTION_REQUIRED: "OrderActionRequired",
    OrderStatus.CONFIRMED: "OrderConfirmed",
    OrderStatus.UNDELIVERED: "OrderUndelivered",
    OrderStatus.REFUNDED: "OrderRefunded",
    OrderStatus.COMPLETED: "OrderCompleted",
    OrderStatus.CANCELLED: "OrderCancelled",
}


@dataclass
class Record:
    """One order's row."""

    total: Money
    history: list[OrderStatus] = field(default_factory=lambda: [OrderStatus.PENDING])
    events: list[str] = field(default_factory=lambda: ["OrderCreated"])
    code: ErrorCode | None = None
    trouble: Trouble | None = None
    refunded: Money | None = None
    outcome: Outcome | None = None
    parcels: tuple[OrderParcel, ...] = ()
    """As its saga told them; none, if there is no more to tell than one parcel of everything."""
    action: ActionDue | None = None
    """What its customer has to do to pay."""
    as_of: datetime | None = None
    """When its saga knew what it told last."""
    amended: dict[int, ErrorCode | None] = field(default_factory=dict)
    """Amendments that were answered, by number: why one came to nothing."""
    closed: Money | None = None
    """What went back and is no part of `refunded`, because the order was amended since."""

    @property
    def status(self) -> OrderStatus:
        return self.history[-1]


class Orders:
    """The order service's table."""

    def __init__(self) -> None:
        self.records: dict[UUID, Record] = {}
        self.amendments: dict[tuple[UUID, int], Amendment] = {}
        self.advances: list[AdvanceOrder] = []
        self.watchers: list[Callable[[AdvanceOrder], None]] = []
        """Who is told of what changed a record."""

    def accept(self, order: PlaceOrder) -> Record:
        """The row that exists before the saga does."""
        return self.records.setdefault(order.order_id, Record(order.total))

    def advance(self, command: AdvanceOrder) -> OrderAdvanced:
        """Walk the path, as far as it is new. Refusals: order_unknown, illegal_transition."""
        record = self.records.get(command.order_id)
        if record is None:
            raise Refusal(ErrorCode.ORDER_UNKNOWN, "This order was never placed.")
        ahead = self.ahead(record, command)
        if command.outcome and command.outcome.is_definite:
            record.outcome = record.outcome or command.outcome
        at = record.status
        for status in ahead:
            if status not in NEXT_STATUS[at]:
                raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"An order that is {at} cannot become {status}.")
            at = status
        if ahead and at in (OrderStatus.UNDELIVERED, OrderStatus.REFUNDED) and not (command.trouble or record.trouble):
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "What keeps the parcel from arriving was not told.")
        if not ahead and not self._is_news(record, command):
            return OrderAdvanced(order_id=command.order_id, status=record.status, outcome=record.outcome)
        if command.refunded is not None:
            record.refunded = Money.zero(record.total.currency) + command.refunded
        record.history += ahead
        record.trouble = command.trouble or (None if at in ON_ITS_WAY else record.trouble)
        record.events += [EVENTS[status] for status in ahead if status in EVENTS]
        record.code = command.code or record.code
        record.parcels = command.parcels or record.parcels
        record.action = (command.action or record.action) if at == OrderStatus.ACTION_REQUIRED else None
        record.as_of = command.as_of or record.as_of
        self._amend(record, command)
        self.advances.append(command)
        for watcher in self.watchers:
            watcher(command)
        return OrderAdvanced(order_id=command.order_id, status=record.status, outcome=record.outcome)

    def ask_amendment(self, order_id: UUID, amendment: Amendment) -> None:
        """The row that exists before the saga hears of it."""
        self.amendments[order_id, amendment.number] = amendment

    def _amend(self, record: Record, command: AdvanceOrder) -> None:
        """Take over what an amendment comes to, once."""
        told = command.amendment
        if told is None or told.number in record.amended:
            return
        record.amended[told.number] = told.code
        record.closed = record.closed + told.closed if record.closed else told.closed
        if told.code is None:
            record.total = self.amendments[command.order_id, told.number].total
            record.refunded = None
            record.events.append("OrderAmended")

    def ahead(self, record: Record, command: AdvanceOrder) -> list[OrderStatus]:
        """The path without the beginning that was walked before. Refusal: illegal_transition, if it does not go on from here."""
        if len(record.history) < command.after:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The order's record has missed what came before.")
        return list(command.new_to(record.history))

    def _is_news(self, record: Record, command: AdvanceOrder) -> bool:
        """Whether a word that brings no status may tell more than is known."""
        if command.as_of is None or record.as_of is None:
            return len(record.history) == command.after
        nothing_since = len(record.history) == command.after + len(command.path)
        return command.as_of > record.as_of or (command.as_of == record.as_of and nothing_since)
