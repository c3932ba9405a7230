"""Reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, cast, func, or_, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlmodel import col, select

from chassis.database import Reader
from chassis.paging import KeyPart, decode_cursor, page_of
from chassis.replica import may_lag
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from contracts.returns import ReturnKind, ReturnReason
from services.analytics.model import CustomerValue, OrderFact, ProductDay, ReturnFact, ReturnsDay, SalesDay
from services.analytics.schemas import (
    Cancellations,
    CustomerDetail,
    CustomerReport,
    OrderReport,
    ProductOrder,
    ProductReport,
    ReturnReasons,
    SalesDayReport,
    SalesSummary,
    Summary,
)

RECENT_ORDERS = 20


@dataclass(frozen=True)
class Period:
    """UTC days, both included."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        return datetime.combine(self.first, time.min, UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return datetime.combine(self.last + timedelta(days=1), time.min, UTC)


@may_lag
async def sales_by_day(
    database: Reader, period: Period, *, currency: str | None, cursor: str | None, limit: int
) -> Page[SalesDayReport]:
    """Days on which anything happened, oldest first; one row for each currency."""
    place = tuple_(col(SalesDay.day), col(SalesDay.currency))
    query = select(SalesDay).where(col(SalesDay.day).between(period.first, period.last)).order_by(place).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.DAY, KeyPart.TEXT)
    if after:
        query = query.where(place > after)
    if currency:
        query = query.where(SalesDay.currency == currency)
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, _sales_day, lambda row: (row.day, row.currency))


@may_lag
async def top_products(
    database: Reader, period: Period, *, currency: str, by: ProductOrder, cursor: str | None, limit: int
) -> Page[ProductReport]:
    """Products by what was sold of them in a period, the best first."""
    quantity, revenue, returned = _sum(ProductDay.quantity), _sum(ProductDay.revenue_minor), _sum(ProductDay.returned)
    rank = revenue if by is ProductOrder.REVENUE else quantity
    names = func.array_agg(aggregate_order_by(col(ProductDay.name), col(ProductDay.day).desc()))
    columns: Any = (
        col(ProductDay.product_id),
        names.label("names"),
        quantity.label("quantity"),
        revenue.label("revenue_minor"),
        returned.label("returned"),
    )
    query = (
        select(*columns)
        .where(ProductDay.currency == currency, col(ProductDay.day).between(period.first, period.last))
        .group_by(col(ProductDay.product_id))
        .having(or_(quantity > 0, returned > 0))
        .order_by(rank.desc(), col(ProductDay.product_id))
        .limit(limit + 1)
    )
    after = decode_cursor(cursor, KeyPart.SUM, KeyPart.TEXT)
    if after:
        query = query.having(_further_down(rank, col(ProductDay.product_id), after[0], after[1]))
    async with database.reading() as session:
        rows = (await session.execute(query)).mappings().all()
    return page_of(
        rows,
        limit,
        lambda row: ProductReport.of(
            {**row, "name": row["names"][0], "currency": currency, "return_rate": _rate(row["returned"], row["quantity"])}
        ),
        lambda row: (row["revenue_minor" if by is ProductOrder.REVENUE else "quantity"], row["product_id"]),
    )


@may_lag
async def customers(database: Reader, *, currency: str, cursor: str | None, limit: int) -> Page[CustomerReport]:
    """Customers by value, the best first."""
    value, customer_id = col(CustomerValue.value_minor), col(CustomerValue.customer_id)
    query = select(CustomerValue).where(CustomerValue.currency == currency).order_by(value.desc(), customer_id).limit(limit + 1)
    after = decode_cursor(cursor, KeyPart.SUM, KeyPart.ID)
    if after:
        query = query.where(_further_down(value, customer_id, after[0], after[1]))
    async with database.reading() as session:
        rows = (await session.exec(query)).all()
    return page_of(rows, limit, _customer, lambda row: (row.value_minor, row.customer_id))


