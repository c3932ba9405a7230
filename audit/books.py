"""What the books say: the rows that an audit compares, as they were read. No rule and no I/O is here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from contracts.events import (
    AccountMailRequested,
    BackorderDelayed,
    BackorderFilled,
    CustomerForgotten,
    DisputeClosed,
    EmailChanged,
    EmailVerified,
    Event,
    LowStockAlert,
    NotificationFailed,
    OrderActionRequired,
    OrderAmended,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderDelayed,
    OrderForgotten,
    OrderHeldUp,
    OrderPartCancelled,
    OrderPaymentDue,
    OrderRefunded,
    OrderUndelivered,
    PasswordChanged,
    PaymentAnswered,
    PaymentDisputed,
    ProductDeleted,
    RefundFailed,
    RefundOwed,
    ReturnApproved,
    ReturnCompleted,
    ReturnExpired,
    ReturnLabelUpdated,
    ReturnReceived,
    ReturnRejected,
    ReturnReminded,
    ShipmentDelivered,
    ShipmentDispatched,
    ShipmentLost,
    ShipmentReturned,
    TrackingUpdated,
)
from contracts.orders import OrderLine, OrderStatus
from contracts.parcels import HAS_LEFT, OrderParcel, ParcelLine, ParcelStatus, Trouble

_PARCELS = TypeAdapter(tuple[OrderParcel, ...])
_LINES = TypeAdapter(tuple[OrderLine, ...])


class Source(StrEnum):
    """Where books are kept."""

    ORDER = "order"
    PAYMENT = "payment"
    INVENTORY = "inventory"
    SHIPPING = "shipping"
    NOTIFICATION = "notification"
    ANALYTICS = "analytics"
    IDENTITY = "identity"
    CATALOG = "catalog"
    PROVIDER = "payment provider"
    BANK = "bank"
    CARRIER = "carrier"
    MAIL_SINK = "mail sink"
    SMS_PROVIDER = "SMS provider"
    PUSH_SERVICE = "push service"
    TEMPORAL = "temporal"


PRODUCERS = (
    Source.ORDER,
    Source.PAYMENT,
    Source.INVENTORY,
    Source.SHIPPING,
    Source.NOTIFICATION,
    Source.IDENTITY,
    Source.CATALOG,
)
"""The services with an outbox."""

LISTENERS: Mapping[Source, frozenset[type[Event]]] = {
    Source.ORDER: frozenset(
        {
            *(CustomerForgotten, ShipmentDispatched, ShipmentDelivered, ShipmentLost, ShipmentReturned, TrackingUpdated),
            *(BackorderFilled, BackorderDelayed, ReturnLabelUpdated, RefundOwed, PaymentAnswered),
        }
    ),
    Source.PAYMENT: frozenset({OrderForgotten}),
    Source.SHIPPING: frozenset({OrderForgotten}),
    Source.NOTIFICATION: frozenset(
        {
            *(AccountMailRequested, CustomerForgotten, EmailVerified, EmailChanged, PasswordChanged, ProductDeleted),
            *(ShipmentDispatched, ShipmentDelivered, RefundFailed, PaymentDisputed, DisputeClosed, LowStockAlert),
            NotificationFailed,
            *(OrderPaymentDue, OrderHeldUp, OrderDelayed, OrderCancelled, OrderUndelivered, OrderRefunded, OrderPartCancelled),
            *(OrderAmended, OrderActionRequired),
            *(ReturnApproved, ReturnRejected, ReturnReminded, ReturnReceived, ReturnCompleted, ReturnExpired),
        }
    ),
    Source.ANALYTICS: frozenset(
        {
            *(OrderCreated, OrderConfirmed, OrderAmended, OrderPartCancelled, OrderCancelled, OrderRefunded, OrderCompleted),
            ReturnCompleted,
        }
    ),
}
"""Which events must have had an effect where. A test holds this against the services' own subscriptions."""


