"""What the migrations make of the rows of earlier versions."""

import asyncio
import json
from decimal import Decimal
from uuid import uuid4

import asyncpg

from chassis import migrations
from embedded.postgres import PostgresServer
from tests.conftest import ROOT

FOLDER = ROOT / "services" / "catalog" / "migrations"


async def test_i8_prices_become_minor_units_and_the_last_version_goes_on_reading_them(postgres: PostgresServer) -> None:
    name = f"catalog_{uuid4().hex[:12]}"
    url = postgres.url(name)
    owner = await asyncpg.connect(postgres.url("postgres").replace("+asyncpg", ""))
    await owner.execute(f'create database "{name}"')
    await owner.close()
    await asyncio.to_thread(migrations.upgrade, FOLDER, url, "0002")
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    prices = {"dollars": ("12.50", "USD", 1250), "yen": ("300", "JPY", 300), "dinars": ("1.234", "KWD", 1234)}
    for product_id, (amount, currency, _) in prices.items():
        await connection.execute(
            "insert into products (product_id, name, category_id, category, department_id, department, weight_grams, amount,"
            " currency, version) values ($1, $1, 'a.b', 'B', 'a', 'A', 1, cast($2::text as numeric), $3, 7)",
            product_id,
            amount,
            currency,
        )
        await connection.execute(
            "insert into price_history (product_id, valid_from, amount, currency)"
            " values ($1, now(), cast($2::text as numeric), $3)",
            product_id,
            amount,
            currency,
        )
        reply = json.dumps({"product_id": product_id, "amount": f"{Decimal(amount):.3f}", "currency": currency})
        await connection.execute(
            "insert into idempotency_keys (scope, key, fingerprint, reply) values ('s', $1, '', $2)", product_id, reply
        )
    await connection.execute("insert into categories (category_id, name) values ('a', 'A')")

    await asyncio.to_thread(migrations.upgrade, FOLDER, url)
    for product_id, (amount, currency, minor) in prices.items():
        for table in ("products", "price_history"):
            query = f"select amount_minor, amount::text, currency from {table} where product_id = $1"
            kept = await connection.fetchrow(query, product_id)
            assert (kept["amount_minor"], Decimal(kept["amount"]), kept["currency"]) == (minor, Decimal(amount), currency)
        reply = json.loads(await connection.fetchval("select reply from idempotency_keys where key = $1", product_id))
        assert reply == {"product_id": product_id, "amount_minor": minor, "currency": currency}
    assert await connection.fetchval("select version from categories") == 1
    await connection.close()
