"""Does an order cost more when many are stored? Two platforms side by side, one with few orders and one with many, take turns.

The loader copies whole orders, set by set, within the databases themselves: some real orders are placed and delivered; then every
row that they left is written again many times, with ids that derive from the old one and the copy's number, so that what belongs
together still does, and with times spread over the past. Nothing here knows what a table means but what is listed below, so a new
column needs no change.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console

from benchmarks.figures import Measured, alternating, quantile, spread
from benchmarks.orders import Ordering, ordering, postgres_execute, spent_ms
from contracts.orders import OrderStatus
from contracts.platform import SERVICES

FEW, MANY = 1_000, 1_000_000
TEMPLATES = 50
"""Real orders that are copied."""
YEAR_DAYS = 365.0
RETAINED_DAYS = 2.0
"""Of what is kept for a time only, such as the outbox, no more than this is there, and it is that young."""
GROWING = {
    "order": ("orders",),
    "payment": ("payments", "movements", "ledger_entries"),
    "inventory": ("reservations",),
    "shipping": ("shipments", "tracking_events"),
    "notification": ("notifications", "deliveries", "attempts"),
    "analytics": ("orders", "customers", "sales_by_day", "products_by_day"),
}
"""One row or more for each order, for good. Movements of stock are left out: placing an order neither reads nor writes any."""
RETAINED: dict[str, tuple[str, ...]] = {
    "order": ("outbox", "inbox"),
    "payment": ("outbox",),
    "inventory": ("outbox",),
    "shipping": ("outbox", "inbox"),
    "notification": ("outbox", "inbox"),
    "analytics": ("inbox",),
}
"""Kept for a time. Only what came with the real orders is copied, not what stocking the platform has left."""
SHARED = frozenset({"warehouse_id", "product_id"})
"""Ids of what many orders have in common."""
VARIED = frozenset(
    {
        "card_fingerprint",
        "address_fingerprint",
        "fingerprint",
        "provider_id",
        "provider_reference",
        "reference",
        "tracking_number",
    }
)
"""Texts that differ from order to order, though no index makes sure of it."""

_INDEXES = """select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
              from pg_index where indrelid = $1::text::regclass and not indisunique"""


@dataclass(frozen=True)
class Column:
    """What the copy of a row needs to know of one of its columns."""

    name: str
    kind: str
    """PostgreSQL's name of its type."""
    is_unique: bool
    """Whether some unique index has it, and no id that makes its rows differ already."""


async def measure_growth(directory: Path, few: int, many: int, count: int, turns: int, console: Console) -> Measured:
    """The cost of `count` orders in each turn, on a platform with `few` orders stored and on one with `many`."""
    async with AsyncExitStack() as stack:
        shops = []
        for name, stored in (("few", few), ("many", many)):
            shop = await stack.enter_async_context(ordering(directory / name, console))
            seconds = await load_orders(shop, stored)
            console.print(f"{stored:,} orders stored after {seconds:.0f} s")
            shops.append(shop)
        small, grown = shops
        for shop in shops:
            await shop.place(30, 4)
            await shop.settle()
        found = await alternating(lambda: _cost(small, count), lambda: _cost(grown, count), turns)
        held = {name: await _row_counts(grown.platform.env, name) for name in GROWING}
    measured = Measured(
        {
            "grown_to_small_cpu": spread([big[0] / little[0] for little, big in found]),
            "grown_to_small_p50": spread([big[1] / little[1] for little, big in found]),
            "small_cpu_ms": spread([little[0] for little, _ in found]),
            "grown_cpu_ms": spread([big[0] for _, big in found]),
        }
    )
    rows = [[name, table, rows] for name, tables in held.items() for table, rows in tables.items()]
    measured.table("Rows on the platform with many orders", ("database", "table", "rows"), rows)
    measured.notes.append(f"{few:,} orders against {many:,}, copied from {TEMPLATES} real ones that were placed and delivered.")
    return measured


async def _cost(shop: Ordering, count: int) -> tuple[float, float]:
    before = shop.cpu_s()
    placed = await shop.place(count)
    await shop.settle()
    return sum(spent_ms(before, shop.cpu_s(), count).values()), quantile(placed.latencies_ms, 0.5)