class OrderRow(NamedTuple):
    """An order, as its service tells customers."""

    order_id: UUID
    customer_id: UUID
    status: str
    currency: str
    total_minor: int
    refunded_minor: int
    """By its own saga: without what its returns gave back."""
    code: str | None
    """The refusal that ended it, if one did."""
    trouble: str | None
    """Why its parcel does not arrive."""
    outcome_status: str | None
    """Where it was when the client that placed it was told for good how it came out; None while that is open."""
    outcome_code: str | None
    """Why it was refused, as that client was told."""
    has_placement: bool
    """Whether the row still has what its saga is started with: accepted, and not known to be started."""
    path: tuple[str, ...]
    """The statuses it reached, oldest first."""
    placed_at: datetime
    confirmed_at: datetime | None
    updated_at: datetime
    lines_total: Decimal | None
    """Sum of price x quantity."""
    lines: str | None
    """`product x quantity`, sorted, so that two services' lines can be compared."""
    names_person: bool = True
    """Whether it still has anything that names its customer, or that was written by or about one."""
    charges: tuple[Decimal, ...] | None = None
    """Goods, discount, shipping, tax and total; None of orders that cost the sum of their lines."""
    amounts: tuple[int | None, ...] = ()
    """The same, summed over the lines, in minor units."""
    told_parcels: str | None = None
    """Its parcels, as its saga told them, in JSON; None, if it is sent in one parcel of everything."""
    priced_lines: str | None = None
    """Its lines with their prices, in JSON, if it has several parcels."""
    at_dispatch: bool = False
    """Whether its money is taken as its parcels leave."""
    is_due: bool = False
    """Whether another card is waited for."""
    closed_minor: int = 0
    """What went back and is not counted as refunded, because the order was amended since."""

    @property
    def parcels(self) -> tuple[OrderParcel, ...]:
        """Each parcel by itself; none, if it is sent in one parcel of everything."""
        return _parcels_in(self.told_parcels) if self.told_parcels else ()

    @property
    def owed_minor(self) -> int:
        """What its customer has to pay if it goes on: for the parcels that count, each unit at its share of its line. Where money
        is taken as parcels leave: what has to be paid by now."""
        if not self.parcels:
            return self.total_minor if self.status in PARCEL_HAS_LEFT or not self.at_dispatch or self._is_away else 0
        lines = {line.line_id or place: line for place, line in enumerate(_lines_in(self.priced_lines or "[]"), start=1)}
        owed = [parcel for parcel in self.parcels if parcel.counts and (_has_left(parcel) or not self.at_dispatch)]
        return sum(_price_of(lines[part.line_id], part) for parcel in owed for part in parcel.lines)

    @property
    def _is_away(self) -> bool:
        """Whether its only parcel has left, and is in trouble."""
        return self.status == OrderStatus.UNDELIVERED and self.trouble != Trouble.NOT_PICKED_UP


PARCEL_HAS_LEFT = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
"""What an order is that is sent in one parcel, when that has left."""


def _has_left(parcel: OrderParcel) -> bool:
    is_away = parcel.status == ParcelStatus.UNDELIVERED and parcel.trouble != Trouble.NOT_PICKED_UP
    return parcel.status in HAS_LEFT or is_away


@lru_cache(maxsize=10_000)
def _parcels_in(told: str) -> tuple[OrderParcel, ...]:
    return _PARCELS.validate_json(told)


@lru_cache(maxsize=10_000)
def _lines_in(told: str) -> tuple[OrderLine, ...]:
    return _LINES.validate_json(told)


def _price_of(line: OrderLine, part: ParcelLine) -> int:
    """What these units of the line cost, in minor units."""
    if line.amounts is None:
        return (line.unit_price * part.quantity).minor
    return line.amounts.of(line.quantity, part.first, part.quantity).total


class ReturnRow(NamedTuple):
    """A return, as its record in the order service has it."""

    order_id: UUID
    number: int
    """Of the order's returns."""
    kind: str
    status: str
    tracking_number: str | None
    """Of its label."""
    came: str | None
    """What came back, as `ReceivedRow.lines` has it; None: nothing."""
    updated_at: datetime
    currency: str = "USD"
    value: Decimal | None = None
    """What it came to; None as long as that is not certain."""
    refunded_minor: int = 0
    credit_order_id: UUID | None = None
    """Whose payments hold the credit that its order was paid with."""


class ForgottenRow(NamedTuple):
    """A customer whom identity has forgotten."""

    customer_id: UUID
    forgotten_at: datetime
    left: str | None
    """Which of the account's columns are not blank, and what lies beside it; None if nothing is left."""


class KeyRow(NamedTuple):
    """The key of a customer's histories, of those who are to be forgotten."""

    customer_id: UUID
    forget_requested_at: datetime | None
    is_live: bool
    is_forgotten: bool
    """Whether the order service says that it is done."""


class LineRow(NamedTuple):
    """What an order's customer pays for one unit of a product."""

    order_id: UUID
    product_id: str
    amount: Decimal
    currency: str
    amended_at: datetime | None = None
    """When the amendment was priced that brought it; None: it was ordered in the first place."""


class DiscountUsesRow(NamedTuple):
    """How often a discount code is used."""

    code: str
    counted: int
    held: int
    """Redemptions that were not given back."""


