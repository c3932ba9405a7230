"""Domain events: facts in the past tense, as the services publish them to Kafka.

An event travels as a CloudEvent 1.0 in structured JSON mode (https://cloudevents.io), with the trace context of its cause
(distributed tracing extension) and, as `partitionkey`, the id of the aggregate whose events must stay in order.
"""

from datetime import date, datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from contracts.base import Contract, Timestamp
from contracts.errors import ErrorCode
from contracts.identity import Role
from contracts.inventory import MovementKind, ReturnedLine, StockLine
from contracts.money import Money
from contracts.notifications import NotificationKind
from contracts.orders import OrderLine
from contracts.parcels import OrderParcel, ParcelLine, Trouble
from contracts.payment_actions import ActionDue
from contracts.pricing import OrderCharges
from contracts.returns import Resolution, ReturnedUnits, ReturnKind, ReturnLine, Settlement
from contracts.shipments import ShipmentStatus

IDENTITY = "identity-events"
CATALOG = "catalog-events"
ORDER = "order-events"
PAYMENT = "payment-events"
INVENTORY = "inventory-events"
SHIPPING = "shipping-events"
BACKORDER = "backorder-events"
"""Few: the order service hears of goods that have arrived, and need not read all that happens to stock."""
NOTIFICATION = "notification-events"
FORGETTING = "forgetting-events"
"""Few: who keeps something personal of orders hears of them, and need not read all that happens to orders."""
OWED = "owed-events"
"""Few: the order service hears of money that it waits for, or that has not arrived, and need not read all that happens to
payments."""
TOPICS = (IDENTITY, CATALOG, ORDER, PAYMENT, INVENTORY, BACKORDER, SHIPPING, NOTIFICATION, FORGETTING, OWED)


class Event(Contract):
    """A fact. The class name is its type; `topic` is where it is published; `key` the aggregate that orders it."""

    topic: ClassVar[str]

    @property
    def key(self) -> str:
        raise TypeError(f"{type(self).__name__} does not say which aggregate it belongs to")


class CloudEvent(Contract):
    """The envelope, field by field as it stands in the Kafka message."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: str
    """The service, e.g. `/services/order`."""
    type: str
    subject: str
    """Id of the aggregate."""
    time: Timestamp
    datacontenttype: Literal["application/json"] = "application/json"
    partitionkey: str
    traceparent: str | None = None
    data: dict[str, Any]


class _CustomerEvent(Event):
    topic = IDENTITY
    customer_id: UUID

    @property
    def key(self) -> str:
        return str(self.customer_id)


class UserRegistered(_CustomerEvent):
    pass


class UserLoggedIn(_CustomerEvent):
    pass


class PasswordChanged(_CustomerEvent):
    pass


class EmailVerified(_CustomerEvent):
    """The customer can be reached at the address of the account: a link sent there was followed."""


class EmailChanged(_CustomerEvent):
    """The account has another address now, which is verified."""


class AccountMailRequested(Event):
    """Identity wants a mail sent; whoever sends it asks identity for address and link, which stand in no event.

    A request to reset a password names no customer: whether there is one is not told here either."""

    topic = IDENTITY
    request_id: UUID
    customer_id: UUID | None = None
    kind: NotificationKind

    @property
    def key(self) -> str:
        return str(self.request_id)


class SessionEnded(_CustomerEvent):
    session_id: UUID
    reason: str
    """logged_out, password_changed, roles_changed, user_disabled, ended_by_owner, ended_by_admin,
    user_forgotten or refresh_token_reused."""


class RolesChanged(_CustomerEvent):
    roles: tuple[Role, ...]
    warehouses: tuple[str, ...] | None = None
    """Which warehouses a warehouse role is for; None is all."""
    by: UUID


class UserDisabled(_CustomerEvent):
    by: UUID
    reason: str
    """Always the same words. What the admin wrote stands in the security log alone (docs/adr/0029)."""


class UserEnabled(_CustomerEvent):
    by: UUID


class CustomerForgotten(_CustomerEvent):
    """The account has ended and holds nothing personal any more. Who keeps personal data of this customer has to let go of it."""

    by: UUID
    """The customer, or an admin."""


class _ProductEvent(Event):
    topic = CATALOG
    product_id: str

    @property
    def key(self) -> str:
        return self.product_id


class ProductCreated(_ProductEvent):
    name: str
    category: str
    price: Money


class ProductUpdated(_ProductEvent):
    name: str
    category: str


class PriceChanged(_ProductEvent):
    old_price: Money
    new_price: Money


class ProductDeleted(_ProductEvent):
    pass


class _OrderEvent(Event):
    """Key: the order, on whichever topic, so that one order's events of one service stay in order."""

    order_id: UUID

    @property
    def key(self) -> str:
        return str(self.order_id)


