"""Who is to be forgotten: what names a customer is blanked as each order ends; the customer's key is destroyed after the last."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, exists
from sqlmodel import col, or_, select

from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, transaction
from contracts.events import CustomerForgotten
from contracts.orders import FINAL_STATUSES
from contracts.returns import FINAL_RETURN_STATUSES, ReturnStatus
from services.order.model import (
    CustomerKey,
    Order,
    OrderAmendment,
    Return,
    outbox,
)
from temporal.orders import OrderSagas
from temporal.returns import ReturnSagas

FORGET_BATCH = 50
_IS_TO_BE_FORGOTTEN = col(CustomerKey.forget_requested_at).is_not(None) & col(CustomerKey.forgotten_at).is_(None)
_CUSTOMERS_TO_FORGET = locked(CustomerKey, _IS_TO_BE_FORGOTTEN, limit=FORGET_BATCH, skip_locked=True)
_ORDERS_TO_FORGET = prepared(
    select(col(Order.order_id))
    .join(CustomerKey, col(CustomerKey.customer_id) == col(Order.customer_id))
    .where(_IS_TO_BE_FORGOTTEN, col(Order.forgotten_at).is_(None))
    .where(or_(*[col(Order.status) == status for status in sorted(FINAL_STATUSES)]))
    .where(
        ~exists().where(
            col(Return.order_id) == col(Order.order_id),
            or_(*[col(Return.status) == status for status in ReturnStatus if status not in FINAL_RETURN_STATUSES]),
        )
    )
    .limit(FORGET_BATCH)
)
_RETURNS_OF = prepared(
    select(col(Return.order_id), col(Return.number)).where(col(Return.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
)
_STILL_NAMING = prepared(
    select(col(Order.customer_id))
    .where(col(Order.customer_id) == any_(bindparam("customers", type_=ARRAY(Uuid))), col(Order.forgotten_at).is_(None))
    .distinct()
)
_RETURNS_OF_THESE = locked(Return, col(Return.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_AMENDMENTS_OF_THESE = locked(OrderAmendment, col(OrderAmendment.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))
_THESE = locked(Order, col(Order.order_id) == any_(bindparam("ids", type_=ARRAY(Uuid))))


async def wish_to_forget(work: UnitOfWork, event: CustomerForgotten) -> None:
    """Within the consumer's transaction: note that a customer is to be forgotten, for the job; no order is taken any more."""
    key, _ = await work.get_or_add(CustomerKey.none_for(event.customer_id))
    key.ask_to_forget()


async def forget_customers(database: Database, sagas: OrderSagas, sagas_of_returns: ReturnSagas) -> bool:
    """Forget who wants to be: blank what their orders name as each ends, and destroy their key after the last one.

    An order's history is needed until its saga has closed, which is a moment after its last word to the record. Returns whether
    there may be more to do now. Raises Unavailable if Temporal cannot be asked.
    """
    ended = await orders_to_forget(database)
    returns = [(row["order_id"], row["number"]) for row in await database.rows(_RETURNS_OF, ids=ended)] if ended else []
    running = await asyncio.gather(*[sagas_of_returns.is_running(*each) for each in returns])
    returning = {order_id for (order_id, _), runs in zip(returns, running, strict=True) if runs}
    at_work = [runs or order_id in returning for order_id, runs in zip(ended, await _all_running(sagas, ended), strict=True)]
    await forget_orders(database, [order_id for order_id, runs in zip(ended, at_work, strict=True) if not runs])
    await forget_keys(database)
    return len(ended) == FORGET_BATCH and not all(at_work)


async def _all_running(sagas: OrderSagas, order_ids: Sequence[UUID]) -> list[bool]:
    return await asyncio.gather(*map(sagas.is_running, order_ids))


async def orders_to_forget(database: Database) -> list[UUID]:
    """Some orders that have ended, with all their returns, and whose customers are to be forgotten."""
    return [row["order_id"] for row in await database.rows(_ORDERS_TO_FORGET)]


@transaction
async def forget_orders(work: UnitOfWork, order_ids: Sequence[UUID]) -> None:
    """Blank what these orders name, and tell who else keeps something of them."""
    forgotten = [order.forget_person() for order in await work.all(_THESE, ids=order_ids)]
    for each in await work.all(_RETURNS_OF_THESE, ids=order_ids):
        each.forget_person()
    for amendment in await work.all(_AMENDMENTS_OF_THESE, ids=order_ids):
        amendment.forget_person()
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