class RedemptionRow(NamedTuple):
    """A code of an order, from two sides: that it is used, and that it took something off."""

    order_id: UUID
    code: str
    amount: int | None
    """By the redemption, in minor units; None: there is none."""
    currency: str | None
    is_held: bool
    charged: Decimal | None
    """By the order's charges; None: it is not among them."""
    charged_currency: str | None


class PriceRow(NamedTuple):
    """What a product cost from one moment to another, by the catalogue's own history."""

    product_id: str
    amount: int
    """In minor units."""
    currency: str
    valid_from: datetime
    valid_to: datetime | None


class PaymentRow(NamedTuple):
    """One attempt to pay, from three sides: what it says itself, the sums of its movements, and its ledger."""

    order_id: UUID
    attempt: int
    reference: str
    status: str
    currency: str
    amount: int
    refunded: int
    provider_id: str | None
    is_tombstone: bool
    """The undo came first; the provider was never asked."""
    authorized_moved: int
    """What was held, or taken at once."""
    captured_moved: int
    refunded_moved: int
    """With what is on its way."""
    voided_moved: int
    other_currency: int
    """Movements in another currency than the payment."""
    names_person: bool = True
    """Whether its customer's card or address could be known again by it, or somebody said why money moved."""
    authorized: int = 0
    captured: int = 0
    voided: int = 0
    ledger_provider: int = 0
    """What the account `provider` has of it."""
    ledger_held: int = 0
    unbalanced: int = 0
    """Movements whose entries do not add up to zero."""
    unanswered: int = 0
    """Movements of which nobody knows what became of them."""

    @property
    def is_transfer(self) -> bool:
        """Whether it is paid by bank transfer: the card processor has no charge of it, and its name is what its payer states."""
        return self.provider_id is not None and self.provider_id.startswith("RF")

    @property
    def held_moved(self) -> int:
        """What is still held, by its movements."""
        return self.authorized_moved - self.captured_moved - self.voided_moved


class ChargeRow(NamedTuple):
    """A charge in the provider's own ledger."""

    reference: str
    provider_id: str | None
    status: str
    currency: str | None
    amount: int
    captured: int
    refunded: int
    created_at: datetime


class BankRow(NamedTuple):
    """An entry of the shop's account, as the bank has it."""

    entry_id: str
    """The bank's own name for it."""
    is_credit: bool
    amount: str
    """In decimals, as the bank writes it."""
    currency: str
    end_to_end_id: str | None
    """Of a debit, or of what came back: our name of the order."""
    came_back: bool
    booked_at: datetime


class BankEntryRow(NamedTuple):
    """A credit to the shop's account, as the payment service has it."""

    entry_id: str
    amount: int
    currency: str
    reference: str | None
    """Of the transfer that it is for."""
    end_to_end_id: str | None
    taken: int
    """What of it is for that; the rest must be on the list of what is owed."""
    owed: int
    """How much of it is on that list, settled or not."""


class BankOrderRow(NamedTuple):
    """An order to the bank, as the payment service has it."""

    end_to_end_id: str
    reference: str
    state: str
    amount: int
    currency: str
    settled_at: datetime | None


class TransferRow(NamedTuple):
    """What a customer was asked to transfer, and what of it was taken and owed."""

    reference: str
    received: int
    refunded: int
    is_captured: bool
    owed: int
    """Of what was received and not taken, because the order was undone: how much is on the list of what is owed."""
    is_reversed: bool


class RefundRow(NamedTuple):
    """A refund, as the payment service has it, or as the provider does."""

    reference: str
    """Of its charge."""
    provider_id: str | None
    """None of ours: the provider has not told it yet, or refused to take the refund on."""
    state: str
    """`PENDING`, `SUCCEEDED`, `FAILED`; at the provider the same in small letters."""
    amount: int
    currency: str
    updated_at: datetime
    key: str = ""
    """Of ours, without the number of its tries."""
    failure: str | None = None


class DisputeRow(NamedTuple):
    """A dispute, as the payment service has it, or as the provider does."""

    reference: str
    """Of its charge."""
    provider_id: str
    state: str
    """`open`, `won`, `lost`."""
    amount: int
    currency: str
    updated_at: datetime


class DebtRow(NamedTuple):
    """An entry of the list of what the shop owes, settled or not."""

    kind: str
    reference: str | None
    subject: str
    """Of a refund, its key; of others the provider's name for it."""


