"""The simulators in process (for their rules) and as real processes (for sockets, kill -9 and restarts)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from simulators.stripe.app import create_app
from tests.conftest import PATIENCE_S
from tests.simulators.easypost import Shop
from tests.simulators.stripe_client import Stripe

API_KEY = "test-key"
PROJECT = Path(__file__).parents[2]


class Process:
    """One simulator as the platform meets it: its own process, a socket, a data directory."""

    def __init__(self, module: str, data_dir: Path, extra: dict[str, str]) -> None:
        self._module = module
        self.port = free_port()
        self.environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "SIMULATOR_DATA_DIR": str(data_dir),
            "PAYMENT_PROVIDER_API_KEY": API_KEY,
            "CARRIER_API_KEY": API_KEY,
            **extra,
        }
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=5,
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"simulators.{self._module}", cwd=PROJECT, env=self.environment
        )
        await until(self._is_live)

    async def _is_live(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, "the simulator died"
        try:
            return (await self.http.get("/health/live")).status_code == 200
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


async def until(condition: Callable[[], Awaitable[Any]], within: float = PATIENCE_S) -> Any:
    """What a condition answers once it holds."""
    async with asyncio.timeout(within):
        while not (answer := await condition()):  # noqa: ASYNC110 - another process has no Event to wait for
            await asyncio.sleep(0.01)
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(name="free_port")
def free_port_fixture() -> Callable[[], int]:
    return free_port


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[Any]]:
    return until


@pytest_asyncio.fixture
async def start_process(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    started: list[Process] = []

    async def start(module: str, **extra: str) -> Process:
        process = Process(module, tmp_path, extra)
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        await process.kill()
        await process.http.aclose()


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    """Who hears of what the carriers do."""
    shop = Shop()
    application = web.Application()
    application.router.add_post("/webhooks", shop.receive)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks"
    yield shop
    await runner.cleanup()


@pytest.fixture
def connect() -> Callable[[Any], httpx2.AsyncClient]:
    """A client that calls the application directly, without a socket."""

    def client(app: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="http://simulator",
            headers={"Authorization": f"Bearer {API_KEY}"},
        )

    return client


@pytest_asyncio.fixture
async def stripe(tmp_path: Path, connect: Callable[[Any], httpx2.AsyncClient]) -> AsyncIterator[Stripe]:
    app = create_app(tmp_path, API_KEY)
    async with app.running(), connect(app) as client:
        yield Stripe(client)
