"""What the migrations make of the rows of earlier versions, and of what the last version goes on writing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from chassis import migrations
from embedded.postgres import PostgresServer
from tests.conftest import ROOT

FOLDER = ROOT / "services" / "payment" / "migrations"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE = {
    "INITIATED": [],
    "AUTHORIZED": ["authorize"],
    "CAPTURED": ["capture"],
    "REFUNDED": ["authorize", "capture", "refund"],
    "VOIDED": ["authorize", "void"],
    "DECLINED": [],
}
"""What 0.9.0 had in the ledger of a payment, by its status."""
AFTER = {
    "INITIATED": (0, 0, 0, 0),
    "AUTHORIZED": (1250, 0, 0, 0),
    "CAPTURED": (1250, 1250, 0, 0),
    "REFUNDED": (1250, 1250, 1250, 0),
    "VOIDED": (1250, 0, 0, 1250),
    "DECLINED": (0, 0, 0, 0),
}
"""Authorised, captured, refunded, let go."""
KEYS = {
    "INITIATED": [],
    "AUTHORIZED": [("authorize", "charge")],
    "CAPTURED": [("capture", "charge")],
    "REFUNDED": [("authorize", "charge"), ("capture", "capture"), ("refund", "undo")],
    "VOIDED": [("authorize", "charge"), ("void", "undo")],
    "DECLINED": [],
}
LEDGER = {"INITIATED": {}, "AUTHORIZED": {"held": 1250}, "CAPTURED": {"provider": 1250}}
"""What is on the accounts but `customer`; nothing in the other states."""


@pytest_asyncio.fixture
async def old(postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    """A database as 0.9.0 left it; `upgrade` brings it up."""
    name = f"payment_{uuid4().hex[:12]}"
    url = postgres.url(name)
    owner = await asyncpg.connect(postgres.url("postgres").replace("+asyncpg", ""))
    await owner.execute(f'create database "{name}"')
    await owner.close()
    await asyncio.to_thread(migrations.upgrade, FOLDER, url, "0004")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def upgrade(postgres: PostgresServer, connection: asyncpg.Connection) -> None:
    name = await connection.fetchval("select current_database()")
    await asyncio.to_thread(migrations.upgrade, FOLDER, postgres.url(name))


async def pay(connection: asyncpg.Connection, status: str, kinds: list[str]) -> UUID:
    """As 0.9.0 does it: first the question, then all that the answer brought in one statement."""
    payment_id = uuid4()
    await connection.execute(
        "insert into payments (payment_id, order_id, attempt, review, amount_minor, refunded_minor, currency, status,"
        " provider_reference, created_at, updated_at, version)"
        " values ($1, $2, 1, '[]', 1250, 0, 'USD', 'INITIATED', 'reference', $3, $3, 1)",
        payment_id, uuid4(), AT,
    )  # fmt: skip
    if status != "INITIATED":
        await connection.execute(
            "with payment as (update payments set status = $2, refunded_minor = $3, version = version + 1"
            "                 where payment_id = $1 returning 1),"
            " moved as (insert into transactions (payment_id, kind, amount_minor, currency, provider_id, at)"
            "           select $1, kind, 1250, 'USD', 'ch_1', $4::timestamptz + nth * interval '1 second'"
            "           from unnest($5::text[]) with ordinality as t (kind, nth) returning 1)"
            " select from payment union all select from moved",
            payment_id, status, 1250 if status == "REFUNDED" else 0, AT, kinds,
        )  # fmt: skip
    return payment_id


async def assert_true(connection: asyncpg.Connection, payment_id: UUID, status: str) -> None:
    row = await connection.fetchrow("select * from payments where payment_id = $1", payment_id)
    sums = tuple(row[f"{name}_minor"] for name in ("authorized", "captured", "refunded", "voided"))
    assert (row["status"], sums) == (status, AFTER[status])
    movements: list[Any] = await connection.fetch(
        "select * from movements where payment_id = $1 order by movement_id", payment_id
    )
    assert [(row["kind"], row["key"]) for row in movements] == KEYS[status]
    for nth, movement in enumerate(movements, 1):
        assert (movement["state"], movement["amount_minor"], movement["provider_id"]) == ("SUCCEEDED", 1250, "ch_1")
        assert movement["settled_at"] == AT + timedelta(seconds=nth)
    accounts = await connection.fetch(
        "select account, sum(e.amount_minor)::bigint as minor from ledger_entries e join movements using (movement_id)"
        " where payment_id = $1 group by account having sum(e.amount_minor) <> 0",
        payment_id,
    )
    found = {row["account"]: row["minor"] for row in accounts}
    assert sum(found.values()) == 0
    found.pop("customer", None)
    assert found == LEDGER.get(status, {})


async def test_i10_all_rows_of_the_ledger_become_movements_in_double_entry(
    postgres: PostgresServer, old: asyncpg.Connection
) -> None:
    paid = {status: await pay(old, status, kinds) for status, kinds in BEFORE.items()}
    await upgrade(postgres, old)
    for status, payment_id in paid.items():
        await assert_true(old, payment_id, status)


async def test_i10_the_last_version_goes_on_writing_and_reading_while_this_one_starts(
    postgres: PostgresServer, old: asyncpg.Connection
) -> None:
    await upgrade(postgres, old)
    for status in ("INITIATED", "AUTHORIZED", "CAPTURED", "DECLINED"):  # those of several steps are below
        kinds = BEFORE[status]
        payment_id = await pay(old, status, kinds)
        await assert_true(old, payment_id, status)
        listed = await old.fetch(
            "select transaction_id, kind, amount_minor, currency, provider_id, at from transactions"
            " where payment_id = $1 order by transaction_id limit 51",
            payment_id,
        )
        assert [row["kind"] for row in listed] == kinds
    for steps in ([("CAPTURED", "capture"), ("REFUNDED", "refund")], [("VOIDED", "void")]):
        held = await pay(old, "AUTHORIZED", ["authorize"])
        for nth, (status, kind) in enumerate(steps, 2):
            await old.execute(
                "with payment as (update payments set status = $2, refunded_minor = $3 where payment_id = $1 returning 1),"
                " moved as (insert into transactions (payment_id, kind, amount_minor, currency, provider_id, at)"
                "           values ($1, $4, 1250, 'USD', 'ch_1', $5) returning 1)"
                " select from payment union all select from moved",
                held, status, 1250 if status == "REFUNDED" else 0, kind, AT + timedelta(seconds=nth),
            )  # fmt: skip
        await assert_true(old, held, steps[-1][0])
    with pytest.raises(asyncpg.UniqueViolationError):  # who comes second learns it, as before
        await old.execute(
            "insert into transactions (payment_id, kind, amount_minor, currency, at) values ($1, 'void', 1250, 'USD', $2)",
            held, AT,
        )  # fmt: skip
