"""The platform as those see it who play in it: customers and staff at the gateway, and the companies outside of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from cli.client import Client, Company, Gateway, Person, Recorder, Reply
from contracts.ids import payment_reference
from contracts.orders import OrderStatus

Item = TypeVar("Item")
Result = TypeVar("Result")

NO_RATE_LIMITS = {
    "RATE_LIMIT_PER_MINUTE": "10000000",
    "RATE_LIMIT_ANONYMOUS_PER_MINUTE": "10000000",
    "RATE_LIMIT_AUTH_PER_MINUTE": "1000000",
}
"""Settings of a platform whose customers all come from one machine."""
UNHINDERED = {
    **NO_RATE_LIMITS,
    "PAY_AGAIN_SECONDS": "5",
    "REVIEW_THRESHOLD": "1000000",
    "REVIEW_WINDOW_ORDERS": "1000000",
    "REVIEW_WINDOW_SUM": "1000000",
    "PROMISED_UNITS_PER_CUSTOMER": "1000000",
}
"""And of one where only the card decides which orders are held, and nobody buys too much."""
PAGE = 200
UNTIL_S = 300.0
"""How long anybody waits for what has to come. Only a defect makes it that long: a busy machine is none."""


@dataclass(frozen=True)
class Purchase:
    """What somebody is about to order."""

    customer: Person
    body: Mapping[str, Any]
    """Of `POST /api/v1/orders`."""
    key: str

    def paid_with(self, card: str) -> "Purchase":
        return replace(self, body={**self.body, "payment_token": card})

    def sent_to(self, address: Mapping[str, Any]) -> "Purchase":
        return replace(self, body={**self.body, "ship_to": address})

    def with_first_quantity(self, quantity: int) -> "Purchase":
        first, *others = self.body["lines"]
        return replace(self, body={**self.body, "lines": [{**first, "quantity": quantity}, *others]})


@dataclass(frozen=True)
class Placed:
    """The answer to an order."""

    status: int
    body: Mapping[str, Any]
    ms: float

    @property
    def order_id(self) -> str:
        """Empty if no order came of it."""
        return str(self.body.get("order_id", ""))

    @property
    def words(self) -> str:
        """`201`, or `409 out_of_stock`."""
        return in_words(self.status, self.body)


def in_words(status: int, body: Mapping[str, Any]) -> str:
    """A reply in short: its status, and for a refusal its code."""
    return f"{status} {body['code']}" if status >= 400 and body.get("code") else str(status)


@dataclass(frozen=True)
class Shop:
    """All that scenarios need. `open_shop` makes one."""

    gateway: Gateway
    support: Person
    warehouse: Person
    provider: Company
    carrier: Company
    mailbox: Company

    def customer(self, household: str) -> Person:
        """A household of the data; it has to sign up."""
        email, name = f"household-{household}@example.com", f"Household {household}"
        return Person(self.gateway, email, f"password-{household}", name)

    async def welcome(self, person: Person) -> None:
        """They open an account and verify their address."""
        await person.sign_up()
        await person.verify(self.mailbox)

    async def ask(self, who: Person, method: str, path: str, body: Any = None) -> Reply:
        """A reply, refusals included."""
        return await self.gateway.ask(method, f"/api/v1{path}", body, token=await who.token())

    async def call(self, who: Person, method: str, path: str, body: Any = None) -> Any:
        """The body of a successful reply. Raises ApiProblem."""
        return await self.gateway.call(method, f"/api/v1{path}", body, token=await who.token())

    async def every(self, who: Person, path: str) -> AsyncIterator[dict[str, Any]]:
        """The items of a list, page after page. `path` has its own query."""
        cursor = ""
        while True:
            page = await self.call(who, "GET", f"{path}&limit={PAGE}{cursor}")
            for item in page["items"]:
                yield item
            if not page["next_cursor"]:
                return
            cursor = f"&cursor={page['next_cursor']}"

    async def place(self, purchase: Purchase, *, prefer: str | None = None) -> Placed:
        """Order it, and see how long the answer takes."""
        headers = {"Idempotency-Key": purchase.key} | ({"Prefer": prefer} if prefer else {})
        token = await purchase.customer.token()
        began = time.perf_counter()
        reply = await self.gateway.ask("POST", "/api/v1/orders", purchase.body, token=token, headers=headers)
        return Placed(reply.status, reply.body or {}, (time.perf_counter() - began) * 1000)

    async def cancel(self, who: Person, order_id: str, reason: str = "changed my mind") -> Reply:
        return await self.ask(who, "POST", f"/orders/{order_id}/cancel", {"reason": reason})

    async def decide(self, order_id: str, decision: str, reason: str) -> Reply:
        """`approve` or `reject`, as an operator."""
        return await self.ask(self.support, "POST", f"/orders/{order_id}/{decision}", {"reason": reason})

    async def order(self, order_id: str) -> dict[str, Any]:
        order: dict[str, Any] = await self.call(self.support, "GET", f"/orders/{order_id}")
        return order

    async def reaches(self, order_id: str, *statuses: OrderStatus, within_s: float = UNTIL_S) -> dict[str, Any]:
        """The order, once it is in one of the statuses. Raises TimeoutError."""
        order: dict[str, Any] = {}

        async def is_there() -> bool:
            order.update(await self.order(order_id))
            return order["status"] in statuses

        await until(is_there, f"order {order_id} being {' or '.join(statuses)}", within_s)
        return order

    async def dispatch(self, order_id: str) -> None:
        """The warehouse hands the order's parcel over."""
        async for shipment in self.every(self.warehouse, f"/shipments?order_id={order_id}"):
            await self.hand_over(shipment["shipment_id"])

    async def hand_over(self, shipment_id: str) -> None:
        await self.call(self.warehouse, "POST", f"/shipments/{shipment_id}/dispatch")

    async def deliver(self, *order_ids: str) -> None:
        """The carrier delivers these orders' parcels, as far as it has them."""
        await self.carrier.call("POST", "/_control/advance", {"to": "delivered", "references": order_ids})

    async def charge(self, order_id: str) -> dict[str, Any]:
        """What the payment provider wrote down of the order's charge."""
        charge: dict[str, Any] = await self.provider.call("GET", f"/v1/charges/{payment_reference(UUID(order_id), 1)}")
        return charge


