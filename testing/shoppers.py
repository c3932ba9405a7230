"""Customers who go on buying while parts of the platform are down, and do not give up until each order has a definite answer."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from cli.client import ApiProblem, Person, Reply
from contracts.orders import FINAL_STATUSES
from data.baskets import Basket
from testing.households import address_of
from testing.shop import Purchase, Shop, in_parallel, until

CARDS = (
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa_chargeDeclined",
    "pm_sim_lost_reply",
    "pm_sim_flaky",
)
CANCELLED, REPEATED, LOOKED_AT, LISTED = 0.15, 0.1, 0.5, 0.2
"""Shares of the orders with which a customer does that, once they are placed."""
AGAIN_AFTER_S = 0.1
UNTIL_ENDED_S = 900.0
NO_ANSWER = (ApiProblem, aiohttp.ClientError, TimeoutError, OSError)  # the first: the token could not be renewed


@dataclass
class Shoppers:
    """Place orders for as long as they are let."""

    shop: Shop
    customer: Person
    baskets: Sequence[Basket]
    dice: random.Random
    cards: Sequence[str] = CARDS
    cancels: float = CANCELLED
    """The share of the orders that is cancelled."""
    pause_s: float = 0.0
    """Between two orders of one customer."""

    def __post_init__(self) -> None:
        self.placed: dict[str, Reply] = {}
        """Order id → the answer."""
        self.purchases: list[Purchase] = []
        self.closing = asyncio.Event()

    async def buy(self) -> None:
        """One order after the other, until `closing` is set."""
        while not self.closing.is_set():
            purchase = self._choose()
            self.purchases.append(purchase)
            reply = await self._insist("POST", "/orders", purchase.body, {"Idempotency-Key": purchase.key})
            order_id = str(reply.body["order_id"])
            self.placed[order_id] = reply
            if self._happens(LOOKED_AT):
                await self._try("GET", f"/orders/{order_id}")
                await self._try("GET", f"/orders/{order_id}/timeline")
            if self._happens(LISTED):
                await self._try("GET", "/orders?limit=20")
            if reply.status < 400 and self._happens(self.cancels):
                await self._insist("POST", f"/orders/{order_id}/cancel", {"reason": "changed my mind"}, {})
                await self._try("GET", f"/orders/{order_id}")
            if self._happens(REPEATED):
                await self._insist("POST", "/orders", purchase.body, {"Idempotency-Key": purchase.key})
            if self.pause_s:
                await self._pause()

    async def _pause(self) -> None:
        """A rate of orders, not a wait for something; closing time ends it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.closing.wait(), self.pause_s)

    async def look_back(self) -> None:
        """Read each order, and repeat each request: what was told must still be so."""

        async def again(purchase: Purchase) -> None:
            reply = await self._insist("POST", "/orders", purchase.body, {"Idempotency-Key": purchase.key})
            await self._insist("GET", f"/orders/{reply.body['order_id']}", None, {})

        await in_parallel(again, self.purchases, at_once=8)

    def _choose(self) -> Purchase:
        basket = self.dice.choice(self.baskets)
        body = {
            "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
            "ship_to": address_of(basket.household_id),
            "payment_token": self.dice.choice(self.cards),
            "warehouse_id": basket.store_id,
        }
        return Purchase(self.customer, body, key=str(UUID(int=self.dice.getrandbits(128))))

    def _happens(self, share: float) -> bool:
        return self.dice.random() < share

    async def _insist(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Reply:
        """Send the same request until the answer is definite."""
        while True:
            reply = await self._try(method, path, body, headers)
            if reply is not None and _definite(reply):
                return reply
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _try(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply | None:
        """None: no answer came."""
        try:
            token = await self.customer.token()
            return await self.shop.gateway.ask(method, f"/api/v1{path}", body, token=token, headers=headers)
        except NO_ANSWER:
            return None


def _definite(reply: Reply) -> bool:
    """Neither a fault, which may pass, nor about the login. A fault that names its order was given up and undone."""
    given_up = reply.status == 503 and "order_id" in (reply.body or {})
    return given_up or (reply.status < 500 and reply.status not in (401, 429))


async def deliver_everything(shop: Shop) -> None:
    """Dispatch and deliver what was confirmed; return once every order has ended. Raises TimeoutError."""

    async def all_ended() -> bool:
        try:
            async for shipment in shop.every(shop.warehouse, "/shipments?status=BOOKED"):
                # A refusal is fine: an order that is being cancelled has a parcel that may not leave any more.
                await shop.ask(shop.warehouse, "POST", f"/shipments/{shipment['shipment_id']}/dispatch")
            await shop.scan_what_left()
            await shop.carrier.call("POST", "/_control/advance", {"all": True, "to": "delivered"})
            return all([order["status"] in FINAL_STATUSES async for order in shop.every(shop.support, "/orders?")])
        except ApiProblem as problem:
            # The first request after a restart of a database may still meet a connection that broke.
            if problem.status != 503:
                raise
            return False

    await until(all_ended, "every order to end", UNTIL_ENDED_S)
