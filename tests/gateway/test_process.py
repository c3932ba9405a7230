"""The gateway as the process that runs in production."""

import asyncio
import json
import signal

from starlette.types import Receive, Scope, Send

from contracts.identity import Role
from tests.conftest import TokenMint
from tests.gateway.conftest import Shop, answer, connect, gateway_process


async def test_it_starts_serves_and_stops(shop: Shop, redis_url: str, mint: TokenMint) -> None:
    async with gateway_process(shop, redis_url) as (url, process):
        async with connect(base_url=url) as client:
            response = await client.get("/api/v1/orders", headers=mint.headers(Role.CUSTOMER))
            assert response.json()["service"] == "order"
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        assert all(line["level"] == "info" for line in lines), output


async def test_it_lets_requests_finish_when_it_stops(shop: Shop, redis_url: str) -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await released.wait()
        await answer(send, 200, {"done": True})

    shop["catalog"].handler = slow
    async with gateway_process(shop, redis_url) as (url, process), connect(base_url=url) as client:
        request = asyncio.create_task(client.get("/api/v1/products"))
        await asyncio.wait_for(arrived.wait(), 5)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        released.set()
        assert (await request).json() == {"done": True}
        assert await asyncio.wait_for(process.wait(), 15) == 0
