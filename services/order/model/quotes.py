"""Quotes: what an order would cost, kept for as long as it may be ordered at that."""

from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Column, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from contracts.errors import ErrorCode, Refusal
from contracts.orders import OrderLine, QuoteRequest
from contracts.pricing import OrderCharges
from services.order.model.order import Table
from services.order.model.pricing import Priced


class Quote(Table, table=True):
    """What an order would cost. It names no person; where it would go is kept as a hash."""

    __tablename__ = "quotes"
    __table_args__ = (Index("ix_quotes_valid_until", "valid_until"),)

    quote_id: UUID = Field(primary_key=True)
    customer_id: UUID
    priced_by: str = Field(max_length=64)
    """Of the request: `QuoteRequest.priced_by`."""
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """OrderLine each."""
    charges: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """OrderCharges."""
    valid_until: datetime = Field(sa_column=time_column())

    @classmethod
    def new(cls, quote_id: UUID, customer_id: UUID, priced_by: str, priced: Priced, valid: timedelta) -> Self:
        """What was worked out just now."""
        return cls(
            quote_id=quote_id,
            customer_id=customer_id,
            priced_by=priced_by,
            lines=[line.model_dump(mode="json") for line in priced.lines],
            charges=priced.charges.model_dump(mode="json"),
            valid_until=utc_now() + valid,
        )

    @property
    def priced(self) -> Priced:
        return Priced(tuple(map(OrderLine.model_validate, self.lines)), OrderCharges.model_validate(self.charges))

    def require_asked_by(self, priced_by: str) -> None:
        """Refusal: idempotency_key_reused, if another request asked for it."""
        if self.priced_by != priced_by:
            raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another body.")


def orderable(quote: Quote | None, customer_id: UUID, request: QuoteRequest) -> Priced:
    """What an order with this quote costs. Refusals: quote_expired, also if there is none; quote_mismatch."""
    if quote is None or quote.customer_id != customer_id or quote.valid_until <= utc_now():
        raise Refusal(ErrorCode.QUOTE_EXPIRED, "There is no such quote, or not any more; ask for a new one.")
    if quote.priced_by != request.priced_by:
        detail = "The quote is for another order: lines, address, warehouse, shipping and discount codes have to be the same."
        raise Refusal(ErrorCode.QUOTE_MISMATCH, detail)
    return quote.priced
