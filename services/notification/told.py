"""Which event tells whom what: one table over all events of the platform. docs/notifications.md is made from it.

An event has rows of `Tells`, or `Nobody` with the reason, or `Acts`: notification does something else on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts import events as e
from contracts.errors import ErrorCode
from contracts.events import CloudEvent, Event
from contracts.ids import parcel_reference
from contracts.money import Money
from contracts.notifications import NotificationKind as K
from contracts.parcels import Trouble
from contracts.returns import Resolution, ReturnKind
from services.notification.commands import Told
from services.notification.model import Audience

Values = Callable[[Any], Mapping[str, str]]


@dataclass(frozen=True)
class When:
    """A condition, and how it is said."""

    said: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Tells:
    """Who is told what. By which channels is the kind's policy (kinds.py)."""

    kind: K
    audience: Audience
    values: Values = lambda event: {}
    about: Callable[[Any, CloudEvent], str] = lambda event, envelope: str(event.order_id)
    """Names what one notification of the kind is made of, however often it is told."""
    when: When | None = None


@dataclass(frozen=True)
class Nobody:
    why: str


@dataclass(frozen=True)
class Acts:
    what: str


Row = tuple[Tells, ...] | Nobody | Acts

# ── What several rows say ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _each(event: Any, envelope: CloudEvent) -> str:
    """It may happen more than once: each time is told."""
    return f"{event.order_id}:{envelope.id}"


def _parcel(event: Any, envelope: CloudEvent) -> str:
    return parcel_reference(event.order_id, event.parcel)


def _return(event: Any, envelope: CloudEvent) -> str:
    return f"{event.order_id}:return-{event.number}"


def _some(money: Money) -> str:
    """An amount; empty if it is nothing."""
    return str(money) if money.minor else ""


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _tracking(event: Any) -> dict[str, str]:
    """Of one of several: which of how many; of one that is sent in place of another, only that there are several."""
    number = {"tracking_number": event.tracking_number or ""}
    if event.parcels == 1:
        return number
    return number | {"parcel": str(event.parcel) if event.parcel <= event.parcels else "", "parcels": str(event.parcels)}


def _of_return(more: Values = lambda event: {}) -> Values:
    def values(event: Any) -> dict[str, str]:
        return {"number": str(event.number), "is_claim": "yes" if event.kind == ReturnKind.CLAIM else "", **more(event)}

    return values


def _about_return(kind: K, more: Values = lambda event: {}, when: When | None = None) -> tuple[Tells, ...]:
    """One of a kind about each return."""
    return (Tells(kind, Audience.CUSTOMER, _of_return(more), _return, when),)


def _approved(event: e.ReturnApproved) -> dict[str, str]:
    return {
        "tracking_number": event.tracking_number or "",
        "warehouse": event.warehouse_id or "",
        "until": f"{event.due_at:%Y-%m-%d}" if event.due_at else "",
    }


def _completed(event: e.ReturnCompleted) -> dict[str, str]:
    return {
        "refunded": _some(event.refunded),
        "replacement_id": str(event.replacement_id or ""),
        "is_resend": "yes" if event.resolution == Resolution.RESEND else "",
    }


def _dispute(event: Any) -> dict[str, str]:
    return {"payment_id": str(event.payment_id), "amount": str(event.amount)}


def _action(event: Any) -> dict[str, str]:
    told = {"total": str(event.total), "until": _minute(event.action.until), "url": event.action.url or ""}
    transfer = event.action.transfer
    return told | {name: getattr(transfer, name) if transfer else "" for name in ("recipient", "iban", "reference")}


MUST_ACT = frozenset({K.PAYMENT_DUE, K.PAYMENT_ACTION, K.CARD_NEEDED, K.RETURN_APPROVED})
"""If the customer does not hear of these, something is lost."""
AFTER_A_WAIT = frozenset(
    {ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.PAYMENT_NOT_CONFIRMED, ErrorCode.REVIEW_REJECTED, ErrorCode.REVIEW_EXPIRED}
)
"""Why an order is cancelled whose client was answered before that it goes on."""
_CUSTOMER, _SUPPORT, _FINANCE, _WAREHOUSE = Audience.CUSTOMER, Audience.SUPPORT, Audience.FINANCE, Audience.WAREHOUSE
_ONE_PARCEL = When("the order is sent in one parcel", lambda event: event.parcels == 1)
_SEVERAL = When("it is one of several parcels", lambda event: event.parcels > 1)
_OF_ORDER = Nobody("a step of the order, which tells what comes of it")
_OF_STOCK = Nobody("a movement of goods; the warehouse did it, or the order tells of it")
_OWN_NEWS = Nobody("notification's own news")
_ON_CATALOGUE = Nobody("whoever keeps the catalogue did it; customers see it in the shop")
_BY_ADMIN = Nobody("an admin did it; it stands in identity's security log")

# ── The table ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