class OrderCreated(_OrderEvent):
    topic = ORDER
    customer_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money
    charges: OrderCharges | None = None
    """What the total is made of; None only of orders that cost the sum of their lines."""


class OrderPaymentDue(_OrderEvent):
    """The card was declined; the goods are kept until `pay_until`, and another card may be tried."""

    topic = ORDER
    customer_id: UUID
    total: Money
    pay_until: datetime
    was_confirmed: bool = False
    """Whether the order goes on: its money is taken as its parcels leave, and some of it could not be held or taken then. If no
    other card is tried, what has not left is called off."""


class OrderActionRequired(_OrderEvent):
    """The customer has to do something before the money is there, e.g. confirm the payment at the bank; the goods are kept until
    `action.until`."""

    topic = ORDER
    customer_id: UUID
    total: Money
    action: ActionDue


class OrderConfirmed(_OrderEvent):
    topic = ORDER
    customer_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money
    warehouse_id: str | None = None
    charges: OrderCharges | None = None
    """What the total is made of; None only of orders that cost the sum of their lines."""
    parcels: tuple[OrderParcel, ...] = ()
    """What it is sent in; none: one parcel of everything."""


class OrderHeldUp(_OrderEvent):
    """It takes long until it is confirmed, e.g. because an outside company does not answer. Told once."""

    topic = ORDER
    customer_id: UUID
    total: Money


class OrderDelayed(_OrderEvent):
    """Goods that a parcel waits for come later than its customer was told."""

    topic = ORDER
    customer_id: UUID
    total: Money
    parcel: int
    expected_on: date | None = None
    """None: nobody knows any more."""
    was_expected_on: date


class OrderCancelled(_OrderEvent):
    topic = ORDER
    customer_id: UUID
    total: Money
    refunded: Money
    was_confirmed: bool
    was_held_up: bool = False
    """Its customer was told that it takes longer (OrderHeldUp)."""
    code: ErrorCode | None = None
    reason: str | None = None
    """The code in plain words. What a person wrote stands in no event (docs/adr/0029)."""


class OrderUndelivered(_OrderEvent):
    """Its parcel does not arrive; somebody has to decide."""

    topic = ORDER
    customer_id: UUID
    total: Money
    trouble: Trouble
    parcel: int | None = None
    """Which of several; None: the only one."""


class OrderRefunded(_OrderEvent):
    """An end: the goods did not arrive, and `refunded` went back."""

    topic = ORDER
    customer_id: UUID
    total: Money
    refunded: Money
    trouble: Trouble


class OrderCompleted(_OrderEvent):
    topic = ORDER
    customer_id: UUID
    total: Money
    refunded: Money | None = None
    """What went back for parts that did not arrive, or were called off; None: nothing."""


class OrderAmended(_OrderEvent):
    """An order was changed before anything of it had left. `total`, `lines` and `charges` are those from now on; what is told as
    refunded later counts anew from here: what had gone back before, and goes back with it, is no part of the new total."""

    topic = ORDER
    customer_id: UUID
    number: int
    lines: tuple[OrderLine, ...]
    total: Money
    charges: OrderCharges | None = None
    lines_before: tuple[OrderLine, ...]
    total_before: Money
    charges_before: OrderCharges | None = None
    charged: Money
    given_back: Money


class OrderPartCancelled(_OrderEvent):
    """Some of a confirmed order was cancelled; the rest goes on. `lines`: what, without prices; `refunded`: what goes back."""

    topic = ORDER
    customer_id: UUID
    total: Money
    parcel: int
    lines: tuple[ParcelLine, ...]
    refunded: Money
    amended: int = 0
    """The number of the last amendment that had changed the order: `lines` are of the order as it was then."""


class _ReturnEvent(_OrderEvent):
    topic = ORDER
    customer_id: UUID
    number: int
    """Of the order's returns."""
    kind: ReturnKind
    resolution: Resolution


class ReturnRequested(_ReturnEvent):
    lines: tuple[ReturnLine, ...]


