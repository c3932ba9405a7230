"""What one order leaves behind and asks for: history, payloads, SQL statements, commits, records in Kafka, time by step."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from benchmarks.figures import SQL_TABLE, Measured, quantile, spread
from benchmarks.orders import Ordering, spent_ms
from benchmarks.workers import another_worker
from contracts.events import TOPICS
from contracts.ids import order_workflow_id
from contracts.platform import SERVICES
from embedded.ports import free_port
from temporal.client import TemporalSettings, connect

HISTORIES = 20
IDLE_SECONDS = 10.0
MOST_STATEMENTS = 25
_STEP = re.compile(r"^temporal_(local_)?activity_execution_latency_seconds_(sum|count)\{(.*)\} ([\d.e+-]+)$", re.MULTILINE)
_TYPE = re.compile(r'activity_type="(\w+)"')
_NOT_WORK = ("begin", "commit", "rollback", "start transaction")


async def measure_cost(shop: Ordering, count: int) -> Measured:
    """Of `count` orders, 16 at a time. Before them the platform idles, and what it does then is taken off."""
    measured = Measured()
    metrics = f"127.0.0.1:{free_port()}"
    await shop.platform.supervisor.stop("worker")
    async with another_worker(shop.platform, "worker-measured", WORKER_METRICS_ADDRESS=metrics):
        await shop.place(20, 4)
        await shop.settle()
        async with Counting(shop.platform.env) as statements:
            cpu_before = shop.cpu_s()
            idle = await statements.over(asyncio.sleep(IDLE_SECONDS))
            _add_idle(measured, spent_ms(cpu_before, shop.cpu_s(), 1))
            steps_before = await _steps(metrics)
            loop = asyncio.get_running_loop()
            began, since = loop.time(), time.time()
            placed, busy = await statements.over_orders(shop, count)
            idle = idle.times((loop.time() - began) / IDLE_SECONDS)
            steps = await _steps(metrics)
        temporal = await connect(TemporalSettings(temporal_address=shop.platform.env["TEMPORAL_ADDRESS"]))
        await _add_histories(measured, temporal, placed[:HISTORIES])
        _add_steps(measured, steps_before, steps, count)
        _add_statements(measured, busy, idle, count)
        await _add_kafka(measured, shop.platform.env, since, count)
    await shop.platform.supervisor.start("worker")
    return measured


def _add_idle(measured: Measured, spent: Mapping[str, float]) -> None:
    by_process = {name: ms / IDLE_SECONDS for name, ms in spent.items()}
    measured.figures["idle_cpu_ms"] = spread([sum(by_process.values())])
    rows = sorted(([name, ms] for name, ms in by_process.items() if ms >= 1), key=lambda row: -by_process[str(row[0])])
    measured.table("CPU of the idle platform in a second by process, ms", ("process", "ms"), rows)


# ── Histories ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _add_histories(measured: Measured, client: Client, order_ids: list[UUID]) -> None:
    events, sizes, payloads, transitions = [], [], [], []
    bytes_by_type: dict[str, list[float]] = defaultdict(list)
    by_payload: dict[str, list[float]] = defaultdict(list)
    for order_id in order_ids:
        handle = client.get_workflow_handle(order_workflow_id(order_id))
        history, described = await handle.fetch_history(), await handle.describe()
        transitions.append(float(described.raw_info.state_transition_count))
        events.append(float(len(history.events)))
        sizes.append(float(sum(event.ByteSize() for event in history.events)))
        total = 0
        names: Counter[str] = Counter()
        for event in history.events:
            kind = str(event.WhichOneof("attributes")).removesuffix("_event_attributes")
            names[kind] += 1
            bytes_by_type[f"{kind} {names[kind]}" if kind == "marker_recorded" else kind].append(event.ByteSize())
            for path, payload in payloads_of(event):
                total += len(payload.data)
                by_payload[f"{event.event_id} {path}"].append(len(payload.data))
        payloads.append(float(total))
    measured.figures |= {
        "history_events": spread(events),
        "history_bytes": spread(sizes),
        "payload_bytes": spread(payloads),
        "state_transitions": spread(transitions),
    }
    rows = [[name, len(found) / len(order_ids), quantile(found, 0.5)] for name, found in bytes_by_type.items() if len(found) > 1]
    measured.table(f"Events in the histories of {len(order_ids)} orders", ("event", "an order", "bytes, median"), rows)
    largest = sorted(
        ((name, quantile(found, 0.5)) for name, found in by_payload.items() if len(found) > 1), key=lambda row: -row[1]
    )
    measured.table("The largest payloads of a history", ("event and place", "bytes, median"), [list(row) for row in largest[:10]])


def payloads_of(message: Message, path: str = "") -> Iterator[tuple[str, Payload]]:
    """Each payload within a message, with the names of the fields that lead to it."""
    if isinstance(message, Payload):
        yield path, message
        return
    for known, value in message.ListFields():
        here = f"{path}.{known.name}" if path else known.name
        if known.message_type is None:
            continue
        if isinstance(value, Message):
            yield from payloads_of(value, here)
        elif known.message_type.GetOptions().map_entry:
            for key in value:
                if isinstance(value[key], Message):
                    yield from payloads_of(value[key], f"{here}.{key}")
        else:
            for item in value:
                yield from payloads_of(item, here)


# ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _steps(address: str) -> dict[tuple[str, str, str], float]:
    """Seconds and counts of the activities so far, from the metrics of Temporal's SDK."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
        return steps_in(await response.text())