TOLD: Mapping[type[Event], Row] = {
    # identity
    e.UserRegistered: Nobody("identity asks for a mail of its own (AccountMailRequested)"),
    e.UserLoggedIn: Nobody("it happens all the time; /users/me/sessions shows it"),
    e.PasswordChanged: (
        Tells(
            K.PASSWORD_CHANGED,
            _CUSTOMER,
            about=lambda event, envelope: f"{event.customer_id}:{envelope.id}",
        ),
    ),
    e.EmailVerified: Acts("mails that were held back of late are sent; the address counts as proven again"),
    e.EmailChanged: Acts("the new address counts as proven; identity has mailed both addresses before"),
    e.AccountMailRequested: Acts("the mail is sent that identity asks for; its address and its link are identity's secret"),
    e.SessionEnded: Nobody("the person did it, or is told otherwise why"),
    e.RolesChanged: _BY_ADMIN,
    e.UserDisabled: _BY_ADMIN,
    e.UserEnabled: _BY_ADMIN,
    e.CustomerForgotten: Acts("everything about the person is forgotten; nothing is sent any more"),
    # catalog
    e.ProductCreated: _ON_CATALOGUE,
    e.ProductUpdated: _ON_CATALOGUE,
    e.PriceChanged: _ON_CATALOGUE,
    e.ProductDeleted: (
        Tells(
            K.PRODUCT_WITHDRAWN,
            _WAREHOUSE,
            lambda event: {"product_id": event.product_id},
            lambda event, envelope: f"product {event.product_id}:{envelope.id}",
        ),
    ),
    # order
    e.OrderCreated: Nobody("who placed it got the answer"),
    e.OrderActionRequired: (
        Tells(K.PAYMENT_ACTION, _CUSTOMER, _action, lambda event, _: f"{event.order_id} {event.action.until.isoformat()}"),
    ),
    e.OrderPaymentDue: (
        Tells(
            K.PAYMENT_DUE,
            _CUSTOMER,
            lambda event: {"total": str(event.total), "pay_until": _minute(event.pay_until)},
            when=When("the order is not confirmed yet", lambda event: not event.was_confirmed),
        ),
        Tells(
            K.CARD_NEEDED,
            _CUSTOMER,
            lambda event: {"pay_until": _minute(event.pay_until)},
            lambda event, envelope: f"{event.order_id} {event.pay_until.isoformat()}",
            When("the order was confirmed", lambda event: event.was_confirmed),
        ),
    ),
    e.OrderConfirmed: Nobody("the order's saga asks for `order_confirmed` by a step of its own (SendNotification)"),
    e.OrderHeldUp: (Tells(K.ORDER_HELD_UP, _CUSTOMER, lambda event: {"total": str(event.total)}),),
    e.OrderDelayed: (
        Tells(
            K.GOODS_DELAYED,
            _CUSTOMER,
            lambda event: {
                "expected_on": str(event.expected_on) if event.expected_on else "",
                "was_expected_on": str(event.was_expected_on),
            },
            _each,
        ),
    ),
    e.OrderCancelled: (
        Tells(
            K.ORDER_CANCELLED,
            _CUSTOMER,
            lambda event: {"total": str(event.total), "refunded": _some(event.refunded)},
            when=When(
                "it was confirmed, or paid, or waited for: of one that was refused at once its customer got the answer",
                lambda event: (
                    event.was_confirmed or event.was_held_up or bool(event.refunded.amount) or event.code in AFTER_A_WAIT
                ),
            ),
        ),
    ),
    e.OrderUndelivered: (
        Tells(
            K.ORDER_UNDELIVERED,
            _CUSTOMER,
            lambda event: {"trouble": event.trouble},
            _each,
            When(
                "the parcel is lost or came back: what the other troubles are, nobody knows yet",
                lambda event: event.trouble in (Trouble.LOST, Trouble.RETURNED),
            ),
        ),
        Tells(
            K.DECISION_NEEDED,
            _SUPPORT,
            lambda event: {"trouble": event.trouble, "parcel": str(event.parcel or "")},
            _each,
        ),
    ),
    e.OrderRefunded: (
        Tells(K.ORDER_REFUNDED, _CUSTOMER, lambda event: {"total": str(event.total), "refunded": str(event.refunded)}),
    ),
    e.OrderCompleted: Nobody("its customer heard that each parcel has arrived"),
    e.OrderAmended: (
        Tells(
            K.ORDER_AMENDED,
            _CUSTOMER,
            lambda event: {
                "total": str(event.total),
                "charged": _some(event.charged),
                "refunded": _some(event.given_back),
            },
            lambda event, envelope: f"{event.order_id}:{event.number}",
        ),
    ),
    e.OrderPartCancelled: (
        Tells(
            K.PART_CANCELLED,
            _CUSTOMER,
            lambda event: {
                "units": str(sum(line.quantity for line in event.lines)),
                "refunded": _some(event.refunded),
            },
            _each,
        ),
    ),
    e.OrderForgotten: Nobody("the person is forgotten with CustomerForgotten"),
    e.ReturnRequested: Nobody("who asked got the answer; staff see it in the list of returns"),
    e.ReturnApproved: _about_return(K.RETURN_APPROVED, _approved),
    e.ReturnRejected: _about_return(K.RETURN_REJECTED),
    e.ReturnReminded: _about_return(K.RETURN_REMINDER, lambda event: {"until": f"{event.due_at:%Y-%m-%d}"}),
    e.ReturnReceived: _about_return(
        K.RETURN_RECEIVED,
        when=When("something was in the parcel; of an empty one the last notification tells", lambda event: bool(event.came)),
    ),
    e.ReturnCancelled: Nobody("whoever did it got the answer"),
    e.ReturnExpired: _about_return(K.RETURN_EXPIRED),
    e.ReturnCompleted: _about_return(K.RETURN_COMPLETED, _completed),
    # payment
    e.PaymentInitiated: _OF_ORDER,
    e.PaymentProcessed: _OF_ORDER,
    e.PaymentFailed: Nobody("the order tells it: OrderPaymentDue, or the answer to who placed it"),
    e.RefundProcessed: Nobody("what the refund is for tells it: the cancellation, the return, the amendment"),
    e.RefundFailed: (
        Tells(K.REFUND_FAILED, _FINANCE, lambda event: {"amount": str(event.amount), "failure": event.failure}, _each),
    ),
    e.RefundOwed: Nobody("RefundFailed tells the same to everybody"),
    e.PaymentAnswered: _OF_ORDER,
    e.PaymentDisputed: (
        Tells(
            K.DISPUTE_OPENED,
            _FINANCE,
            lambda event: _dispute(event) | {"why": event.reason or ""},
            lambda event, envelope: f"dispute {event.dispute_id}",
        ),
    ),
    e.DisputeClosed: (
        Tells(
            K.DISPUTE_CLOSED,
            _FINANCE,
            lambda event: _dispute(event) | {"is_won": "yes" if event.won else ""},
            lambda event, envelope: f"dispute {event.dispute_id}",
        ),
    ),
    # inventory
    e.InventoryReserved: _OF_ORDER,
    e.InventoryReleased: _OF_ORDER,
    e.InventoryRestocked: _OF_STOCK,
    e.ReservationSplit: _OF_STOCK,
    e.BackorderFilled: Nobody("the parcel leaves soon, and that is told"),
    e.BackorderDelayed: Nobody("the order tells it with the day that its customer was told (OrderDelayed)"),
    e.ReturnShelved: _OF_STOCK,
    e.StockLevelChanged: _OF_STOCK,
    e.LowStockAlert: Acts("it is gathered for the daily digest of the warehouse (`low_stock`)"),
    # shipping
    e.ShipmentCreated: _OF_ORDER,
    e.ShipmentDispatched: (
        Tells(K.ORDER_SHIPPED, _CUSTOMER, _tracking, _parcel, _ONE_PARCEL),
        Tells(K.PART_SHIPPED, _CUSTOMER, _tracking, _parcel, _SEVERAL),
    ),
    e.ShipmentDelivered: (
        Tells(K.ORDER_DELIVERED, _CUSTOMER, _tracking, _parcel, _ONE_PARCEL),
        Tells(K.PART_DELIVERED, _CUSTOMER, _tracking, _parcel, _SEVERAL),
    ),
    e.ShipmentLost: Nobody("the order tells it (OrderUndelivered)"),
    e.ShipmentReturned: Nobody("the order tells it (OrderUndelivered)"),
    e.ReturnLabelUpdated: Nobody("the return tells what comes of it"),
    e.TrackingUpdated: Nobody("who wants to know looks at the tracking"),
    # notification
    e.NotificationSent: _OWN_NEWS,
    e.NotificationFailed: (
        Tells(
            K.CUSTOMER_UNREACHED,
            _SUPPORT,
            lambda event: {"about": event.kind, "channel": event.channel},
            lambda event, envelope: f"{event.notification_id}:{event.channel}",
            When("the customer has to do something", lambda event: event.kind in MUST_ACT),
        ),
    ),
    e.EmailDelivered: _OWN_NEWS,
}


def told_by(event: Event, envelope: CloudEvent) -> list[Told]:
    """What an event tells."""
    rows = TOLD[type(event)]
    if not isinstance(rows, tuple):
        return []
    return [_told(row, event, envelope) for row in rows if row.when is None or row.when.holds(event)]


def _told(row: Tells, event: Event, envelope: CloudEvent) -> Told:
    is_customers = row.audience is Audience.CUSTOMER
    return Told(
        kind=row.kind,
        about=row.about(event, envelope),
        values=dict(row.values(event)),
        audience=row.audience,
        customer_id=getattr(event, "customer_id", None) if is_customers else None,
        order_id=getattr(event, "order_id", None),
        traceparent=envelope.traceparent,
    )
