"""Bodies of the endpoints of returns, beside those in `contracts.returns`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field

from contracts.base import Contract, Reason, Request, WarehouseId
from contracts.errors import ErrorCode, Problem
from contracts.money import Money
from contracts.orders import LineRequest, OrderLine
from contracts.pricing import OrderCharges
from contracts.returns import (
    Condition,
    ReceivedLine,
    Resolution,
    ReturnedUnits,
    ReturnKind,
    ReturnLine,
    ReturnReason,
    ReturnState,
    ReturnStatus,
    ReturnTimelineEntry,
    SendBack,
    Settlement,
)
from services.order.model.returns import ReturnableLine

if TYPE_CHECKING:
    from services.order.model import Return
    from services.order.model.returns import Previewed

RETURN_EXAMPLES: Any = {
    "one of them does not fit": {
        "value": {"lines": [{"line_id": 1, "quantity": 1, "reason": "wrong_size"}], "comment": "The next size would do."}
    },
    "in exchange for something else": {
        "value": {
            "resolution": "exchange",
            "lines": [{"line_id": 1, "quantity": 1, "reason": "changed_mind"}],
            "exchange_for": [{"product_id": "1082185", "quantity": 1}],
            "payment_token": "pm_card_visa",
        }
    },
    "it arrived broken: send it once more": {
        "value": {"kind": "claim", "resolution": "resend", "lines": [{"line_id": 2, "quantity": 1, "reason": "damaged"}]}
    },
}
REASON_EXAMPLES: Any = {"a reason": {"value": {"reason": "Photos show the damage"}}}
RECEIPT_EXAMPLES: Any = {
    "all of it, one of them damaged": {
        "value": {
            "lines": [
                {"line_id": 1, "quantity": 1, "condition": "good"},
                {"line_id": 1, "quantity": 1, "condition": "damaged"},
            ]
        }
    },
    "the parcel was empty": {"value": {"lines": [], "reason": "Nothing but paper in it"}},
}


class ReturnReasonBody(Request):
    """Why somebody decides, or calls a return off."""

    reason: Reason


class ReceiptBody(Request):
    """What has come."""

    lines: Annotated[list[ReceivedLine], Field(max_length=200)]
    """By line and condition. Fewer than were announced may come, and none; a line may stand here once for each condition."""
    warehouse_id: WarehouseId | None = None
    """Where; null: where they were expected."""
    reason: Reason = "Received"
    """A remark for the shop's staff."""


class ReturnableView(Contract):
    """What of an order may be returned now."""

    order_id: UUID
    lines: tuple[ReturnableLine, ...]


class ReturnLineView(Contract):
    """Units of one line that came in one parcel."""

    line_id: int
    product_id: str
    quantity: int
    parcel: int
    """Which of the order's parcels they came in."""
    reason: ReturnReason

    @classmethod
    def of(cls, line: ReturnLine) -> Self:
        return cls.model_validate(line.model_dump())


class CameView(Contract):
    """Units of one line that came back in one condition."""

    line_id: int
    product_id: str
    quantity: int
    condition: Condition

    @classmethod
    def of(cls, units: ReturnedUnits) -> Self:
        line = units.line
        return cls(line_id=line.line_id, product_id=line.product_id, quantity=line.quantity, condition=units.condition)


class PreviewView(Contract):
    """What a return would come to, if all of it came in good condition. Nothing is promised by it."""

    lines: tuple[ReturnLineView, ...]
    settlement: Settlement
    needs_approval: bool
    warehouse_id: str
    """Where the goods would go."""
    instead: tuple[OrderLine, ...] = ()
    """Of an exchange."""
    charges: OrderCharges | None = None
    """Of an exchange: what that costs; `credit` of it is paid with the return, and `total` by the customer."""
    goes_back: Money
    """What the customer gets back in money."""

    @classmethod
    def of(cls, preview: "Previewed") -> Self:
        run, instead = preview.run, preview.instead
        value = preview.settlement.value
        used = instead.charges.credit if instead else None
        is_money = run.resolution == Resolution.REFUND
        return cls(
            lines=tuple(map(ReturnLineView.of, run.lines)),
            settlement=preview.settlement,
            needs_approval=run.terms.needs_approval,
            warehouse_id=run.warehouse_id,
            instead=instead.lines if instead else (),
            charges=instead.charges if instead else None,
            goes_back=value if is_money else value - used if used else Money.zero(run.currency),
        )


