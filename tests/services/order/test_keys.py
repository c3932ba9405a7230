"""The keys of customers on a real database."""

from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.database import Database
from contracts.keys import WrappedKey
from services.order.model import CustomerKey
from tests.conftest import changing


def wrapped(customer_id: UUID, master_key_id: str = "m1") -> WrappedKey:
    return WrappedKey(customer_id=customer_id, wrapped=b"\x00\xff key", master_key_id=master_key_id)


async def test_a_destroyed_key_does_not_come_back(database: Database) -> None:
    key = wrapped(uuid4())
    async with changing(database) as work:
        work.add(CustomerKey.new(key))
    async with changing(database) as work:
        stored = await work.get(CustomerKey, key.customer_id)
        assert stored
        assert stored.as_wrapped() == key
        assert stored.takes_orders
        stored.destroy()
    async with changing(database) as work:
        stored = await work.get(CustomerKey, key.customer_id)
        assert stored
        assert not stored.takes_orders
        gone = WrappedKey(customer_id=key.customer_id, wrapped=None, master_key_id=None, takes_orders=False)
        assert stored.as_wrapped() == gone
        when = stored.destroyed_at
        stored.destroy()
        stored.wrap_again(wrapped(key.customer_id, "m2"))
        assert (stored.wrapped, stored.destroyed_at) == (None, when)


async def test_the_database_keeps_no_destroyed_key(database: Database) -> None:
    key = CustomerKey.new(wrapped(uuid4()))
    key.destroyed_at = key.created_at
    with pytest.raises(asyncpg.CheckViolationError):
        async with changing(database) as work:
            work.add(key)


def test_a_key_crosses_as_text() -> None:
    key = wrapped(uuid4())
    assert WrappedKey.model_validate_json(key.model_dump_json()) == key