def steps_in(metrics: str) -> dict[tuple[str, str, str], float]:
    """By activity, `local` or `regular`, and `sum` (seconds) or `count`."""
    found: dict[tuple[str, str, str], float] = defaultdict(float)
    for local, what, labels, value in _STEP.findall(metrics):
        if name := _TYPE.search(labels):
            found[name[1], "local" if local else "regular", what] += float(value)
    return found


def _add_steps(
    measured: Measured, before: Mapping[tuple[str, str, str], float], after: Mapping[tuple[str, str, str], float], count: int
) -> None:
    rows = []
    for name, kind, what in sorted(after):
        if what == "count" and (ran := after[name, kind, what] - before.get((name, kind, what), 0.0)):
            seconds = after[name, kind, "sum"] - before.get((name, kind, "sum"), 0.0)
            rows.append([name, kind, ran / count, seconds / ran * 1000])
    columns = ("step", "activity", "times an order", "ms each, mean")
    measured.table("Time by step, 16 orders at a time (the SDK's own metrics)", columns, rows)


# ── Statements ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Counted:
    """What the databases did in some time."""

    statements: Mapping[tuple[str, str], float]
    """Calls by service and statement."""
    seconds: Mapping[str, float]
    """Within statements, by service."""
    wal_bytes: float
    wal_syncs: float
    wrote: Mapping[str, float] = field(default_factory=dict)
    """Transactions that wrote, by service."""

    def times(self, factor: float) -> "Counted":
        """As much of it as would come in that many times the time."""
        return Counted(
            {key: value * factor for key, value in self.statements.items()},
            {key: value * factor for key, value in self.seconds.items()},
            self.wal_bytes * factor,
            self.wal_syncs * factor,
            {key: value * factor for key, value in self.wrote.items()},
        )


_WROTE = """
    select datname as database, count(distinct xid) as transactions
    from (select xid::text, substring(block_ref from 'rel [0-9]+/([0-9]+)/')::oid as database
          from pg_get_wal_records_info('0/0'::pg_lsn + $1::bigint::numeric, '0/0'::pg_lsn + $2::bigint::numeric)
          where xid::text <> '0' and block_ref is not null) as records
    join pg_database on oid = records.database group by datname"""


class Statements:
    """Reads PostgreSQL's own counters. The databases may be on one server or on several."""

    def __init__(self, connections: Mapping[str, asyncpg.Connection]) -> None:
        self._connections = connections

    async def over(self, work: Any) -> Counted:
        """What was done while this was awaited."""
        before = await self._read()
        await work
        return await self._since(before)

    async def over_orders(self, shop: Ordering, count: int) -> tuple[list[UUID], Counted]:
        """The same for some orders, until their events are settled."""
        before = await self._read()
        placed = await shop.place(count)
        await shop.settle()
        return placed.order_ids, await self._since(before)

    async def _read(self) -> Counted:
        statements: dict[tuple[str, str], float] = defaultdict(float)
        seconds: dict[str, float] = {}
        wal_bytes = wal_syncs = 0.0
        for name, connection in self._connections.items():
            await connection.execute("select pg_stat_force_next_flush()")
            for row in await connection.fetch(
                """select s.query, s.calls, s.total_exec_time / 1000 as seconds from pg_stat_statements s
                   join pg_database d on d.oid = s.dbid where d.datname = current_database() and s.query not like '%pg_stat%'"""
            ):
                statements[name, " ".join(row["query"].split())] += row["calls"]
                seconds[name] = seconds.get(name, 0.0) + row["seconds"]
        connection = next(iter(self._connections.values()))
        wal_bytes = float(await connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))
        wal_syncs = float(await connection.fetchval("select coalesce(sum(fsyncs), 0) from pg_stat_io where object = 'wal'"))
        return Counted(statements, seconds, wal_bytes, wal_syncs)

    async def _since(self, before: Counted) -> Counted:
        after = await self._read()
        return Counted(
            {key: value - before.statements.get(key, 0.0) for key, value in after.statements.items()},
            {key: value - before.seconds.get(key, 0.0) for key, value in after.seconds.items()},
            after.wal_bytes - before.wal_bytes,
            after.wal_syncs - before.wal_syncs,
            await self._wrote(before.wal_bytes, after.wal_bytes),
        )

    async def _wrote(self, since: float, until: float) -> dict[str, float]:
        """Transactions that wrote, by service, between two places of the log. A single statement is one without a COMMIT."""
        connection = next(iter(self._connections.values()))
        rows = await connection.fetch(_WROTE, int(since), int(until))
        by_database = {row["database"]: float(row["transactions"]) for row in rows}
        return {service.name: by_database.get(service.database_name, 0.0) for service in SERVICES}


