"""Each server by its own protocol: it answers, and after kill -9 it is back at its address with what it had."""

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from embedded import kafka, ports
from embedded.kafka import KafkaBroker
from embedded.postgres import DATABASES, PostgresServer
from embedded.supervisor import Supervisor
from embedded.temporal import TemporalServer
from embedded.valkey import ValkeyServer
from tests.conftest import PATIENCE_S

LONG = "SELECT count(*) FROM generate_series(1, 1000000000)"


async def test_postgres_keeps_a_committed_row_when_it_is_killed(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres", ports.free_port())
    async with Supervisor(tmp_path, [server.spec()]) as supervisor:
        address = server.url("order_db", driver="postgresql")
        connection = await asyncpg.connect(address)
        await connection.execute("CREATE TABLE kept (name text)")
        await connection.execute("INSERT INTO kept VALUES ('row')")
        long_statement = asyncio.ensure_future(connection.execute(LONG))
        observer = await asyncpg.connect(address)
        while not await observer.fetchval("SELECT 1 FROM pg_stat_activity WHERE query = $1", LONG):
            assert not long_statement.done()
        await supervisor.kill("postgres")  # leaves a backend at work, which a new server would refuse to start beside
        await supervisor.wait_ready("postgres")
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
            await long_statement

        connection = await asyncpg.connect(address)
        assert await connection.fetchval("SELECT name FROM kept") == "row"
        databases = await connection.fetch("SELECT datname FROM pg_database")
        assert set(DATABASES) <= {row["datname"] for row in databases}
        for setting in ("fsync", "synchronous_commit"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"
        await connection.close()


async def test_postgres_wants_the_password(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres", ports.free_port(), ())
    async with Supervisor(tmp_path, [server.spec()]):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url("postgres", driver="postgresql"), password="guessed")
    assert (tmp_path / "postgres" / "password").stat().st_mode & 0o777 == 0o600


async def test_valkey_keeps_its_keys_when_it_is_killed(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey", ports.free_port())
    async with Supervisor(tmp_path, [server.spec()]) as supervisor:
        async with Redis.from_url(server.url) as client:
            await client.set("key", "value")
        await supervisor.kill("valkey")
        await supervisor.wait_ready("valkey")
        async with Redis.from_url(server.url) as client:
            assert await client.get("key") == b"value"


async def test_g8_valkey_wants_the_password_and_gives_no_more_than_the_shop_needs(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey", ports.free_port())
    async with Supervisor(tmp_path, [server.spec()]) as supervisor:
        for guess in ({}, {"password": "guessed"}, {"username": "commerce", "password": "guessed"}):
            async with Redis(port=server.port, **guess) as stranger:  # type: ignore[arg-type]
                with pytest.raises(AuthenticationError):
                    await stranger.get("key")
        async with Redis.from_url(server.url) as client:
            assert await client.eval("return redis.call('INCR', KEYS[1])", 1, "key") == 1
            for refused in (client.config_get("*"), client.flushall(), client.keys(), client.acl_list()):
                with pytest.raises(NoPermissionError):
                    await refused
        assert server.password not in " ".join(psutil.Process(supervisor.pid("valkey")).cmdline())
    assert modes_of_files_with(server.password, tmp_path) == {0o600}


def modes_of_files_with(secret: str, directory: Path) -> set[int]:
    files = (file for file in directory.rglob("*") if file.is_file() and secret in file.read_text(errors="replace"))
    return {file.stat().st_mode & 0o777 for file in files}


async def test_kafka_has_its_topics_again_when_it_was_killed_and_consumers_start_over(tmp_path: Path) -> None:
    broker = KafkaBroker(ports.free_port(), ("order-events", "shipping-events"), partitions=2)
    async with Supervisor(tmp_path, [broker.spec()]) as supervisor:
        consumer = AIOKafkaConsumer(
            "order-events",
            bootstrap_servers=broker.bootstrap,
            group_id="tests",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=2000,  # the time after which one that waits notices that its broker forgot it
            heartbeat_interval_ms=300,
        )
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=False)
        await consumer.start()
        await producer.start()
        await producer.send_and_wait("order-events", b"before", key=b"order")
        async with asyncio.timeout(PATIENCE_S):
            assert (await consumer.getone()).value == b"before"
        await consumer.commit()

        await supervisor.kill("kafka")
        await supervisor.wait_ready("kafka")
        await producer.send_and_wait("order-events", b"after", key=b"order")
        async with asyncio.timeout(PATIENCE_S):
            received = await consumer.getone()
        assert (received.value, received.offset) == (b"after", 0)
        await consumer.stop()
        await producer.stop()

        await kafka.ensure_topics(broker.bootstrap, broker.topics, broker.partitions)  # again: changes nothing
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        topics = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        await admin.close()
        # A client that named a topic before it was made again has made it itself, with as many partitions as the broker likes.
        assert topics in ({"order-events": 2, "shipping-events": 2}, {"order-events": 4, "shipping-events": 2})


async def test_temporal_keeps_its_workflows_when_it_is_killed(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path / "temporal", *(ports.free_port() for _ in range(4)))
    status = SearchAttributeKey.for_keyword("OrderStatus")
    async with Supervisor(tmp_path, [server.spec()]) as supervisor:
        client = await Client.connect(server.address)
        await client.start_workflow(
            "Order",
            id="order/1",
            task_queue="nobody",
            search_attributes=TypedSearchAttributes([SearchAttributePair(status, "PAID")]),
        )
        await supervisor.kill("temporal")
        await supervisor.wait_ready("temporal")
        client = await Client.connect(server.address)
        described = await client.get_workflow_handle("order/1").describe(rpc_timeout=timedelta(seconds=PATIENCE_S))
        assert described.status is WorkflowExecutionStatus.RUNNING
        found = [workflow.id async for workflow in client.list_workflows("OrderStatus = 'PAID'")]
        assert found == ["order/1"]
