"""Reports over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query

from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from contracts.base import Day
from contracts.errors import ErrorCode, Refusal
from contracts.money import Currency
from contracts.paging import Page
from services.analytics import queries
from services.analytics.access import ACCESS
from services.analytics.queries import Period
from services.analytics.schemas import CustomerDetail, CustomerReport, ProductOrder, ProductReport, SalesDayReport, Summary

LONGEST_PERIOD = timedelta(days=366)
USUAL_PERIOD = timedelta(days=30)

public = ACCESS.router(prefix="/api/v1/reports", tags=["analytics"])


async def _period(
    first: Annotated[
        Day | None, Query(alias="from", description="First UTC day; 29 days before `to` if absent.", examples=["2026-10-01"])
    ] = None,
    last: Annotated[Day | None, Query(alias="to", description="Last UTC day; today if absent.", examples=["2026-10-31"])] = None,
) -> Period:
    last = last or datetime.now(UTC).date()
    first = first or last - USUAL_PERIOD + timedelta(days=1)
    if first > last or last - first >= LONGEST_PERIOD:
        days = LONGEST_PERIOD.days
        raise Refusal(ErrorCode.VALIDATION_FAILED, f"A period has 1 to {days} days, and `from` is not after `to`.")
    return Period(first, last)


InPeriod = Annotated[Period, Depends(_period)]


@public.get("/summary", summary="A period at a glance")
async def summary(db: MayLag, period: InPeriod) -> Summary:
    return await queries.summary(db, period)


@public.get("/sales-by-day", summary="Orders and revenue per UTC day and currency, oldest first")
async def sales_by_day(
    db: MayLag, period: InPeriod, currency: Currency | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[SalesDayReport]:
    return await queries.sales_by_day(db, period, currency=currency, cursor=cursor, limit=limit)


@public.get("/top-products", summary="Products by what was sold of them, the best first")
async def top_products(
    db: MayLag,
    period: InPeriod,
    currency: Currency = "USD",
    by: ProductOrder = ProductOrder.REVENUE,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ProductReport]:
    return await queries.top_products(db, period, currency=currency, by=by, cursor=cursor, limit=limit)


@public.get("/customers", summary="Customers by value, the best first")
async def customers(db: MayLag, currency: Currency = "USD", cursor: Cursor = None, limit: Limit = 50) -> Page[CustomerReport]:
    return await queries.customers(db, currency=currency, cursor=cursor, limit=limit)


@public.get("/customers/{customer_id}", summary="One customer: value and latest orders")
async def customer(db: MayLag, customer_id: UUID) -> CustomerDetail:
    return await queries.customer(db, customer_id)