class StockRow(NamedTuple):
    """One product at one warehouse, from four sides: the stock row, the movements, and the reservations, open and ended."""

    warehouse_id: str
    product_id: str
    on_hand: int | None
    reserved: int | None
    moved: int
    received: int
    """What came from suppliers."""
    corrected: int
    """What was found, less what was lost, by adjustments and counts."""
    transferred: int
    """What came from other warehouses, less what went to them."""
    promised: int
    shipped: int
    """All that ever left, also what came back."""
    restocked: int
    """What had left and is on the shelf again, whole parcels."""
    returned: int = 0
    """What is on the shelf again by returns."""
    damaged: int = 0
    """What came back by returns, and is not."""
    written_off: int = 0
    """What was written off, by the movements."""


class ReservationRow(NamedTuple):
    """What one parcel of an order has been promised."""

    order_id: UUID
    parcel: int
    status: str
    created_at: datetime
    lines: str | None
    plan: int | None = None
    """The first of the parcels that were planned together with it."""


class ReceivedRow(NamedTuple):
    """What inventory received by a return."""

    order_id: UUID
    number: int
    lines: str | None
    """`product: good + damaged`, sorted; None: nothing."""
    received_at: datetime


class BackRow(NamedTuple):
    """A product of an order of which some came back by returns."""

    order_id: UUID
    product_id: str
    shipped: int
    """What left, without parcels that came back whole."""
    back: int
    """What came back by returns, good and damaged."""


class WaitingRow(NamedTuple):
    """A parcel that waits for goods."""

    order_id: UUID
    parcel: int
    fillable_at: str | None
    """A warehouse that has everything that it waits for, unpromised."""
    fillable_since: datetime | None
    """When the last of that arrived there, or it began to wait."""


class ShipmentRow(NamedTuple):
    """A parcel, as our shipping service knows it."""

    order_id: UUID
    parcel: int
    """Of one in which a return comes back: the number of the return."""
    status: str
    refund: str
    """What becomes of the money for its labels, if they are not needed: of several packages, what is still to be done."""
    tracking_number: str | None
    is_tombstone: bool
    created_at: datetime
    names_person: bool = True
    """Whether it says where it went, or was fetched."""
    sold_by: str | None = "easypost"
    """Who sold its labels; None: nobody yet, or somebody of before there were packages."""
    not_needed_since: datetime | None = None
    """When its labels were called off."""


class ParcelRow(NamedTuple):
    """A label that was bought, in the carrier's own books."""

    reference: str
    status: str
    """`booked`: no carrier has scanned it; then `in_transit`, `delivered`, `lost`, `returned`; `cancelled`: it was not scanned,
    and its money goes back."""
    tracking_number: str | None
    created_at: datetime


class NotificationRow(NamedTuple):
    """Something that was told to a customer or the staff."""

    notification_id: UUID
    order_id: UUID | None
    """None for what is about an account."""
    kind: str
    status: str
    """Of the delivery that came furthest; DELIVERED, if it stands in the inbox alone."""
    created_at: datetime
    has_deliveries: bool = True
    """Not one that a build before has queued, and that was not taken over yet."""


class DeliveryRow(NamedTuple):
    """A notification on its way by one channel. `tries`: the attempts that are written down."""

    delivery_id: UUID
    notification_id: UUID
    channel: str
    status: str
    attempts: int
    tries: int
    sent_at: datetime | None
    provider_id: str | None = None
    """The provider's own name for it; mail servers and push services have none."""


class MailRow(NamedTuple):
    """A mail that the mail server took. Numbers rise, also after it was emptied."""

    number: int
    message_id: str
    received_at: datetime


class MessageRow(NamedTuple):
    """A text message, or one to a browser, that its provider took."""

    provider_id: str
    message_id: str
    """Ours, as it was sent with."""
    status: str
    """`on its way`, `arrived` or `failed`. A push service tells nothing but that it took it: `on its way`."""
    received_at: datetime
    changed_at: datetime


class WorkflowRow(NamedTuple):
    """One run of an order's saga."""

    order_id: UUID | None
    """None if its workflow id is not that of an order."""
    workflow_id: str
    run_id: str
    status: str
    """RUNNING, COMPLETED, FAILED, …"""
    started_at: datetime
    closed_at: datetime | None
    listed_as: str | None
    """The search attribute OrderStatus."""
    failure_reason: str | None
    """The search attribute FailureReason."""
    stuck_undo: str | None
    result: str | None
    """The order status in its result; NO_RESULT if that is no OrderState; None if it was not read."""
    result_code: str | None = None
    """The refusal in its result."""
    given_up: tuple[str, ...] = ()
    """Undos that somebody ended by hand although they were not done: which, by whom and why."""


NO_RESULT = "(not an OrderState)"


