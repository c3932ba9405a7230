"""The order's record: its state, the one way through its statuses, and the events that tell of a change."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Self
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.access import Grant
from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.idempotency import Idempotency
from chassis.inbox import Inbox
from chassis.outbox import Outbox
from chassis.statements import Record
from chassis.store import Aggregate
from contracts.address import Address
from contracts.errors import ErrorCode, FieldError, Refusal
from contracts.events import (
    Event,
    OrderActionRequired,
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
)
from contracts.money import Money
from contracts.orders import (
    FINAL_STATUSES,
    NEXT_STATUS,
    AdvanceOrder,
    CancelRequest,
    CaptureAt,
    LineUnits,
    OrderAdvanced,
    OrderLine,
    OrderProgress,
    OrderStatus,
    Outcome,
    PlaceOrder,
    Replaces,
    TimelineEntry,
)
from contracts.parcels import OrderParcel, ParcelLine, ParcelStatus, Trouble
from contracts.payment_actions import ActionDue
from contracts.pricing import OrderCharges

metadata = new_metadata()
outbox = Outbox("order", metadata)
inbox = Inbox(metadata)
idempotency = Idempotency(metadata)

HAND_OVER_AFTER = timedelta(seconds=5)
"""Whoever placed an order starts its saga; if nothing was heard of it so long after, a job does."""
WHAT_HAPPENED = {
    OrderStatus.PENDING: "Order received",
    OrderStatus.RESERVED: "Goods reserved",
    OrderStatus.PAYMENT_DUE: "Card declined; another may be tried",
    OrderStatus.ACTION_REQUIRED: "Payment to be confirmed",
    OrderStatus.IN_REVIEW: "Held for review",
    OrderStatus.PAID: "Payment taken",
    OrderStatus.CONFIRMED: "Order confirmed",
    OrderStatus.PARTIALLY_SHIPPED: "A part of it dispatched",
    OrderStatus.SHIPPED: "Parcel dispatched",
    OrderStatus.UNDELIVERED: "Parcel does not arrive",
    OrderStatus.DELIVERED: "Parcel delivered",
    OrderStatus.COMPLETED: "Order completed",
    OrderStatus.REFUNDED: "Money given back",
    OrderStatus.CANCELLING: "Cancellation started",
    OrderStatus.CANCELLED: "Order cancelled",
}
AUTHORISED = "Payment authorised"
"""In place of "Payment taken", of an order whose money is taken as its parcels leave."""

ON_ITS_WAY = frozenset(
    {OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_SHIPPED, OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED}
)
"""Once a parcel is in one of these, the trouble with it is over."""
_ONLY_PARCEL = {
    OrderStatus.RESERVED: ParcelStatus.RESERVED,
    OrderStatus.PAYMENT_DUE: ParcelStatus.RESERVED,
    OrderStatus.ACTION_REQUIRED: ParcelStatus.RESERVED,
    OrderStatus.IN_REVIEW: ParcelStatus.RESERVED,
    OrderStatus.PAID: ParcelStatus.RESERVED,
    OrderStatus.CONFIRMED: ParcelStatus.BOOKED,
    OrderStatus.SHIPPED: ParcelStatus.SHIPPED,
    OrderStatus.UNDELIVERED: ParcelStatus.UNDELIVERED,
    OrderStatus.DELIVERED: ParcelStatus.DELIVERED,
    OrderStatus.COMPLETED: ParcelStatus.DELIVERED,
    OrderStatus.REFUNDED: ParcelStatus.REFUNDED,
    OrderStatus.CANCELLED: ParcelStatus.CANCELLED,
}
"""Where the parcel is of an order that has just one: its saga tells of it by the order's status."""


def json_column() -> "Column[Any]":
    """A column for a JSON value, or null."""
    return Column(JSONB(none_as_null=True))


class Table(Record):
    metadata: ClassVar[MetaData] = metadata


