"""Discount codes: what staff change of them, and how often each is used."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, String, any_, bindparam, func
from sqlmodel import col, select

from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from services.order.model import (
    Discount,
    DiscountTerms,
    DiscountUses,
    Redemption,
    no_such_discount,
)
from services.order.model.discounts import NO_CODES, Standing

_CODES = any_(bindparam("codes", type_=ARRAY(String)))
USES = locked(DiscountUses, col(DiscountUses.code) == _CODES)
REDEMPTIONS_OF = locked(Redemption, col(Redemption.order_id) == bindparam("order_id"))
_USED_BY_CUSTOMER = (
    select(func.count())
    .where(
        col(Redemption.customer_id) == bindparam("customer_id"),
        col(Redemption.code) == col(Discount.code),
        col(Redemption.given_back_at).is_(None),
    )
    .scalar_subquery()
    .label("used_by_customer")
)
STANDINGS = prepared(
    select(Discount, col(DiscountUses.times_used), _USED_BY_CUSTOMER)
    .join(DiscountUses, col(DiscountUses.code) == col(Discount.code))
    .where(col(Discount.code) == _CODES)
)


@transaction
async def put_discount(work: UnitOfWork, code: str, terms: DiscountTerms, seen: int | None = None) -> Discount:
    """Add a code, or change its terms. `seen`: the version that the caller has seen.

    Refusals: not_found (never there although it was seen), stale_version."""
    discount, is_new = await work.get_or_add(Discount.new(code, terms))
    if is_new:
        if seen is not None:
            raise no_such_discount()
        work.add(DiscountUses(code=code))
        return discount
    discount.require_version(seen)
    discount.change(terms)
    return discount


@transaction
async def disable_discount(work: UnitOfWork, code: str, seen: int | None = None) -> Discount:
    """No order is accepted with a code any more. Refusals: not_found, stale_version."""
    discount = await work.get(Discount, code)
    if discount is None:
        raise no_such_discount()
    discount.require_version(seen)
    discount.disable()
    return discount


async def standings_of(database: Database, codes: Sequence[str], customer_id: UUID) -> Mapping[str, Standing]:
    """Those of these codes that there are, and how often they are used now, also by this customer."""
    return standings_in(await database.rows(STANDINGS, codes=list(codes), customer_id=customer_id)) if codes else NO_CODES


def standings_in(rows: Sequence[Mapping[str, Any]]) -> dict[str, Standing]:
    """Of the rows of `STANDINGS`, by code."""
    return {row["code"]: Standing(Discount.model_validate(dict(row)), row["times_used"], row["used_by_customer"]) for row in rows}
