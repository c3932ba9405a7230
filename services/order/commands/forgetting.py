"""Who is to be forgotten: what names a customer is blanked as each order ends; the customer's key is destroyed after the last."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, or_, select

from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from contracts.events import CustomerForgotten
from contracts.orders import (
    FINAL_STATUSES,
)
from services.order.model import (
    CustomerKey,
    Order,
    outbox,
)
from temporal.orders import OrderSagas

FORGET_BATCH = 50
_IS_TO_BE_FORGOTTEN = col(CustomerKey.forget_requested_at).is_not(None) & col(CustomerKey.forgotten_at).is_(None)
_CUSTOMERS_TO_FORGET = locked(CustomerKey, _IS_TO_BE_FORGOTTEN, limit=FORGET_BATCH, skip_locked=True)
_ORDERS_TO_FORGET = prepared(
    select(col(Order.order_id))
    .join(CustomerKey, col(CustomerKey.customer_id) == col(Order.customer_id))
    .where(_IS_TO_BE_FORGOTTEN, col(Order.forgotten_at).is_(None))
    .where(or_(*[col(Order.status) == status for status in sorted(FINAL_STATUSES)]))
    .limit(FORGET_BATCH)
)
_STILL_NAMING = prepared(
    select(col(Order.customer_id))
    .where(col(Order.customer_id) == any_(bindparam("customers", type_=ARRAY(Uuid))), col(Order.forgotten_at).is_(None))
    .distinct()
)
_THESE = locked(Order, col(Order.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))


async def wish_to_forget(work: UnitOfWork, event: CustomerForgotten) -> None:
    """Within the consumer's transaction: note that a customer is to be forgotten, for the job; no order is taken any more."""
    key, _ = await work.get_or_add(CustomerKey.none_for(event.customer_id))
    key.ask_to_forget()


async def forget_customers(database: Database, sagas: OrderSagas) -> bool:
    """Forget who wants to be: blank what their orders name as each ends, and destroy their key after the last one.

    An order's history is needed until its saga has closed, which is a moment after its last word to the record. Returns whether
    there may be more to do now. Raises Unavailable if Temporal cannot be asked.
    """
    ended = await orders_to_forget(database)
    at_work = await asyncio.gather(*map(sagas.is_running, ended))
    await forget_orders(database, [order_id for order_id, runs in zip(ended, at_work, strict=True) if not runs])
    await forget_keys(database)
    return len(ended) == FORGET_BATCH and not all(at_work)


async def orders_to_forget(database: Database) -> list[UUID]:
    """Some orders that have ended and whose customers are to be forgotten."""
    return [row["order_id"] for row in await database.rows(_ORDERS_TO_FORGET)]


@transaction
async def forget_orders(work: UnitOfWork, order_ids: Sequence[UUID]) -> None:
    """Blank what these orders name, and tell who else keeps something of them."""
    forgotten = [order.forget_person() for order in await work.all(_THESE, ids=order_ids)]
    outbox.add(work, *filter(None, forgotten))


@transaction
async def forget_keys(work: UnitOfWork) -> None:
    """Destroy the keys of customers who are to be forgotten and none of whose orders is open or names them any more.

    They are locked first, and their orders looked at after that: whoever places one at this moment has come before or is
    refused."""
    keys = await work.all(_CUSTOMERS_TO_FORGET)
    naming = await work.rows(_STILL_NAMING, customers=[key.customer_id for key in keys])
    for key in keys:
        if key.customer_id not in {row["customer_id"] for row in naming}:
            key.forget()