class ReturnApproved(_ReturnEvent):
    """`due_at`: until when its goods may come; None of a claim."""

    tracking_number: str | None = None
    """Of its label; None: there is none."""
    warehouse_id: str | None = None
    """Where they should come to; None of a claim."""
    due_at: datetime | None = None


class ReturnRejected(_ReturnEvent):
    code: ErrorCode | None = None


class ReturnReminded(_ReturnEvent):
    """Nothing has come yet."""

    due_at: datetime


class ReturnReceived(_ReturnEvent):
    warehouse_id: str
    came: tuple[ReturnedUnits, ...]


class ReturnCancelled(_ReturnEvent):
    pass


class ReturnExpired(_ReturnEvent):
    """Its goods never came."""


class ReturnCompleted(_ReturnEvent):
    """An end: `refunded` went back, and an order `replacement_id` brought other goods, if there is one."""

    lines: tuple[ReturnLine, ...]
    """What it was about, in the end."""
    settlement: Settlement
    refunded: Money
    replacement_id: UUID | None = None


class OrderForgotten(_OrderEvent):
    """The order has ended and its customer is to be forgotten: nothing that names a person is needed of it any more."""

    topic = FORGETTING
    customer_id: UUID


class _PaymentEvent(_OrderEvent):
    topic = PAYMENT
    payment_id: UUID
    amount: Money


class PaymentInitiated(_PaymentEvent):
    pass


class _MovementEvent(_PaymentEvent):
    attempt: int = 1
    movement_key: str | None = None
    """Names the movement within its attempt to pay."""


class PaymentProcessed(_MovementEvent):
    """`amount` was captured: all of the payment, or one part of it."""


class PaymentFailed(_PaymentEvent):
    code: ErrorCode
    reason: str
    """The provider's standard words for why its bank declined."""


class RefundProcessed(_MovementEvent):
    """`amount` went back to the customer, or is on its way: one refund of perhaps several, or zero for a hold that was voided."""


class RefundFailed(_MovementEvent):
    """`amount` did not get to the customer, and is owed; a refund may fail days after it was accepted."""

    failure: str
    """The provider's code, e.g. `expired_or_canceled_card`."""
    was_processed: bool = False
    """Whether `RefundProcessed` had told of it: then that is undone by this."""


class RefundOwed(_OrderEvent):
    """A refund that had been accepted has failed: `amount`, of which the order's saga was told that it went back, is owed.

    The same is told to everybody by `RefundFailed`."""

    topic = OWED
    attempt: int
    movement_key: str
    """As the refund was asked for, whichever try of it failed."""
    amount: Money
    failure: str
    """The provider's code."""


class PaymentAnswered(_OrderEvent):
    """The customer did what a payment waited for, or refused to, or the provider gave it up: the order's saga may ask again."""

    topic = OWED
    attempt: int


class _DisputeEvent(_PaymentEvent):
    dispute_id: UUID


class PaymentDisputed(_DisputeEvent):
    """The customer's bank has taken `amount` back, until it is decided whose it is."""

    reason: str | None = None
    """The provider's code for why."""


class DisputeClosed(_DisputeEvent):
    """The bank has decided: `amount` is the shop's again, or the customer's."""

    won: bool
    """By the shop."""


class _ReservationEvent(_OrderEvent):
    topic = INVENTORY
    parcel: int = 1
    warehouse_id: str
    lines: tuple[StockLine, ...]


class InventoryReserved(_ReservationEvent):
    pass


class InventoryReleased(_ReservationEvent):
    reason: str


class InventoryRestocked(_ReservationEvent):
    """What had been shipped came back, and is on the shelf again."""

    reason: str


class ReservationSplit(_ReservationEvent):
    """`lines` that were promised to `parcel` now go in a parcel of their own, `into`, from the same warehouse."""

    into: int


class BackorderFilled(_OrderEvent):
    """Goods have arrived for a parcel that waited for them: they are reserved for it."""

    topic = BACKORDER
    parcel: int
    warehouse_id: str
    lines: tuple[StockLine, ...]


class BackorderDelayed(_OrderEvent):
    """The goods that a parcel waits for are expected on another day than before."""

    topic = BACKORDER
    parcel: int
    expected_on: date | None = None
    """None: nobody knows any more."""
    was_expected_on: date | None = None


class ReturnShelved(_OrderEvent):
    """Goods of an order came back to a warehouse by one of its returns: what is good is on the shelf again."""

    topic = INVENTORY
    number: int
    """Of the order's returns."""
    warehouse_id: str
    lines: tuple[ReturnedLine, ...]


