"""Customers who go on buying while parts of the platform are down, and do not give up until each order has a definite answer.

Some pay by cards whose bank asks them, some by bank transfer. Not all of them do at once what they have to: those orders wait
until everything is to be delivered."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from cli.client import ApiProblem, Person, Reply
from contracts.money import Money
from contracts.orders import FINAL_STATUSES, OrderStatus
from contracts.payment_actions import BANK_TRANSFER, ActionKind
from data.baskets import Basket
from testing.households import address_of
from testing.shop import Purchase, Shop, in_parallel, until
from testing.the_bank import answer_the_bank, transfer

CARDS = (
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa_chargeDeclined",
    "pm_sim_lost_reply",
    "pm_sim_flaky",
    "pm_card_authenticationRequired",
    BANK_TRANSFER,
)
CANCELLED, REPEATED, LOOKED_AT, LISTED = 0.15, 0.1, 0.5, 0.2
"""Shares of the orders with which a customer does that, once they are placed."""
ACTED, REFUSED = 0.7, 0.2
"""Shares of the orders with which a customer does at once what is to be done; and refuses at the bank."""
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
            if reply.status == 202 and self._happens(ACTED):
                order = await self._insist("GET", f"/orders/{order_id}", None, {})
                with suppress(*NO_ANSWER):  # the bank is away, or has been answered: whoever waits for it is asked later
                    await act(self.shop, order.body, refuses=self._happens(REFUSED))
                await self._try("GET", f"/orders/{order_id}")
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


async def act(shop: Shop, order: Mapping[str, Any], *, refuses: bool = False) -> None:
    """Do what an order waits for, if it waits for its customer: answer the bank, or transfer what is missing. Raises ApiProblem,
    aiohttp.ClientError, TimeoutError."""
    action = order.get("payment_action")
    if action is None:
        return
    if action["kind"] == ActionKind.REDIRECT:
        await answer_the_bank(action["url"], "refuse" if refuses else "confirm")
        return
    account, total = action["transfer"], Money.model_validate(order["total"])
    missing = total - Money.model_validate(account["received"]) if account.get("received") else total
    await transfer(shop.bank, missing.model_dump(mode="json"), account["reference"])


async def deliver_everything(shop: Shop) -> None:
    """Pay what is waited for, dispatch and deliver what was confirmed; return once every order has ended. Raises TimeoutError."""
    paid: set[str] = set()

    async def pay(order_id: str) -> None:
        """Once: until that is known, the order goes on waiting."""
        if order_id not in paid:
            await act(shop, await shop.order(order_id))
            paid.add(order_id)

    async def all_ended() -> bool:
        try:
            async for order in shop.every(shop.support, f"/orders?status={OrderStatus.ACTION_REQUIRED}"):
                await pay(order["order_id"])
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