class ReturnSummary(Contract):
    """A return in a list."""

    order_id: UUID
    number: int
    customer_id: UUID
    kind: ReturnKind
    resolution: Resolution
    status: ReturnStatus
    lines: tuple[ReturnLineView, ...]
    warehouse_id: str
    """Where its goods are expected, or have come to."""
    tracking_number: str | None = None
    due_at: datetime | None = None
    refunded: Money
    requested_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, found: "Return") -> Self:
        return cls(
            order_id=found.order_id,
            number=found.number,
            customer_id=found.customer_id,
            kind=found.kind,
            resolution=found.resolution,
            status=found.status,
            lines=tuple(map(ReturnLineView.of, found.return_lines)),
            warehouse_id=found.warehouse_id,
            tracking_number=found.tracking_number,
            due_at=found.due_at,
            refunded=found.refunded,
            requested_at=found.requested_at,
            updated_at=found.updated_at,
        )


class ReturnView(ReturnSummary):
    """A return as its customer sees it."""

    send_back: SendBack | None = None
    """How its goods come back; null: they do not."""
    exchange_for: tuple[LineRequest, ...] = ()
    needs_approval: bool
    came: tuple[CameView, ...] | None = None
    """Null: nothing was received yet."""
    estimate: Settlement
    """What it comes to, if all of it comes in good condition."""
    settlement: Settlement | None = None
    """What it comes to; null before that is certain."""
    replacement_id: UUID | None = None
    """The order that brings other goods, or the same once more."""
    code: ErrorCode | None = None
    """Why it is where it is, if something was refused."""
    detail: str | None = None
    """The same in plain words, or what it waits for."""
    version: int
    """It rises with every change, and is the return's ETag."""

    @classmethod
    def of(cls, found: "Return", **more: Any) -> Self:
        came = found.units_that_came
        return cls(
            **dict(ReturnSummary.of(found)),
            send_back=found.send_back if found.kind == ReturnKind.RETURN else None,
            exchange_for=found.wanted_instead,
            needs_approval=found.needs_approval,
            came=None if came is None else tuple(map(CameView.of, came)),
            estimate=found.estimated,
            settlement=found.settled,
            replacement_id=found.replacement_id,
            code=ErrorCode(found.code) if found.code else None,
            detail=found.detail,
            version=found.version,
            **more,
        )


class StaffReturnView(ReturnView):
    """A return as staff see it, who may have to decide about it; one of their own they see as its customer."""

    comment: str = ""
    """What its customer wrote."""
    for_staff: str | None = None
    """What `detail` does not say to the customer: who decided and why, what failed."""
    waiting_for: str | None = None
    """In plain words; null if its saga did not answer in time, or has ended. Then the three that follow are empty."""
    then: str | None = None
    """What happens at `due_at`."""
    stuck_undos: tuple[str, ...] = ()
    """Steps that do not succeed, and are being retried."""
    given_up: tuple[str, ...] = ()
    """Steps that were ended by hand without being done."""

    @classmethod
    def of_saga(cls, found: "Return", state: ReturnState | None) -> Self:
        """The return as it is now, and what its saga tells of it, if that answered."""
        return cls.of(
            found,
            comment=found.comment,
            for_staff=found.for_staff,
            waiting_for=state.waiting_for if state else None,
            then=state.then if state else None,
            stuck_undos=state.stuck_undos if state else (),
            given_up=state.given_up if state else (),
        )


class StaleReturn(Problem):
    """The return is no longer what the client has seen."""

    current_version: int
    current: StaffReturnView | ReturnView
    """The return as its record is now."""


class ReturnTimelineItem(Contract):
    """One thing that happened to a return."""

    at: datetime
    what: str
    status: ReturnStatus
    detail: str | None = None

    @classmethod
    def of(cls, entry: ReturnTimelineEntry) -> Self:
        return cls.model_validate(entry.model_dump())


class StaffReturnTimelineItem(ReturnTimelineItem):
    """The same, with what only staff may know."""

    for_staff: str | None = None


class ReturnTimeline(Contract):
    """What happened to a return, oldest first."""

    order_id: UUID
    number: int
    source: Literal["workflow", "history"]
    """Who told it: the saga itself, in full; or, when it cannot be asked, the return's record."""
    entries: tuple[ReturnTimelineItem, ...]


class StaffReturnTimeline(ReturnTimeline):
    """The same for staff."""

    entries: tuple[StaffReturnTimelineItem, ...]