@may_lag
async def customer(database: Reader, customer_id: UUID) -> CustomerDetail:
    """One customer. Refusal: not_found."""
    values = select(CustomerValue).where(CustomerValue.customer_id == customer_id).order_by(col(CustomerValue.currency))
    returned = (
        select(func.coalesce(_sum(ReturnFact.refunded_minor), 0))
        .where(col(ReturnFact.order_id) == col(OrderFact.order_id))
        .scalar_subquery()
    )
    orders = (
        select(OrderFact, returned)
        .where(OrderFact.customer_id == customer_id)
        .order_by(col(OrderFact.placed_at).desc().nulls_last(), col(OrderFact.order_id))
        .limit(RECENT_ORDERS)
    )
    async with database.reading() as session:
        known = (await session.exec(values)).all()
        recent = (await session.exec(orders)).all()
    if not known:
        raise Refusal(ErrorCode.NOT_FOUND, "This customer has not ordered anything.")
    return CustomerDetail(
        customer_id=customer_id,
        values=[_customer(row) for row in known],
        recent_orders=[OrderReport.of(row.model_dump() | {"status": row.status, "returned_minor": back}) for row, back in recent],
    )


@may_lag
async def summary(database: Reader, period: Period) -> Summary:
    """A period at a glance."""
    counts = ("placed", "confirmed", "cancelled", "completed", "undelivered", "returned")
    names = (*counts, "gross_minor", "refunds_minor", "returned_minor")
    sums = [_sum(getattr(SalesDay, name)).label(name) for name in names]
    sales = (
        select(SalesDay.currency, *sums)
        .where(col(SalesDay.day).between(period.first, period.last))
        .group_by(col(SalesDay.currency))
        .order_by(col(SalesDay.currency))
    )
    cancellations = (
        select(OrderFact.cancel_code, func.count())
        .where(col(OrderFact.cancelled_at) >= period.start, col(OrderFact.cancelled_at) < period.end)
        .group_by(col(OrderFact.cancel_code))
        .order_by(func.count().desc(), col(OrderFact.cancel_code))
    )
    returns = (
        select(ReturnsDay.kind, ReturnsDay.reason, _sum(ReturnsDay.returns), _sum(ReturnsDay.units))
        .where(col(ReturnsDay.day).between(period.first, period.last))
        .group_by(col(ReturnsDay.kind), col(ReturnsDay.reason))
        .order_by(_sum(ReturnsDay.units).desc(), col(ReturnsDay.kind), col(ReturnsDay.reason))
    )
    async with database.reading() as session:
        sold = (await session.execute(sales)).mappings().all()
        cancelled = (await session.exec(cancellations)).all()
        returned = (await session.exec(returns)).all()
    return Summary(
        first_day=period.first,
        last_day=period.last,
        sales=[
            SalesSummary.of(
                {
                    **_renamed(dict(row)),
                    "net_minor": row["gross_minor"] - row["refunds_minor"],
                    "average_order_minor": round(Decimal(row["gross_minor"]) / row["confirmed"]) if row["confirmed"] else None,
                }
            )
            for row in sold
        ],
        cancellations=[Cancellations(code=code, orders=count) for code, count in cancelled],
        returns=[
            ReturnReasons(kind=ReturnKind(kind), reason=ReturnReason(reason), returns=count, units=units)
            for kind, reason, count, units in returned
        ],
    )


def _sales_day(row: SalesDay) -> SalesDayReport:
    return SalesDayReport.of(_renamed(row.model_dump()) | {"net_minor": row.gross_minor - row.refunds_minor})


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of sales, in which the returns' number and their amount have names of their own."""
    return {"returned_amount_minor" if name == "returned_minor" else name: value for name, value in row.items()}


def _rate(returned: int, kept: int) -> Decimal | None:
    return round(Decimal(returned) / (returned + kept), 4) if returned + kept else None


def _customer(row: CustomerValue) -> CustomerReport:
    return CustomerReport.of(row.model_dump())


def _sum(column: Any) -> ColumnElement[int]:
    return cast(func.sum(column), BigInteger)


def _further_down(rank: Any, tie: Any, last_rank: int, last_tie: object) -> ColumnElement[bool]:
    """What comes after a row where the best come first, and equals by `tie`."""
    return and_(rank <= last_rank, or_(rank < last_rank, tie > last_tie))