async def load_orders(shop: Ordering, stored: int) -> float:
    """Make the databases hold some `stored` orders; the seconds it took."""
    began, since = time.monotonic(), datetime.now(UTC)
    templates = min(TEMPLATES, stored)
    placed = await shop.place(templates, 8)
    for order_id in placed.order_ids:
        await shop.shop.dispatch(str(order_id))
    await shop.shop.deliver(*map(str, placed.order_ids))
    for order_id in placed.order_ids:
        await shop.shop.reaches(str(order_id), OrderStatus.COMPLETED)
    await shop.settle()
    await _copy_all(shop.platform.env, max(stored // templates - 1, 0), since)
    return time.monotonic() - began


async def _copy_all(env: Mapping[str, str], copies: int, since: datetime) -> None:
    gate = asyncio.Semaphore(2)

    async def one(service: str) -> None:
        async with gate:
            connection = await asyncpg.connect(_url(env, service), timeout=30)
            try:
                await _copy_database(connection, service, copies, since)
            finally:
                await connection.close()

    # One long load instead of a checkpoint after every gigabyte of log.
    await postgres_execute(_url(env, "order"), "alter system set max_wal_size = '16GB'", "select pg_reload_conf()")
    await asyncio.gather(*[one(service) for service in GROWING])
    await postgres_execute(_url(env, "order"), "alter system reset max_wal_size", "select pg_reload_conf()", "checkpoint")


def _url(env: Mapping[str, str], service: str) -> str:
    variable = next(found.database_variable for found in SERVICES if found.name == service)
    return env[variable].replace("+asyncpg", "")


async def _copy_database(connection: asyncpg.Connection, service: str, copies: int, since: datetime) -> None:
    # Foreign keys hold by construction, and triggers (the relay's wake-up call) have nothing to do here.
    await connection.execute("set session_replication_role = replica")
    await connection.execute("set synchronous_commit = off")
    await connection.execute("set maintenance_work_mem = '256MB'")
    for table in GROWING[service]:
        columns = await _columns(connection, table)
        indexes = await connection.fetch(_INDEXES, table)
        for index in indexes:  # made again at once they take a third of the time
            await connection.execute(f"drop index {index['name']}")
        await connection.execute(copy_statement(table, columns), copies, YEAR_DAYS / max(copies, 1), timeout=None)
        for index in indexes:
            await connection.execute(index["definition"], timeout=None)
    for table in RETAINED[service]:
        columns = await _columns(connection, table)
        kept = int(copies * RETAINED_DAYS / YEAR_DAYS)
        statement = copy_statement(table, columns, since=True)
        await connection.execute(statement, kept, RETAINED_DAYS / max(kept, 1), since, timeout=None)
    for table in (*GROWING[service], *RETAINED[service]):
        await connection.execute(f'vacuum (analyze) "{table}"', timeout=None)


async def _columns(connection: asyncpg.Connection, table: str) -> list[Column]:
    """Those that a row is written with: all but what PostgreSQL itself numbers or computes."""
    rows = await connection.fetch(
        """
        select a.attname as name, format_type(a.atttypid, null) as kind,
               exists (
                   select 1 from pg_index i
                   where i.indrelid = a.attrelid and i.indisunique and a.attnum = any(i.indkey::int2[])
                   and not exists (
                       select 1 from pg_attribute other
                       where other.attrelid = i.indrelid and other.attnum = any(i.indkey::int2[])
                       and format_type(other.atttypid, null) in ('uuid', 'date'))
               ) as is_unique
        from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
        and a.attidentity = '' and a.attgenerated = '' and coalesce(pg_get_expr(d.adbin, d.adrelid), '') not like 'nextval(%'
        order by a.attnum
        """,
        table,
    )
    return [Column(row["name"], row["kind"], row["is_unique"]) for row in rows]


def copy_statement(table: str, columns: Sequence[Column], *, since: bool = False) -> str:
    """SQL that writes each row of the table again, `$1` times, each copy `$2` days older than the one before; with `since`, only
    rows no older than `$3`, by their first time. Copies by day make no more rows than there are days.

    ValueError for a column that must be unique and of whose kind no other value can be made."""
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ",\n       ".join(_copied(column) for column in columns)
    by_day = any(column.kind == "date" for column in columns)
    copies = f"least($1::int, {round(YEAR_DAYS)})" if by_day else "$1::int"
    first_time = next((column.name for column in columns if column.kind == "timestamp with time zone"), "")
    young = f'"{first_time}" >= $3' if since else "true"
    return (
        f'insert into "{table}" ({names})\nselect {values}\n'
        f'from "{table}", generate_series(1, {copies}) as copy\n'
        f"where $2::float8 is not null and {young}\non conflict do nothing"
    )


def _copied(column: Column) -> str:
    name = f'"{column.name}"'
    if column.name in SHARED:
        return name
    if column.kind == "uuid":
        return f"md5({name}::text || copy)::uuid"
    if column.kind == "date":
        return f"{name} - copy"
    if column.kind == "timestamp with time zone":
        return f"{name} - copy * $2::float8 * interval '1 day'"
    if column.is_unique or column.name in VARIED:
        if column.kind not in ("text", "character varying"):
            raise ValueError(f"no other value can be made for {column.name}, which is of type {column.kind}")
        return f"left(md5({name} || copy), greatest(length({name}), 16))"
    return name


async def _row_counts(env: Mapping[str, str], service: str) -> dict[str, int]:
    connection = await asyncpg.connect(_url(env, service))
    try:
        tables = (*GROWING[service], *RETAINED[service])
        return {table: await connection.fetchval(f'select count(*) from "{table}"') for table in tables}  # noqa: S608 (ours)
    finally:
        await connection.close()