class _StockEvent(Event):
    topic = INVENTORY
    warehouse_id: str
    product_id: str
    on_hand: int

    @property
    def key(self) -> str:
        return f"{self.warehouse_id}/{self.product_id}"


class StockLevelChanged(_StockEvent):
    change: int
    kind: MovementKind | None = None
    """None only in events that were written before there were others than receipts, shipments and returns."""
    reason: str | None = None
    """What the person said who adjusted, counted or transferred it."""
    actor: UUID | None = None
    """The person who did it; None: an order's saga."""


class LowStockAlert(_StockEvent):
    available: int
    threshold: int


class _ShipmentEvent(_OrderEvent):
    topic = SHIPPING
    shipment_id: UUID
    parcel: int = 1
    customer_id: UUID
    tracking_number: str | None = None


class ShipmentCreated(_ShipmentEvent):
    warehouse_id: str


class ShipmentDispatched(_ShipmentEvent):
    parcels: int = 1
    """How many the order is sent in."""
    occurred_at: datetime


class ShipmentDelivered(_ShipmentEvent):
    parcels: int = 1
    """How many the order is sent in."""
    occurred_at: datetime


class ShipmentLost(_ShipmentEvent):
    occurred_at: datetime


class ShipmentReturned(_ShipmentEvent):
    """It came back to the warehouse."""

    occurred_at: datetime


class ReturnLabelUpdated(_OrderEvent):
    """Where the parcel is in which a return comes back. BOOKED: its label is there; CANCELLED: that was called off; all others
    are the carrier's words, DELIVERED among them: it is at the warehouse."""

    topic = SHIPPING
    number: int
    """Of the order's returns."""
    status: ShipmentStatus
    tracking_number: str | None = None
    occurred_at: datetime


class TrackingUpdated(_ShipmentEvent):
    """Anything else that happens to a parcel: cancelled, in transit."""

    status: str
    occurred_at: datetime


class _NotificationEvent(_OrderEvent):
    topic = NOTIFICATION
    notification_id: UUID
    kind: str


class _ChannelEvent(_NotificationEvent):
    channel: str = "email"
    """By which it was sent; each has events of its own."""


class NotificationSent(_ChannelEvent):
    """The channel's provider took it, e.g. the mail server."""


class NotificationFailed(_ChannelEvent):
    """It did not arrive by this channel, and will not. It may have been sent, and come back."""

    reason: str
    """Refused, given up or come back. What a provider said stands in the delivery log alone."""


class EmailDelivered(_NotificationEvent):
    """The customer's own mail server has taken the mail, as ours was told."""


EVENT_TYPES: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        UserRegistered, UserLoggedIn, PasswordChanged, EmailVerified, EmailChanged, AccountMailRequested,
        SessionEnded, RolesChanged, UserDisabled, UserEnabled, CustomerForgotten,
        ProductCreated, ProductUpdated, PriceChanged, ProductDeleted,
        OrderCreated, OrderPaymentDue, OrderActionRequired, OrderConfirmed, OrderHeldUp, OrderDelayed, OrderCancelled,
        OrderUndelivered, OrderRefunded, OrderCompleted, OrderAmended, OrderPartCancelled, OrderForgotten,
        ReturnRequested, ReturnApproved, ReturnRejected, ReturnReminded, ReturnReceived, ReturnCancelled, ReturnExpired,
        ReturnCompleted, ReturnLabelUpdated, ReturnShelved,
        PaymentInitiated, PaymentProcessed, PaymentFailed, RefundProcessed,
        RefundFailed, RefundOwed, PaymentAnswered, PaymentDisputed, DisputeClosed,
        InventoryReserved, InventoryReleased, InventoryRestocked, ReservationSplit, BackorderFilled, BackorderDelayed,
        StockLevelChanged, LowStockAlert,
        ShipmentCreated, ShipmentDispatched, ShipmentDelivered, ShipmentLost, ShipmentReturned, TrackingUpdated,
        NotificationSent, NotificationFailed, EmailDelivered,
    )
}  # fmt: skip
"""Every event by its type."""


def event_of(envelope: CloudEvent) -> Event:
    """The typed event in an envelope. Raises KeyError for a type that nobody knows, ValidationError for data that do not fit."""
    return EVENT_TYPES[envelope.type].model_validate(envelope.data)