@asynccontextmanager
async def open_shop(env: Mapping[str, str], recorder: Recorder | None = None) -> AsyncIterator[Shop]:
    """The shop of a running platform, with an operator and somebody in the warehouse on its staff.

    The recorder is told of all calls at the gateway."""
    async with AsyncExitStack() as stack:

        async def company(name: str) -> Company:
            client = await stack.enter_async_context(Client(env[f"{name}_URL"]))
            return Company(client, env.get(f"{name}_API_KEY"))

        gateway = await stack.enter_async_context(Gateway(env["GATEWAY_URL"], recorder=recorder))
        admin = await gateway.login(env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
        mailbox = await company("MAIL_SINK")

        yield Shop(
            gateway=gateway,
            support=await _hire(gateway, mailbox, admin, "support", env["ADMIN_PASSWORD"]),
            warehouse=await _hire(gateway, mailbox, admin, "warehouse", env["ADMIN_PASSWORD"]),
            provider=await company("PAYMENT_PROVIDER"),
            carrier=await company("CARRIER"),
            mailbox=mailbox,
        )


async def _hire(gateway: Gateway, mailbox: Company, admin: str, role: str, password: str) -> Person:
    person = Person(gateway, f"{role}@example.com", password, role.title())
    await person.sign_up()
    await person.verify(mailbox)
    me = await gateway.call("GET", "/api/v1/users/me", token=await person.token())
    if role not in me["roles"]:
        tag = {"If-Match": f'"{me["version"]}"'}
        roles = [*me["roles"], role]  # who works here still buys here
        await gateway.call("PUT", f"/api/v1/users/{me['user_id']}/roles", {"roles": roles}, token=admin, headers=tag)
        await person.log_in()  # the change has ended the session
    return person


async def until(check: Callable[[], Awaitable[bool]], what: str, within_s: float) -> None:
    """Return once it is true. Raises TimeoutError, which says what was waited for."""
    deadline = time.monotonic() + within_s
    while not await check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s in vain for {what}")
        await asyncio.sleep(0.1)


async def in_parallel(
    work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], *, at_once: int, done: Callable[[], None] = lambda: None
) -> list[Result]:
    """`work` on every item, so many at a time; the results in the items' order. Raises what the first failure raised."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Item) -> Result:
        async with gate:
            result = await work(item)
            done()
            return result

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
