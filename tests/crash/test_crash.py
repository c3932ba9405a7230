"""Kill -9 anything, at any moment, while orders come in: afterwards the books are right and every order has a definite end."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from rich.console import Console

from audit import AuditSettings, run_audit
from cli.client import ApiProblem, Gateway, Person
from cli.stocking import stock_platform
from data.baskets import Basket, read_baskets
from embedded.platform import Platform
from testing.shop import open_shop
from tests.conftest import eventually

SETTINGS = {
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "RATE_LIMIT_ANONYMOUS_PER_MINUTE": "1000000",
    "RATE_LIMIT_AUTH_PER_MINUTE": "100000",
    "REVIEW_THRESHOLD": "100000",
    "REVIEW_WINDOW_ORDERS": "1000000",
    "REVIEW_WINDOW_SUM": "1000000",
    "PLACE_WAIT_SECONDS": "3",
}
SHIP_TO = {
    "name": "Ann",
    "line1": "1 Main Street",
    "city": "Springfield",
    "region": "IL",
    "postal_code": "62701",
    "country": "US",
}
CARDS = ("tok_visa", "tok_visa", "tok_visa", "tok_visa", "tok_declined", "tok_lost_reply", "tok_flaky_3")
CANCELLED_SHARE = 0.15
CLIENTS = 4
FINAL = {"COMPLETED", "CANCELLED"}


class Shoppers:
    """Customers who place orders for as long as they are let, and do not give up until each has a definite answer."""

    def __init__(self, gateway: Gateway, customer: Person, baskets: list[Basket], dice: random.Random) -> None:
        self._gateway, self._customer, self._baskets, self._dice = gateway, customer, baskets, dice
        self.placed: dict[str, str] = {}
        """Order id → the code of its refusal, or "ok"."""
        self.closing = asyncio.Event()

    async def shop(self) -> None:
        while not self.closing.is_set():
            basket = self._dice.choice(self._baskets)
            order = await self._place(basket, self._dice.choice(CARDS))
            if self._dice.random() < CANCELLED_SHARE and self.placed[order] == "ok":
                await self._insist("POST", f"/api/v1/orders/{order}/cancel", {"reason": "changed my mind"}, {})

    async def _place(self, basket: Basket, card: str) -> str:
        body = {
            "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
            "ship_to": SHIP_TO,
            "payment_token": card,
            "warehouse_id": basket.store_id,
        }
        status, reply = await self._insist("POST", "/api/v1/orders", body, {"Idempotency-Key": str(uuid4())})
        order = str(reply["order_id"])
        self.placed[order] = "ok" if status < 400 else str(reply["code"])
        return order

    async def _insist(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Send the same request until the answer is definite: neither a lost connection nor a 5xx, 401 or 429."""
        while True:
            try:
                token = await self._customer.token()
                reply = await self._gateway.ask(method, path, body, token=token, headers=headers)
            except (ApiProblem, aiohttp.ClientError, TimeoutError, OSError):  # also where the token could not be renewed
                await asyncio.sleep(0.1)
                continue
            if reply.status == 503 and "order_id" in (reply.body or {}):
                return reply.status, reply.body  # the order was given up and undone: a definite end
            if reply.status < 500 and reply.status not in (401, 404, 429):
                return reply.status, reply.body
            await asyncio.sleep(0.1)


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    seed = int(request.config.getoption("--seed"))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with Platform(tmp_path / "data", settings=SETTINGS, split=("order",)) as platform:
        await stock_platform(platform.env, Console(quiet=True))
        yield platform


@pytest.mark.timeout(1500)
async def test_nothing_is_lost_when_parts_are_killed(
    platform: Platform, dice: random.Random, request: pytest.FixtureRequest
) -> None:
    kills = int(request.config.getoption("--kills"))
    supervisor = platform.supervisor
    victims = [name for name in supervisor.names() if name != "migrate"]
    async with open_shop(platform.env) as shop:
        customer = shop.customer("crash")
        await shop.welcome(customer)
        shoppers = Shoppers(shop.gateway, customer, read_baskets(), dice)
        shopping = [asyncio.create_task(shoppers.shop()) for _ in range(CLIENTS)]
        try:
            turn: list[str] = []
            for number in range(kills):
                turn = turn or dice.sample(victims, len(victims))
                victim = turn.pop()
                enough = len(shoppers.placed) + dice.randint(0, 3)

                async def some_orders(enough: int = enough) -> bool:
                    return len(shoppers.placed) >= enough

                await eventually(some_orders, timeout_s=120, what=f"orders go on before kill {number} ({victim})")
                await asyncio.sleep(dice.random() * 0.2)  # a random moment, not a condition: that is the point
                await supervisor.kill(victim)
                await supervisor.wait_ready(victim, 60)
        finally:
            shoppers.closing.set()
        await asyncio.wait_for(asyncio.gather(*shopping), 120)
        await deliver_everything(platform, shop.gateway)
    report = await run_audit(AuditSettings.model_validate(platform.env), wait_s=60)
    assert report.violations == []
    assert len(shoppers.placed) >= kills
    assert "ok" in shoppers.placed.values()
    restarted = sum(supervisor.restarts(name) for name in victims)
    assert restarted >= kills


async def deliver_everything(platform: Platform, gateway: Gateway) -> None:
    """Dispatch and deliver what was confirmed; wait until every order has ended."""
    env = platform.env
    staff = Person(gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
    carrier = {"Authorization": f"Bearer {env['CARRIER_API_KEY']}"}
    async with aiohttp.ClientSession(platform.url("carrier"), headers=carrier) as http:

        async def all_final() -> bool:
            try:
                return await dispatch_and_deliver()
            except ApiProblem as problem:
                # The first request after a restart of a database may still meet a connection that broke.
                if problem.status != 503:
                    raise
                return False

        async def dispatch_and_deliver() -> bool:
            for shipment in await every(gateway, staff, "/api/v1/shipments?status=BOOKED"):
                await gateway.ask("POST", f"/api/v1/shipments/{shipment['shipment_id']}/dispatch", token=await staff.token())
            async with http.post("/_control/advance", json={"all": True, "to": "delivered"}) as response:
                assert response.status == 200
            orders = await every(gateway, staff, "/api/v1/orders?limit=200")
            return all(order["status"] in FINAL for order in orders)

        await eventually(all_final, timeout_s=180, what="every order ends")


async def every(gateway: Gateway, who: Person, path: str) -> list[dict[str, Any]]:
    """All items of a paginated list."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await gateway.call("GET", path + cursor, token=await who.token())
        items += page["items"]
        if not page["next_cursor"]:
            return items
        cursor = f"&cursor={page['next_cursor']}"
