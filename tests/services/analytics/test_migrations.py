"""What is stored when a migration comes."""

import asyncio
from uuid import uuid4

import asyncpg

from chassis import migrations
from embedded.postgres import PostgresServer
from tests.conftest import ROOT

FOLDER = ROOT / "services" / "analytics" / "migrations"
STORED = """
insert into orders (order_id, customer_id, currency, total, refunded, confirmed_at, lines) values
    (gen_random_uuid(), gen_random_uuid(), 'USD', 12.50, 0, now(), '[
        {"product_id": "milk", "name": "Milk", "quantity": 3, "revenue": "4.50"},
        {"product_id": "bread", "name": "Bread", "quantity": 1, "revenue": "8"}]'),
    (gen_random_uuid(), gen_random_uuid(), 'JPY', 300, 300, now(), '[
        {"product_id": "tea", "name": "Tea", "quantity": 3, "revenue": "300"}]'),
    (gen_random_uuid(), gen_random_uuid(), 'KWD', 3.375, 0, null, null);
insert into sales_by_day (currency, day, gross, refunds) values
    ('USD', '2026-10-01', 12.50, 0.07), ('JPY', '2026-10-01', 300, 300), ('KWD', '2026-10-01', 99999999999999.999, 0);
insert into products_by_day (currency, day, product_id, name, quantity, revenue) values
    ('USD', '2026-10-01', 'milk', 'Milk', 3, 4.50), ('KWD', '2026-10-01', 'tea', 'Tea', 3, 3.375);
insert into customers (customer_id, currency, revenue, refunds) values
    (gen_random_uuid(), 'USD', 12.50, 20), (gen_random_uuid(), 'JPY', 300, 300);
"""
IN_MINOR_UNITS = {
    "select currency, total_minor, refunded_minor from orders": [("JPY", 300, 300), ("KWD", 3375, 0), ("USD", 1250, 0)],
    "select currency, gross_minor, refunds_minor from sales_by_day": [
        ("JPY", 300, 300), ("KWD", 99_999_999_999_999_999, 0), ("USD", 1250, 7),
    ],
    "select currency, product_id, revenue_minor from products_by_day": [("KWD", "tea", 3375), ("USD", "milk", 450)],
    "select currency, revenue_minor, refunds_minor, value_minor from customers": [
        ("JPY", 300, 300, 0), ("USD", 1250, 2000, -750),
    ],
    """select product_id, name, quantity, revenue_minor
       from orders, jsonb_to_recordset(lines) as line (product_id text, name text, quantity int, revenue_minor bigint)""": [
        ("bread", "Bread", 1, 800), ("milk", "Milk", 3, 450), ("tea", "Tea", 3, 300),
    ],
    "select table_name, column_name from information_schema.columns where table_schema = 'public' and data_type = 'numeric'": [],
}  # fmt: skip


async def test_i8_amounts_become_minor_units_of_their_currency(postgres: PostgresServer) -> None:
    name = f"analytics_{uuid4().hex[:12]}"
    await _execute(postgres, "postgres", f'create database "{name}"')
    await asyncio.to_thread(migrations.upgrade, FOLDER, postgres.url(name), "0003")
    await _execute(postgres, name, STORED)
    await asyncio.to_thread(migrations.upgrade, FOLDER, postgres.url(name))
    connection = await asyncpg.connect(postgres.url(name, driver="postgresql"))
    try:
        found = {query: sorted(map(tuple, await connection.fetch(query))) for query in IN_MINOR_UNITS}
    finally:
        await connection.close()
    assert found == IN_MINOR_UNITS


async def _execute(postgres: PostgresServer, database: str, statements: str) -> None:
    connection = await asyncpg.connect(postgres.url(database, driver="postgresql"))
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