class Order(Table, Aggregate, table=True):
    """What the saga has told of one order. The saga decides; this record is what customers and lists read."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("ix_orders_customer", "customer_id", "placed_at", "order_id"),
        Index("ix_orders_placed", "placed_at", "order_id"),
        Index("ix_orders_status", "status", "placed_at", "order_id"),
        Index("ix_orders_hand_over", "hand_over_at", postgresql_where=text("hand_over_at is not null")),
    )

    order_id: UUID = Field(primary_key=True)
    customer_id: UUID
    fingerprint: str | None = Field(default=None, max_length=64)
    """Hash of the request that placed it."""
    placement: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """PlaceOrder, complete with the payment token, until its saga is known to run."""
    cancel_wish: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """CancelRequest that was accepted while its saga could not be told."""
    hand_over_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When the job tells its saga what it may not know yet; null if it knows all."""
    outcome: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """Outcome: the first definite one, which whoever repeats the request is told again."""
    declined: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """Outcome, with until when another card may be tried; while the order is PAYMENT_DUE its client is told it."""
    action: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """ActionDue: what its customer has to do to pay, while the order is ACTION_REQUIRED."""
    as_of: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When its saga knew what is known here, by the saga's clock; null: it has never said."""
    status: OrderStatus = Field(sa_column=enum_column(OrderStatus))
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """OrderLine each."""
    currency: str = Field(max_length=3)
    charges: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """OrderCharges; null only of orders that cost the sum of their lines."""
    total_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    amended: int = 0
    """The number of the last amendment that has changed it."""
    refunded_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """All that went back to the customer from its payment."""
    returned_minor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    """What of that went back for returns."""
    replaces: dict[str, Any] | None = Field(default=None, sa_column=json_column())
    """Replaces: the return that brings it, if one does."""
    capture_at: str | None = Field(default=None, max_length=20)
    """When its money is taken: a CaptureAt; null of orders of before that could be said, which are paid when confirmed."""
    ship_to: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """Address."""
    warehouse_id: str | None = Field(default=None, max_length=40)
    needs_review: bool = False
    review_reason: str | None = None
    """Why it was held for review; for staff only."""
    code: str | None = Field(default=None, max_length=60)
    """The refusal that ended it, if one did: an ErrorCode."""
    detail: str | None = None
    trouble: str | None = Field(default=None, max_length=40)
    """Why its parcel does not arrive: a Trouble."""
    tracking_number: str | None = Field(default=None, max_length=100)
    parcels: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column())
    """OrderParcel each, as its saga told them last; null: it has told of no more than one parcel of everything."""
    history: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """Each status it reached, oldest first: `status`, `at`, `detail`, `for_staff`. Kept in the row, because every change writes
    both."""
    placed_at: datetime = Field(sa_column=time_column())
    confirmed_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    updated_at: datetime = Field(sa_column=time_column())
    held_up_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """When its customer was told that it takes longer until it is confirmed."""
    forgotten_at: datetime | None = Field(default=None, sa_column=time_column(nullable=True))
    """Since when it names no person, because its customer was forgotten."""

    @classmethod
    def placed(cls, order: PlaceOrder) -> Self:
        """A new order, PENDING; its saga is still to be started."""
        now = utc_now()
        placement = order.model_dump(mode="json")
        return cls(
            order_id=order.order_id,
            customer_id=order.customer_id,
            fingerprint=order.fingerprint,
            placement=placement,
            hand_over_at=now + HAND_OVER_AFTER,
            status=OrderStatus.PENDING,
            lines=placement["lines"],
            currency=order.total.currency,
            charges=placement["charges"],
            total_minor=order.total.minor,
            refunded_minor=0,
            replaces=placement["replaces"],
            capture_at=order.capture_at,
            ship_to=placement["ship_to"],
            warehouse_id=order.warehouse_id,
            needs_review=order.needs_review,
            history=[history_entry(OrderStatus.PENDING, now, None, None)],
            placed_at=order.placed_at,
            updated_at=now,
        )

    @property
    def total(self) -> Money:
        return Money.from_minor(self.total_minor, self.currency)

    @property
    def refunded(self) -> Money:
        return Money.from_minor(self.refunded_minor, self.currency)

    @property
    def is_paid_at(self) -> CaptureAt:
        """When its money is taken."""
        return CaptureAt(self.capture_at) if self.capture_at else CaptureAt.CONFIRMATION

    @property
    def refunded_without_returns(self) -> Money:
        """What its own saga gave back."""
        return Money.from_minor(self.refunded_minor - self.returned_minor, self.currency)

    @property
    def replaced(self) -> Replaces | None:
        """The return that brought it, if one did."""
        return Replaces.model_validate(self.replaces) if self.replaces else None

    @property
    def order_lines(self) -> tuple[OrderLine, ...]:
        return tuple(map(OrderLine.model_validate, self.lines))

    @property
    def order_charges(self) -> OrderCharges | None:
        """What its total is made of."""
        return OrderCharges.model_validate(self.charges) if self.charges else None

    @property
    def since(self) -> datetime:
        """When it reached its status."""
        return datetime.fromisoformat(self.history[-1]["at"])

    @property
    def for_staff(self) -> str | None:
        """What staff may know beyond `detail`."""
        words: str | None = self.history[-1].get("for_staff")
        return words

    @property
    def to_start(self) -> PlaceOrder | None:
        """What its saga is started with; None if it is known to run."""
        return PlaceOrder.model_validate(self.placement) if self.placement else None

    @property
    def wish_to_cancel(self) -> CancelRequest | None:
        """What its saga has not been told yet."""
        return CancelRequest.model_validate(self.cancel_wish) if self.cancel_wish else None

    @property
    def kept_outcome(self) -> Outcome | None:
        """The outcome that stays; None while it is open."""
        return Outcome.model_validate(self.outcome) if self.outcome else None

    @property
    def outcome_so_far(self) -> Outcome | None:
        """What whoever repeats the request is told: the outcome that stays; or that the card was declined, while another may be
        tried; None while it is open."""
        is_due = self.status == OrderStatus.PAYMENT_DUE and self.declined is not None
        return Outcome.model_validate(self.declined) if is_due else self.kept_outcome

    @property
    def pay_until(self) -> datetime | None:
        """Until when another card may be tried: while its status is PAYMENT_DUE, or of an order whose money is taken as its
        parcels leave, and of which less could be held or taken than it needs."""
        return Outcome.model_validate(self.declined).pay_until if self.declined else None

    @property
    def payment_action(self) -> ActionDue | None:
        """What its customer has to do to pay, while its status is ACTION_REQUIRED."""
        return ActionDue.model_validate(self.action) if self.action else None

    @property
    def told_parcels(self) -> tuple[OrderParcel, ...]:
        """Its parcels, as its saga told them; none, if there is no more to tell than one parcel of everything."""
        return tuple(map(OrderParcel.model_validate, self.parcels or ()))

    @property
    def order_parcels(self) -> tuple[OrderParcel, ...]:
        """Its parcels. The only one of an order is known by the order's status, once it is known which warehouse sends it."""
        status = _ONLY_PARCEL.get(self.status)
        if self.parcels or status is None or self.warehouse_id is None:
            return self.told_parcels
        lines = [
            ParcelLine(line_id=line.line_id or place, product_id=line.product_id, quantity=line.quantity)
            for place, line in enumerate(self.order_lines, start=1)
        ]
        only = OrderParcel(
            parcel=1,
            status=status,
            lines=tuple(lines),
            warehouse_id=self.warehouse_id,
            tracking_number=self.tracking_number,
            trouble=Trouble(self.trouble) if self.trouble else None,
        )
        return (only,)

    def delivery_of(self, parcel: OrderParcel) -> datetime:
        """When a parcel that was delivered was. Of what was told without a time, when the order was delivered, or the last was
        heard of it."""
        delivered = [entry["at"] for entry in self.history if entry["status"] == OrderStatus.DELIVERED]
        return parcel.delivered_at or (datetime.fromisoformat(delivered[0]) if delivered else self.updated_at)

    def give_back_for_return(self, minor: int) -> None:
        """So much more went back from its payment for a return."""
        self.returned_minor += minor
        self.refunded_minor += minor

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status in FINAL_STATUSES

    @property
    def is_to_be_cancelled(self) -> bool:
        """Whether all of it is cancelled, or is going to be, or somebody has asked for that already."""
        wish = self.wish_to_cancel
        return self.status in (OrderStatus.CANCELLING, OrderStatus.CANCELLED) or (wish is not None and not wish.lines)

    def require_placed_by(self, fingerprint: str) -> None:
        """Refusal: idempotency_key_reused, if another request placed it."""
        if self.fingerprint != fingerprint:
            raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another body.")

    def keep_wish_to_cancel(self, request: CancelRequest) -> bool:
        """Keep a wish for the job to pass on; False if another one is kept, which does not include it. Of wishes for all of the
        order the first one counts; it takes the place of one for some units. Of an order that names nobody any more none is
        kept."""
        kept = self.wish_to_cancel
        if self.forgotten_at is None and (kept is None or (kept.lines and not request.lines)):
            self.cancel_wish = request.model_dump(mode="json")
            self.hand_over_at = utc_now()
            return True
        return kept is None or not kept.lines or kept.key == request.key

    def require_units(self, wanted: Sequence[LineUnits]) -> None:
        """Refusal: validation_failed, naming the fields, if it has no such lines or was not for so many units."""
        ordered = {line.line_id or place: line.quantity for place, line in enumerate(self.order_lines, start=1)}
        errors = []
        for place, line in enumerate(wanted):
            if line.line_id not in ordered:
                errors.append(_field_error(place, "line_id", "unknown", "The order has no such line."))
                continue
            ordered[line.line_id] -= line.quantity
            if ordered[line.line_id] < 0:
                errors.append(_field_error(place, "quantity", "more_than_ordered", "So many were not ordered."))
        if errors:
            told = {"errors": [error.model_dump(mode="json") for error in errors]}
            raise Refusal(ErrorCode.VALIDATION_FAILED, "The order has not what is to be cancelled.", extra=told)

    @property
    def cancelled_units(self) -> dict[int, int]:
        """How many units of each line were cancelled or left out, by line id."""
        units: dict[int, int] = {}
        for parcel in self.order_parcels:
            for line in parcel.lines if parcel.status == ParcelStatus.CANCELLED else ():
                units[line.line_id] = units.get(line.line_id, 0) + line.quantity
        return dict(sorted(units.items()))

    def handed_over(self, wish: CancelRequest | None) -> None:
        """Its saga runs, and knows this wish, if there was one."""
        self.placement = None
        if self.wish_to_cancel == wish:
            self.cancel_wish = None
        if self.cancel_wish is None:
            self.hand_over_at = None

    def advance(self, command: AdvanceOrder) -> list[Event]:
        """Walk the path, as far as it is new, and note what came with it. Refusal: illegal_transition.

        What was told before is a late retry: it changes nothing, so that it cannot overwrite what came after it. A word that
        brings no status is one, if its saga has known more since.
        """
        ahead = self._ahead(command)
        self.handed_over(None)
        if command.outcome and command.outcome.is_definite and self.outcome is None:
            self.outcome = command.outcome.model_dump(mode="json")
        if not ahead and not self._is_news(command):
            return []
        now, parcels_before, refunded_before, due_before = utc_now(), self.told_parcels, self.refunded_minor, self.pay_until
        was_confirmed = self.confirmed_at is not None
        for status in ahead[:-1]:
            self._become(status, now)
        for status in ahead[-1:]:  # words belong to the status that they came with
            self._become(status, now, command.detail, command.for_staff)
        if OrderStatus.CONFIRMED in ahead and not was_confirmed:
            self.confirmed_at = (command.outcome and command.outcome.at) or now
        if self._note(command, moved=bool(ahead)):
            self.updated_at = now
        events = [self._event_of(status, command) for status in ahead if status != OrderStatus.CONFIRMED or not was_confirmed]
        called_off = self._events_of_cancelled_parts(parcels_before, refunded_before) if was_confirmed else []
        of_parcels = self._events_of_parcels(parcels_before)
        return [*called_off, *filter(None, events), *self._events_of_payment(due_before), *of_parcels]

    def tell_held_up(self) -> OrderHeldUp:
        """Its customer waits for it for long: the event that tells so."""
        self.held_up_at = utc_now()
        return OrderHeldUp(order_id=self.order_id, customer_id=self.customer_id, total=self.total)

    def forget_person(self) -> OrderForgotten | None:
        """Blank what names its customer or was written by or about a person, once it has ended; the event, unless that was done
        before. Lines, sums, statuses, codes and the tracking number stay, and the country. What is added to an order later and
        names a person belongs here."""
        if self.forgotten_at is not None or not self.is_over:
            return None
        self.forgotten_at = utc_now()
        self.ship_to = Address.model_validate(self.ship_to).without_person().model_dump(mode="json")
        self.placement, self.cancel_wish, self.hand_over_at, self.fingerprint = None, None, None, None
        self.detail, self.review_reason, self.declined, self.action = None, None, None, None
        self.history = [entry | {"detail": None, "for_staff": None} for entry in self.history]
        if self.outcome:
            self.outcome = self.outcome | {"detail": None}
        return OrderForgotten(order_id=self.order_id, customer_id=self.customer_id)

    def timeline(self) -> list[TimelineEntry]:
        """What happened to it, oldest first."""
        return [
            TimelineEntry(
                at=entry["at"],
                what=AUTHORISED
                if status == OrderStatus.PAID and self.is_paid_at == CaptureAt.DISPATCH
                else WHAT_HAPPENED[status],
                status=status,
                detail=entry["detail"],
                for_staff=entry.get("for_staff"),
            )
            for entry in self.history
            if (status := OrderStatus(entry["status"]))
        ]

    def progress(self) -> OrderProgress:
        return OrderProgress(order_id=self.order_id, status=self.status)

    def advanced(self) -> OrderAdvanced:
        """The answer to its saga's word."""
        return OrderAdvanced(order_id=self.order_id, status=self.status, outcome=self.kept_outcome)

    def _ahead(self, command: AdvanceOrder) -> Sequence[OrderStatus]:
        """The path without the beginning that was walked before. Refusal: illegal_transition, if it does not go on from here."""
        if len(self.history) < command.after:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The order's record has missed what came before.")
        return command.new_to([OrderStatus(entry["status"]) for entry in self.history])

    def _is_news(self, command: AdvanceOrder) -> bool:
        """Whether a word that brings no status may tell more than is known. A task that was lost may have told of the same
        statuses; what its successor knows is younger, and counts."""
        if command.as_of is None or self.as_of is None:
            return len(self.history) == command.after
        nothing_since = len(self.history) == command.after + len(command.path)
        return command.as_of > self.as_of or (command.as_of == self.as_of and nothing_since)

    def _become(self, status: OrderStatus, now: datetime, detail: str | None = None, for_staff: str | None = None) -> None:
        if status not in NEXT_STATUS[self.status]:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"An order that is {self.status} cannot become {status}.")
        self.status = status
        self.history = [*self.history, history_entry(status, now, detail, for_staff)]

    def _note(self, command: AdvanceOrder, *, moved: bool) -> bool:
        """Keep what came with a word; whether any of it is new."""
        told: dict[str, Any] = {
            # The words of a status go with it; only why an order ended stays.
            "detail": command.detail if command.detail is not None or (moved and self.code is None) else self.detail,
            "code": command.code or self.code,
            "review_reason": command.review_reason or self.review_reason,
            "warehouse_id": command.warehouse_id or self.warehouse_id,
            "tracking_number": command.tracking_number or self.tracking_number,
            "trouble": command.trouble or (None if self.status in ON_ITS_WAY else self.trouble),
            "declined": self._declined_by(command),
            "action": self._action_by(command),
            "as_of": command.as_of or self.as_of,
        }
        if command.refunded is not None:
            told["refunded_minor"] = (Money.zero(self.currency) + command.refunded).minor + self.returned_minor
        if command.parcels:
            told["parcels"] = [parcel.model_dump(mode="json") for parcel in command.parcels]
        news = {name: value for name, value in told.items() if getattr(self, name) != value}
        for name, value in news.items():
            setattr(self, name, value)
        if self.status in (OrderStatus.UNDELIVERED, OrderStatus.REFUNDED) and self.trouble is None:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"An order is {self.status} for a reason.")
        return moved or bool(news.keys() - {"as_of"})

    def _declined_by(self, command: AdvanceOrder) -> dict[str, Any] | None:
        if self.status != OrderStatus.PAYMENT_DUE:
            if command.pay_until is None or self.is_over:
                return None
            due = Outcome(
                order_id=self.order_id, status=self.status, code=ErrorCode.PAYMENT_DECLINED, pay_until=command.pay_until
            )
            return due.model_dump(mode="json")
        declined = command.outcome if command.outcome and command.outcome.pay_until else None
        return declined.model_dump(mode="json") if declined else self.declined

    def _action_by(self, command: AdvanceOrder) -> dict[str, Any] | None:
        if self.status != OrderStatus.ACTION_REQUIRED:
            return None
        return command.action.model_dump(mode="json") if command.action else self.action

    def _event_of(self, status: OrderStatus, command: AdvanceOrder) -> Event | None:
        """The event that tells of reaching a status, if others are told of it."""
        who = {"order_id": self.order_id, "customer_id": self.customer_id, "total": self.total}
        if status == OrderStatus.PAYMENT_DUE and self.pay_until:  # one that was paid since is nobody's trouble any more
            return OrderPaymentDue(**who, pay_until=self.pay_until)
        if status == OrderStatus.ACTION_REQUIRED and self.payment_action:
            return OrderActionRequired(**who, action=self.payment_action)
        if status == OrderStatus.CONFIRMED:
            parts = {"warehouse_id": self.warehouse_id, "parcels": self.told_parcels}
            return OrderConfirmed(**who, lines=self.order_lines, charges=self.order_charges, **parts)
        if status == OrderStatus.CANCELLED:
            return OrderCancelled(
                **who,
                refunded=self.refunded_without_returns,
                was_confirmed=self.confirmed_at is not None,
                was_held_up=self.held_up_at is not None,
                code=ErrorCode(self.code) if self.code else None,
                reason=self.code.replace("_", " ").capitalize() if self.code else None,
            )
        if status == OrderStatus.UNDELIVERED and command.trouble and not command.parcels:  # one that is over needs no telling
            return OrderUndelivered(**who, trouble=command.trouble)
        if status == OrderStatus.REFUNDED and self.trouble:
            return OrderRefunded(**who, refunded=self.refunded_without_returns, trouble=Trouble(self.trouble))
        if status == OrderStatus.COMPLETED:
            refunded = self.refunded_without_returns
            return OrderCompleted(**who, refunded=refunded if refunded.minor else None)
        return None

    def _events_of_payment(self, due_before: datetime | None) -> list[Event]:
        """The event that tells of a confirmed order that another card is asked for."""
        due = self.pay_until
        if due is None or due == due_before or self.confirmed_at is None:
            return []
        who = {"order_id": self.order_id, "customer_id": self.customer_id, "total": self.total}
        return [OrderPaymentDue(**who, pay_until=due, was_confirmed=True)]

    def _events_of_parcels(self, told_before: Sequence[OrderParcel]) -> list[Event]:
        """The events that tell of parcels in trouble, and of those whose goods come later than was told before."""
        events: list[Event] = []
        who = {"order_id": self.order_id, "customer_id": self.customer_id, "total": self.total}
        before = {parcel.parcel: parcel for parcel in told_before}
        for parcel in self.told_parcels:
            known = before.get(parcel.parcel)
            trouble = parcel.trouble if parcel.status == ParcelStatus.UNDELIVERED else None
            if trouble and (known is None or known.trouble != trouble):
                events.append(OrderUndelivered(**who, trouble=trouble, parcel=parcel.parcel))
            if known and known.expected_on and parcel.status == ParcelStatus.AWAITED:
                expected, was = parcel.expected_on, known.expected_on
                if expected is None or expected > was:
                    events.append(OrderDelayed(**who, parcel=parcel.parcel, expected_on=expected, was_expected_on=was))
        return events

    def _events_of_cancelled_parts(self, told_before: Sequence[OrderParcel], refunded_before: int) -> list[Event]:
        """The events that tell of parcels which were called off while the rest of the order goes on, or has arrived. Each tells
        the price of its units, as far as so much went back."""
        if self.status in (OrderStatus.CANCELLING, OrderStatus.CANCELLED, OrderStatus.REFUNDED):
            return []
        before = {parcel.parcel for parcel in told_before if parcel.status == ParcelStatus.CANCELLED}
        lines = {line.line_id or place: line for place, line in enumerate(self.order_lines, start=1)}
        events: list[Event] = []
        went_back = self.refunded_minor - refunded_before
        for parcel in self.told_parcels:
            if parcel.status != ParcelStatus.CANCELLED or parcel.parcel in before or not parcel.lines:
                continue
            parts = [(lines[part.line_id], part) for part in parcel.lines if part.line_id in lines]
            price = sum(line.share_of(part.first, part.quantity).total for line, part in parts)
            refunded = min(price, went_back)
            went_back -= refunded
            events.append(
                OrderPartCancelled(
                    order_id=self.order_id,
                    customer_id=self.customer_id,
                    total=self.total,
                    parcel=parcel.parcel,
                    lines=parcel.lines,
                    refunded=Money.from_minor(refunded, self.currency),
                    amended=self.amended,
                )
            )
        return events


def created(order: PlaceOrder) -> OrderCreated:
    """The event that tells of a new order."""
    return OrderCreated(
        order_id=order.order_id, customer_id=order.customer_id, lines=order.lines, total=order.total, charges=order.charges
    )


def existing(order: Order | None) -> Order:
    """The order, if there is one. Refusal: not_found."""
    if order is None:
        raise _unknown()
    return order


def within_reach(order: Order | None, caller: Grant) -> Order:
    """The order, if there is one and the caller reaches it. Refusal: not_found."""
    if order is None or not caller.reaches(owner=order.customer_id):
        raise _unknown()
    return order


def _field_error(place: int, field: str, code: str, detail: str) -> FieldError:
    return FieldError(field=f"lines.{place}.{field}", code=code, detail=detail)


def _unknown() -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "There is no such order.")


def history_entry(status: StrEnum, at: datetime, detail: str | None, for_staff: str | None) -> dict[str, Any]:
    """What is kept of a status that was reached."""
    return {"status": status.value, "at": at.isoformat(), "detail": detail, "for_staff": for_staff}
