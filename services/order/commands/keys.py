"""The keys of customers, under which what is kept of them in histories is encrypted."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, select

from chassis.database import Database
from chassis.statements import locked, prepared
from chassis.store import AlreadyThere, UnitOfWork, transaction
from contracts.keys import WrappedKey
from services.order.model import (
    CustomerKey,
    Order,
)

_OF_THESE = col(CustomerKey.customer_id) == any_(bindparam("ids", type_=ARRAY(Uuid)))
_KEYS, _THESE_KEYS = prepared(select(CustomerKey).where(_OF_THESE)), locked(CustomerKey, _OF_THESE)
_CUSTOMER_OF = prepared(select(col(Order.customer_id)).where(col(Order.order_id) == bindparam("order_id")))


@dataclass(frozen=True)
class StoredKeys:
    """The keys of customers as this service keeps them: a `temporal.keys.KeyStore`."""

    database: Database

    async def find(self, customer_ids: Sequence[UUID]) -> Sequence[WrappedKey]:
        return [
            CustomerKey.model_validate(dict(row)).as_wrapped() for row in await self.database.rows(_KEYS, ids=list(customer_ids))
        ]

    async def add(self, key: WrappedKey) -> WrappedKey:
        try:
            return await add_key(self.database, key)
        except AlreadyThere:
            [other] = await self.find([key.customer_id])
            return other

    async def customer_of(self, order_id: UUID) -> UUID | None:
        return next((row["customer_id"] for row in await self.database.rows(_CUSTOMER_OF, order_id=order_id)), None)


@transaction
async def add_key(work: UnitOfWork, key: WrappedKey) -> WrappedKey:
    """Keep a new key. Raises AlreadyThere."""
    work.add(CustomerKey.new(key))
    return key


@transaction
async def wrap_keys_again(work: UnitOfWork, keys: Sequence[tuple[WrappedKey, WrappedKey]]) -> None:
    """Keep keys, each as it was and as another master key has wrapped it, unless it was changed or destroyed meanwhile."""
    wrapped = {before.customer_id: (before, after) for before, after in keys}
    for key in await work.all(_THESE_KEYS, ids=list(wrapped)):
        before, after = wrapped[key.customer_id]
        if key.wrapped == before.wrapped:
            key.wrap_again(after)
