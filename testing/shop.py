"""The platform as those see it who play in it: customers and staff at the gateway, and the companies outside of it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from audit.books import ChargeRow
from audit.stripe import charge_row
from cli.client import Client, Company, Gateway, Person, Recorder, Reply
from contracts.orders import OrderStatus
from contracts.parcels import ParcelStatus

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
MOST_SCANNED = 1_000
_CODE = re.compile(r"[0-9]{6}")
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
        return self.asking(payment_token=card)

    def sent_to(self, address: Mapping[str, Any]) -> "Purchase":
        return self.asking(ship_to=address)

    def with_first_quantity(self, quantity: int) -> "Purchase":
        first, *others = self.body["lines"]
        return self.asking(lines=[{**first, "quantity": quantity}, *others])

    def from_anywhere_with(self, product_id: str) -> "Purchase":
        """With one more product, and from whichever warehouses have what is in it."""
        more = self.asking(lines=[*self.body["lines"], {"product_id": product_id, "quantity": 1}])
        return replace(more, body={name: value for name, value in more.body.items() if name != "warehouse_id"})

    def asking(self, **fields: Any) -> "Purchase":
        """With these fields of the body."""
        return replace(self, body={**self.body, **fields})


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
    admin: Person
    support: Person
    warehouse: Person
    provider: Company
    carrier: Company
    bank: Company
    mailbox: Company
    messenger: Company
    """Of text messages."""

    def customer(self, household: str) -> Person:
        """A household of the data; it has to sign up."""
        email, name = f"household-{household}@example.com", f"Household {household}"
        return Person(self.gateway, email, f"password-{household}", name)

    async def welcome(self, person: Person) -> None:
        """They open an account and verify their address."""
        await person.sign_up()
        await person.verify(self.mailbox)

    async def prove_phone(self, person: Person, number: str) -> None:
        """They ask for the code that proves a telephone to be theirs, and type it in. Raises ApiProblem, TimeoutError."""
        before = len(await self._texts(number))
        if (await self.call(person, "PUT", "/notifications/preferences/phone", {"phone": number}))["phone"] == number:
            return

        async def has_come() -> bool:
            return len(await self._texts(number)) > before

        await until(has_come, f"a code to {number}", UNTIL_S)
        code = _CODE.search((await self._texts(number))[0])
        assert code is not None
        await self.call(person, "POST", "/notifications/preferences/phone/code", {"code": code[0]})

    async def tell_by_sms(self, person: Person, number: str) -> None:
        """They prove a telephone, and want to hear of their parcels there too. Raises ApiProblem, TimeoutError."""
        await self.prove_phone(person, number)
        wanted = {"choices": {"deliveries": {"email": True, "sms": True}}}
        await self.call(person, "PUT", "/notifications/preferences", wanted)

    async def _texts(self, number: str) -> list[str]:
        """The text messages that went to a number, newest first."""
        account = self.messenger.client.url.partition("//")[2].partition(":")[0]
        path = f"/2010-04-01/Accounts/{account}/Messages.json?To={quote(number)}"
        return [message["body"] for message in (await self.messenger.call("GET", path))["messages"]]

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

    async def quote(self, purchase: Purchase) -> dict[str, Any]:
        """What it would cost."""
        body = {name: value for name, value in purchase.body.items() if name != "payment_token"}
        token, headers = await purchase.customer.token(), {"Idempotency-Key": f"{purchase.key}-quote"}
        quote: dict[str, Any] = await self.gateway.call("POST", "/api/v1/orders/quote", body, token=token, headers=headers)
        return quote

    async def pay(self, purchase: Purchase, order_id: str) -> Reply:
        """Try the card of the purchase, after another one was declined."""
        token, headers = await purchase.customer.token(), {"Idempotency-Key": f"{purchase.key}-pay"}
        card = {"payment_token": purchase.body["payment_token"]}
        return await self.gateway.ask("POST", f"/api/v1/orders/{order_id}/payments", card, token=token, headers=headers)

    async def cancel(self, who: Person, order_id: str, reason: str = "changed my mind") -> Reply:
        return await self.ask(who, "POST", f"/orders/{order_id}/cancel", {"reason": reason})

    async def amend(self, purchase: Purchase, order_id: str, lines: list[dict[str, Any]]) -> Reply:
        """Change how many of which product are in an order."""
        token, headers = await purchase.customer.token(), {"Idempotency-Key": f"{purchase.key}-amend"}
        path = f"/api/v1/orders/{order_id}/amendments"
        return await self.gateway.ask("POST", path, {"lines": lines}, token=token, headers=headers)

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

    async def decide_parcel(self, order_id: str, parcel: int, choice: str, reason: str) -> Reply:
        """What becomes of a parcel that does not arrive, as an operator."""
        body = {"parcel": parcel, "choice": choice, "reason": reason}
        return await self.ask(self.support, "POST", f"/orders/{order_id}/parcel-decision", body)

    async def parcel_reaches(self, order_id: str, parcel: int, status: ParcelStatus) -> dict[str, Any]:
        """The order, once this parcel of it is in that status. Raises TimeoutError."""
        order: dict[str, Any] = {}

        async def is_there() -> bool:
            order.update(await self.order(order_id))
            return any((each["parcel"], each["status"]) == (parcel, status) for each in order["parcels"])

        await until(is_there, f"parcel {parcel} of order {order_id} being {status}", UNTIL_S)
        return order

    async def dispatch(self, order_id: str, parcel: int | None = None) -> None:
        """The warehouse hands this parcel of the order over; None: all of them."""
        async for shipment in self.every(self.warehouse, f"/shipments?order_id={order_id}"):
            if parcel in (None, shipment["parcel"]):
                await self.hand_over(shipment["shipment_id"])

    async def hand_over(self, shipment_id: str) -> None:
        """The warehouse gives a parcel to the carrier, and says so."""
        await self.scan(await self.call(self.warehouse, "POST", f"/shipments/{shipment_id}/dispatch"))

    async def scan(self, *shipments: Mapping[str, Any]) -> None:
        """The carrier takes parcels that were handed over; those that it has already, it has."""
        codes = [package["tracking_number"] for shipment in shipments for package in shipment["packages"]]
        for first in range(0, len(codes), MOST_SCANNED):
            await self.carrier.call("POST", "/_control/hand-over", {"tracking_codes": codes[first : first + MOST_SCANNED]})

    async def scan_what_left(self) -> None:
        """The carrier takes all parcels that were handed over, and that it has not scanned yet."""
        await self.scan(*[each async for each in self.every(self.warehouse, "/shipments?status=DISPATCHED")])

    async def deliver(self, *order_ids: str) -> None:
        """The carrier delivers these orders' parcels, as far as it has them."""
        for order_id in order_ids:
            await self.carry(order_id, "delivered")

    async def lose(self, order_id: str, parcel: int) -> None:
        """The carrier loses a parcel that it has."""
        await self.carry(order_id, "lost", parcel)

    async def carry(self, order_id: str, to: str, parcel: int | None = None) -> None:
        """What the carrier does to all packages of a parcel that it has; None: of every one that is under way."""
        codes = [
            package["tracking_number"]
            async for shipment in self.every(self.support, f"/shipments?order_id={order_id}")
            if shipment["parcel"] == parcel or (parcel is None and shipment["status"] in ("DISPATCHED", "IN_TRANSIT"))
            for package in shipment["packages"]
            if package["tracking_number"]
        ]
        await self.carrier.call("POST", "/_control/advance", {"to": to, "tracking_codes": codes})

    async def arrives(self, order_id: str) -> dict[str, Any]:
        """The order, once it was confirmed, dispatched and delivered."""
        await self.reaches(order_id, OrderStatus.CONFIRMED)
        await self.dispatch(order_id)
        await self.deliver(order_id)
        return await self.reaches(order_id, OrderStatus.COMPLETED)

    async def ask_to_return(self, purchase: Purchase, order_id: str, again: str = "", **body: Any) -> Reply:
        """What its customer asks for of a delivered order. `again`: tells a second request from the first."""
        token, headers = await purchase.customer.token(), {"Idempotency-Key": f"{purchase.key}-return{again}"}
        return await self.gateway.ask("POST", f"/api/v1/orders/{order_id}/returns", body, token=token, headers=headers)

    async def about_return(self, who: Person, asked: Mapping[str, Any], verb: str, body: Any) -> Reply:
        """Approve, reject or cancel a return."""
        return await self.ask(who, "POST", f"/orders/{asked['order_id']}/returns/{asked['number']}/{verb}", body)

    async def receive_return(self, asked: Mapping[str, Any], lines: list[dict[str, Any]]) -> None:
        """The warehouse says what has come of a return."""
        path, key = f"/orders/{asked['order_id']}/returns/{asked['number']}", f"{asked['order_id']}-{asked['number']}"
        token, headers = await self.warehouse.token(), {"Idempotency-Key": key}
        await self.gateway.call("POST", f"/api/v1{path}/receive", {"lines": lines}, token=token, headers=headers)

    async def return_reaches(self, asked: Mapping[str, Any], status: str) -> dict[str, Any]:
        """The return, once it is in that status. Raises TimeoutError."""
        return await self._return_until(asked, lambda found: found["status"] == status, f"being {status}")

    async def return_brings(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The return, once it has brought another order. Raises TimeoutError."""
        return await self._return_until(asked, lambda found: found["replacement_id"] is not None, "bringing an order")

    async def _return_until(
        self, asked: Mapping[str, Any], is_it: Callable[[Mapping[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            found.update(await self.call(self.support, "GET", f"/orders/{asked['order_id']}/returns/{asked['number']}"))
            return is_it(found)

        await until(is_there, f"return {asked['number']} of order {asked['order_id']} {what}", UNTIL_S)
        return found

    async def receive(self, warehouse_id: str, product_id: str, quantity: int, key: str) -> None:
        """Goods arrive at a warehouse."""
        lines = [{"product_id": product_id, "quantity": quantity}]
        body, token = {"warehouse_id": warehouse_id, "reference": key, "lines": lines}, await self.warehouse.token()
        await self.gateway.call("POST", "/api/v1/stock/receipts", body, token=token, headers={"Idempotency-Key": key})

    async def rate_of(self, order_id: str) -> dict[str, Any]:
        """The rate that was bought for an order's only package, as staff see it."""
        page = await self.call(self.support, "GET", f"/shipments?order_id={order_id}")
        [package] = page["items"][0]["packages"]
        chosen: dict[str, Any] = next(rate for rate in package["rates"] if rate["chosen"])
        return chosen

    async def charge(self, order_id: str) -> ChargeRow:
        """What the payment provider wrote down of the order's first attempt to pay, in the audit's words."""
        payments = await self.call(self.support, "GET", f"/payments?order_id={order_id}")
        path = f"/v1/payment_intents/{payments['items'][-1]['provider_id']}?expand[]=latest_charge"
        return charge_row(await self.provider.call("GET", path))


@asynccontextmanager
async def open_shop(env: Mapping[str, str], recorder: Recorder | None = None) -> AsyncIterator[Shop]:
    """The shop of a running platform, with an operator and somebody in the warehouse on its staff.

    The recorder is told of all calls at the gateway."""
    async with AsyncExitStack() as stack:

        async def company(name: str) -> Company:
            client = await stack.enter_async_context(Client(env[f"{name}_URL"]))
            return Company(client, env.get(f"{name}_API_KEY"))

        messenger = with_login(env["SMS_PROVIDER_URL"], env["TWILIO_ACCOUNT_SID"], env["TWILIO_AUTH_TOKEN"])
        gateway = await stack.enter_async_context(Gateway(env["GATEWAY_URL"], recorder=recorder))
        admin = await gateway.login(env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
        mailbox = await company("MAIL_SINK")

        yield Shop(
            gateway=gateway,
            admin=Person(gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"]),
            support=await _hire(gateway, mailbox, admin, "support", env["ADMIN_PASSWORD"]),
            warehouse=await _hire(gateway, mailbox, admin, "warehouse", env["ADMIN_PASSWORD"]),
            provider=await company("PAYMENT_PROVIDER"),
            carrier=await company("CARRIER"),
            bank=await company("BANK"),
            mailbox=mailbox,
            messenger=Company(await stack.enter_async_context(Client(messenger))),
        )


def with_login(url: str, user: str, password: str) -> str:
    """The address with a login in it, which is sent along (HTTP Basic)."""
    scheme, _, rest = url.partition("//")
    return f"{scheme}//{quote(user, safe='')}:{quote(password.split(',')[0], safe='')}@{rest}"


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
