"""Bodies of the endpoints of amendments, beside those in `contracts.orders`."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from contracts.address import Address
from contracts.base import Contract
from contracts.errors import ErrorCode
from contracts.money import Money
from contracts.orders import OrderLine, Speed
from contracts.pricing import OrderCharges
from services.order.model.amending import AmendmentStatus

if TYPE_CHECKING:
    from services.order.model import OrderAmendment
    from services.order.model.amending import PreviewedAmendment

PREVIEW_EXAMPLES: Any = {
    "three instead of two": {"value": {"lines": [{"line_id": 1, "quantity": 3}]}},
    "another product, without the second line": {
        "value": {"lines": [{"product_id": "1029743", "quantity": 1}, {"line_id": 2, "quantity": 0}]}
    },
    "faster": {"value": {"shipping": "express"}},
}
AMEND_EXAMPLES: Any = {
    **PREVIEW_EXAMPLES,
    "paid with another card": {"value": {"lines": [{"line_id": 1, "quantity": 3}], "payment_token": "pm_card_visa"}},
}


class AmendmentPreview(Contract):
    """What an amendment would come to now. Nothing is reserved, and nothing is certain: stock, card and carrier are asked when it
    is made."""

    order_id: UUID
    lines: tuple[OrderLine, ...]
    """The order's, as they would be. A new one has the id that it would get."""
    charges: OrderCharges
    charges_before: OrderCharges | None
    total: Money
    total_before: Money
    """What the order costs now, without what was left out or cancelled."""
    difference: Money
    """Below zero: it costs less."""
    to_charge: Money
    """What would be charged in addition; of an order that is paid as its parcels leave: held."""
    to_give_back: Money
    """What would go back, or would not be taken."""
    needs_staff: bool
    """Whether the shop's support has to make it, because of its total."""

    @classmethod
    def of(cls, previewed: "PreviewedAmendment") -> Self:
        order, amended = previewed.order, previewed.amended
        nothing, difference = Money.from_minor(0, order.currency), amended.difference
        return cls(
            order_id=order.order_id,
            lines=amended.priced.lines,
            charges=amended.priced.charges,
            charges_before=order.order_charges,
            total=amended.priced.charges.total,
            total_before=amended.owed_before,
            difference=difference,
            to_charge=difference if difference.minor > 0 else nothing,
            to_give_back=nothing - difference if difference.minor < 0 else nothing,
            needs_staff=previewed.needs_staff,
        )


class AmendmentView(Contract):
    """An amendment that was asked for, and what came of it."""

    order_id: UUID
    number: int
    status: AmendmentStatus
    by_staff: bool
    lines: tuple[OrderLine, ...]
    total: Money
    total_before: Money
    charges: OrderCharges | None
    charges_before: OrderCharges | None
    ship_to: Address
    shipping: Speed
    charged: Money
    """What was charged in addition; of an order that is paid as its parcels leave: held."""
    given_back: Money
    code: ErrorCode | None = None
    """Why it came to nothing."""
    detail: str | None = None
    asked_at: datetime
    answered_at: datetime | None = None

    @classmethod
    def of(cls, row: "OrderAmendment", **more: Any) -> Self:
        amendment = row.amendment
        currency = amendment.total.currency
        return cls(
            order_id=row.order_id,
            number=row.number,
            status=row.status,
            by_staff=amendment.by_staff,
            lines=amendment.lines,
            total=amendment.total,
            total_before=amendment.owed_before,
            charges=amendment.charges,
            charges_before=row.charges_before,
            ship_to=amendment.ship_to,
            shipping=amendment.shipping,
            charged=Money.from_minor(row.charged_minor, currency),
            given_back=Money.from_minor(row.given_back_minor, currency),
            code=ErrorCode(row.code) if row.code else None,
            detail=row.detail,
            asked_at=row.asked_at,
            answered_at=row.answered_at,
            **more,
        )


class StaffAmendmentView(AmendmentView):
    """The same as staff see it."""

    by: str
    """`customer`, or the id of who of the staff has made it."""

    @classmethod
    def of(cls, row: "OrderAmendment", **more: Any) -> Self:
        return super().of(row, by=row.amendment.by, **more)