class EventRow(NamedTuple):
    """An event in an outbox that somebody listens to, or that is still to be published."""

    event_id: UUID
    topic: str
    type: str
    key: str
    seq: int
    created_at: datetime
    published_at: datetime | None
    partition: int | None
    offset: int | None


class DeadLetterRow(NamedTuple):
    """An event that a consumer could not apply, and that nobody has settled yet."""

    consumer: Source
    letter_id: UUID
    """The event's, if it was an event."""
    is_replayed: bool
    """Somebody has put it back; the consumer has not applied it yet."""
    type: str | None
    key: str | None
    """The aggregate that it tells of: mostly an order."""
    topic: str
    error: str | None
    parked_at: datetime


class ReturnRefundRow(NamedTuple):
    """What went back of an order's payments under one key of a return, in minor units."""

    order_id: UUID
    key: str
    told: int
    """What the return's saga was told that went back, whether or not it arrived."""
    moved: int
    """What went back, or is on its way."""


class ReturnFactRow(NamedTuple):
    """A completed return, as analytics knows it."""

    order_id: UUID
    number: int
    currency: str
    refunded_minor: int


class FactRow(NamedTuple):
    """An order, as analytics knows it."""

    order_id: UUID
    currency: str
    total_minor: int
    refunded_minor: int
    placed_at: datetime | None
    is_confirmed: bool
    is_completed: bool
    is_cancelled: bool
    is_refunded: bool
    cancel_code: str | None
    """The refusal that ended it."""


class SumRow(NamedTuple):
    """A sum that analytics keeps, beside the same sum over its facts. Money is in minor units."""

    table: str
    what: str
    currency: str
    kept: int
    of_facts: int


@dataclass
class Books:
    """Everything that was read, in one look."""

    taken_at: datetime
    """When the look began. Each database was read as of one moment shortly after, the outside ledgers and Temporal after that."""
    orders: Sequence[OrderRow] = ()
    forgotten: Sequence[ForgottenRow] = ()
    keys: Sequence[KeyRow] = ()
    lines: Sequence[LineRow] = ()
    discount_uses: Sequence[DiscountUsesRow] = ()
    redemptions: Sequence[RedemptionRow] = ()
    prices: Sequence[PriceRow] = ()
    payments: Sequence[PaymentRow] = ()
    charges: Sequence[ChargeRow] = ()
    transfers: Sequence[TransferRow] = ()
    bank_entries: Sequence[BankEntryRow] = ()
    """Ours."""
    bank_orders: Sequence[BankOrderRow] = ()
    bank: Sequence[BankRow] = ()
    """The bank's own."""
    refunds: Sequence[RefundRow] = ()
    """Ours."""
    provider_refunds: Sequence[RefundRow] = ()
    return_refunds: Sequence[ReturnRefundRow] = ()
    return_facts: Sequence[ReturnFactRow] = ()
    disputes: Sequence[DisputeRow] = ()
    """Ours."""
    provider_disputes: Sequence[DisputeRow] = ()
    debts: Sequence[DebtRow] = ()
    stock: Sequence[StockRow] = ()
    reservations: Sequence[ReservationRow] = ()
    waiting: Sequence[WaitingRow] = ()
    returns: Sequence[ReturnRow] = ()
    received: Sequence[ReceivedRow] = ()
    back: Sequence[BackRow] = ()
    shipments: Sequence[ShipmentRow] = ()
    """Those that go to customers."""
    labels: Sequence[ShipmentRow] = ()
    """Those in which returns come back."""
    parcels: Sequence[ParcelRow] = ()
    notifications: Sequence[NotificationRow] = ()
    deliveries: Sequence[DeliveryRow] = ()
    mails: Sequence[MailRow] = ()
    sms: Sequence[MessageRow] = ()
    pushed: Sequence[MessageRow] = ()
    workflows: Sequence[WorkflowRow] = ()
    events: dict[Source, Sequence[EventRow]] = field(default_factory=dict)
    """By producer."""
    outbox_rows: int = 0
    """All of them, also those that nobody listens to."""
    inboxes: dict[Source, Mapping[UUID, datetime]] = field(default_factory=dict)
    """By listener: which events have had their effect, and when."""
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    facts: Sequence[FactRow] = ()
    sums: Sequence[SumRow] = ()
    workflow_retention: timedelta = timedelta(days=1)
    """How long Temporal remembers a closed workflow."""
    outbox_retention: timedelta = timedelta(hours=72)
    busy: frozenset[UUID] = frozenset()
    """Orders whose saga was found to have work at hand."""
    unreadable: dict[Source, str] = field(default_factory=dict)
    """What could not be read, and why."""
    absent: frozenset[Source] = frozenset()
    """What this platform does not have (in production there is no mail sink)."""