class Counting:
    """`async with Counting(platform.env) as statements`: the databases count statements while the block runs."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._urls = {service.name: env[service.database_variable].replace("+asyncpg", "") for service in SERVICES}
        self._connections: dict[str, asyncpg.Connection] = {}

    async def __aenter__(self) -> Statements:
        for name, url in self._urls.items():
            self._connections[name] = await asyncpg.connect(url)
            await self._connections[name].execute("create extension if not exists pg_stat_statements")
        await next(iter(self._connections.values())).execute("create extension if not exists pg_walinspect")
        await self._track("top")
        return Statements(self._connections)

    async def __aexit__(self, *_: object) -> None:
        await self._track("none")
        for connection in self._connections.values():
            await connection.close()

    async def _track(self, which: str) -> None:
        connection = next(iter(self._connections.values()))
        await connection.execute(f"alter system set pg_stat_statements.track = '{which}'")
        await connection.execute("select pg_reload_conf()")


def _add_statements(measured: Measured, busy: Counted, idle: Counted, count: int) -> None:
    net = {key: max(calls - idle.statements.get(key, 0.0), 0.0) / count for key, calls in busy.statements.items()}
    work = {key: calls for key, calls in net.items() if not key[1].lower().startswith(_NOT_WORK)}
    commits = {name: max(wrote - idle.wrote.get(name, 0.0), 0.0) / count for name, wrote in busy.wrote.items()}
    rows = []
    for service in sorted({name for name, _ in busy.statements}):
        rows.append(
            [
                service,
                sum(calls for (name, _), calls in work.items() if name == service),
                commits.get(service, 0.0),
                max(busy.seconds.get(service, 0.0) - idle.seconds.get(service, 0.0), 0.0) / count * 1000,
            ]
        )
    columns = ("database", "statements", "commits", "ms within statements")
    measured.table(SQL_TABLE, columns, rows)
    often = sorted(work.items(), key=lambda item: -item[1])[:MOST_STATEMENTS]
    shown = [[name, calls, f"`{statement[:110]}`".replace("|", "¦")] for (name, statement), calls in often]
    measured.table("The statements that an order runs most often", ("database", "times an order", "statement"), shown)
    measured.figures |= {
        "statements": spread([sum(work.values())]),
        "commits": spread([sum(commits.values())]),
        "wal_bytes": spread([max(busy.wal_bytes - idle.wal_bytes, 0.0) / count]),
    }
    measured.notes.append(f"The server synced its write-ahead log {busy.wal_syncs / count:.1f} times an order.")


# ── Kafka ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _add_kafka(measured: Measured, env: Mapping[str, str], since: float, count: int) -> None:
    """Read everything that is there; what was written since that moment (a Unix time) counts."""
    records: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    consumer = AIOKafkaConsumer(
        *TOPICS, bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"], enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        # Where a partition ends the embedded broker does not tell exactly: all has been read when nothing comes any more.
        while found := await consumer.getmany(timeout_ms=3000):
            for record in (record for batch in found.values() for record in batch if record.timestamp >= since * 1000):
                records[record.topic] += 1
                headers = sum(len(name) + len(value) for name, value in record.headers)
                sizes[record.topic] += len(record.key or b"") + len(record.value or b"") + headers
    finally:
        await consumer.stop()
    rows = [[topic, records[topic] / count, sizes[topic] / count] for topic in sorted(records)]
    measured.table("Kafka, an order", ("topic", "records", "bytes of keys, values and headers"), rows)
    measured.figures |= {
        "kafka_records": spread([sum(records.values()) / count]),
        "kafka_bytes": spread([sum(sizes.values()) / count]),
    }
