"""The platform's infrastructure as a whole: what it tells others, keeps for its next start, and refuses."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from contracts.events import ORDER
from embedded.platform import AlreadyRunning, Platform, find_running
from embedded.ports import Ports, free_port, is_free
from testing.faults import opened_links, settings_of


async def test_a_restarted_platform_has_its_addresses_logins_and_data(tmp_path: Path) -> None:
    async with Platform(tmp_path, infrastructure_only=True) as platform:
        assert set(platform.supervisor.pids()) == {"postgres", "valkey", "kafka", "temporal"}
        before = platform.env
        connection = await asyncpg.connect(before["DATABASE_URL_ORDER"].replace("+asyncpg", ""))
        await connection.execute("CREATE TABLE kept ()")
        await connection.close()
        found = find_running(tmp_path)
        assert found is not None
        assert (found.pid, found.env) == (os.getpid(), before)
        assert found.pids == platform.supervisor.pids()
        for name in ("env.json", "platform.json", "secrets.json"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert before["JWT_PRIVATE_KEY"] not in (tmp_path / "platform.json").read_text()

        await platform.supervisor.kill("valkey")
        await platform.supervisor.wait_ready("valkey")
        found = find_running(tmp_path)
        assert found is not None
        assert found.pids["valkey"] == platform.supervisor.pid("valkey")
        assert "valkey" in found.ready

        with pytest.raises(AlreadyRunning):
            await Platform(tmp_path, infrastructure_only=True).__aenter__()

    assert find_running(tmp_path) is None
    async with Platform(tmp_path, infrastructure_only=True) as platform:
        assert platform.env == before
        connection = await asyncpg.connect(before["DATABASE_URL_ORDER"].replace("+asyncpg", ""))
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()


async def test_a_part_that_is_given_from_outside_is_used_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/0")
    given = {"TEMPORAL_ADDRESS": "elsewhere:7233", "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092", "LOG_LEVEL": "DEBUG"}
    async with Platform(tmp_path, infrastructure_only=True, settings=given) as platform:
        assert set(platform.supervisor.pids()) == {"postgres"}
        assert platform.env["REDIS_URL"] == "redis://elsewhere:6379/0"
        assert platform.env["KAFKA_ENABLE_IDEMPOTENCE"] == "true"
        assert platform.env.items() >= given.items()


async def test_what_has_a_proxy_before_it_is_reached_through_it(tmp_path: Path) -> None:
    async with opened_links() as links, Platform(tmp_path, infrastructure_only=True, settings=settings_of(links)) as platform:
        told = {
            "postgres": platform.env["DATABASE_URL_ORDER"],
            "valkey": platform.env["REDIS_URL"],
            "kafka": platform.env["KAFKA_BOOTSTRAP_SERVERS"],
            "temporal": platform.env["TEMPORAL_ADDRESS"],
            "payment_provider": platform.env["PAYMENT_PROVIDER_URL"],
            "carrier": platform.env["CARRIER_URL"],
        }
        assert all(f"127.0.0.1:{links[name].port}" in address for name, address in told.items())
        assert platform.url("carrier") == f"http://127.0.0.1:{links['carrier'].target_port}"

        connection = await asyncpg.connect(told["postgres"].replace("+asyncpg", ""))
        assert await connection.fetchval("SELECT 1") == 1
        links["postgres"].reset()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)):
            await connection.fetchval("SELECT 1")

        producer = AIOKafkaProducer(bootstrap_servers=told["kafka"], enable_idempotence=False)
        await producer.start()
        try:
            links["kafka"].silence()
            sending = asyncio.create_task(producer.send_and_wait(ORDER, b"event"))
            done, _ = await asyncio.wait([sending], timeout=0.3)
            assert not done, "the broker must send its clients to the proxy, not to itself"
            links["kafka"].heal()
            await sending
        finally:
            await producer.stop()


def test_ports_are_remembered_and_left_when_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    port = Ports(file).get("gateway")
    assert is_free(port)
    assert Ports(file).get("gateway") == port
    wanted = free_port()
    assert Ports(file).get("gateway", wanted) == wanted
