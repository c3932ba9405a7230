"""The gateway as the process that runs in production."""

import asyncio
import json
import os
import signal
import sys

import httpx2

from contracts.identity import Role
from embedded.ports import free_port
from tests.conftest import ROOT, TokenMint, eventually
from tests.gateway.conftest import Shop


async def test_it_starts_serves_and_stops(shop: Shop, redis_url: str, mint: TokenMint) -> None:
    port = free_port()
    urls = {name.upper(): url for name, url in shop.urls().items()}
    environment = {**os.environ, **urls, "REDIS_URL": redis_url, "HOST": "127.0.0.1", "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.app", cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/health/ready")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready, what="the gateway to be ready")
            response = await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
            assert response.json()["service"] == "order"
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        assert all(line["level"] == "info" for line in lines), output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
