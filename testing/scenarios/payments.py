"""Plays of how an order is paid, beside a card that is simply charged, and of what becomes of the money later."""

from decimal import Decimal
from typing import Any
from zlib import crc32

from contracts.orders import OrderStatus
from contracts.payment_actions import BANK_TRANSFER
from testing.scenarios.seen import Seen, as_share, minor
from testing.shop import UNTIL_S, Purchase, Shop, in_words, until
from testing.the_bank import answer_the_bank, transfer

ASKS = "pm_card_authenticationRequired"


async def confirmed_at_the_bank(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with(ASKS))
    await answer_the_bank(await _page(shop, placed.order_id), "confirm")
    order = await shop.reaches(placed.order_id, OrderStatus.CONFIRMED)
    charge = await shop.charge(placed.order_id)
    return Seen(placed, f"{placed.body.get('status')}, then {charge.status} {as_share(charge.captured, minor(order['total']))}")


async def refused_at_the_bank(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with(ASKS))
    await answer_the_bank(await _page(shop, placed.order_id), "refuse")
    order = await shop.reaches(placed.order_id, OrderStatus.PAYMENT_DUE)
    paid = await shop.pay(purchase, placed.order_id)
    return Seen(placed, f"{order['status']}, pay {in_words(paid.status, paid.body)}")


async def forgotten_at_the_bank(shop: Shop, purchase: Purchase) -> Seen:
    return Seen(await shop.place(purchase.paid_with(ASKS)))


async def transferred(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase.paid_with(BANK_TRANSFER))
    total = placed.body["total"]
    some = Decimal("0.01")
    account = (await _action(shop, placed.order_id))["transfer"]
    first = {**total, "amount": str(Decimal(total["amount"]) - some)}
    await transfer(shop.bank, first, account["reference"])
    waits = await _until_received(shop, placed.order_id, first)
    await transfer(shop.bank, {**total, "amount": str(some)}, account["reference"])
    order = await shop.reaches(placed.order_id, OrderStatus.CONFIRMED)
    [payment] = (await shop.call(shop.support, "GET", f"/payments?order_id={placed.order_id}"))["items"]
    taken = as_share(minor(payment["captured"]), minor(order["total"]))
    return Seen(placed, f"{waits} while a cent is missing, then {payment['status']} {taken}")


async def disputed(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    await shop.provider.call("POST", f"/_dashboard/charges/{placed.order_id}-1/disputes", {"reason": "fraudulent"})
    dispute = await _dispute(shop, placed.order_id, "open")
    after = (await shop.order(placed.order_id))["status"]
    await shop.provider.call("POST", f"/_dashboard/disputes/{dispute['provider_id']}/lose")
    await _dispute(shop, placed.order_id, "lost")
    return Seen(placed, f"{after} while it is open; lost, {await _owed(shop, placed.order_id, 'lost_dispute')}")


async def refund_fails_later(shop: Shop, purchase: Purchase) -> Seen:
    placed = await shop.place(purchase)
    reply = await shop.cancel(purchase.customer, placed.order_id)
    if reply.status >= 400:
        return Seen(placed, f"cancel {in_words(reply.status, reply.body)}")
    [payment] = (await shop.call(shop.support, "GET", f"/payments?order_id={placed.order_id}"))["items"]
    [refund] = (await shop.provider.call("GET", f"/v1/refunds?payment_intent={payment['provider_id']}"))["data"]
    await shop.provider.call("POST", f"/_dashboard/refunds/{refund['id']}/fail")
    words = await _owed(shop, placed.order_id, "failed_refund")
    [debt] = await _debts(shop, placed.order_id, "failed_refund")
    retry = next(call.removeprefix("POST /api/v1") for call in debt["settle_with"] if call.endswith("/retry"))
    again = await shop.ask(shop.admin, "POST", retry)

    async def is_settled() -> bool:
        return not await _debts(shop, placed.order_id, "failed_refund")

    await until(is_settled, f"the refund of order {placed.order_id} to be made again", UNTIL_S)
    left = (await shop.charge(placed.order_id)).status
    return Seen(placed, f"cancel {reply.status}; the refund failed, {words}; again {again.status}, {left}")


async def told_by_sms(shop: Shop, purchase: Purchase) -> Seen:
    await shop.tell_by_sms(purchase.customer, _number_of(purchase.customer.email))
    placed = await shop.place(purchase)
    await shop.arrives(placed.order_id)
    told: dict[str, str] = {}

    async def both_arrived() -> bool:
        path = f"/notifications?order_id={placed.order_id}"
        async for item in shop.every(shop.support, path):
            for delivery in item["deliveries"]:
                if delivery["channel"] == "sms":
                    told[item["kind"]] = delivery["status"]
        return len(told) == 2 and set(told.values()) == {"DELIVERED"}

    await until(both_arrived, f"two SMS about order {placed.order_id}", UNTIL_S)
    return Seen(placed, f"SMS {', '.join(f'{kind} {status}' for kind, status in sorted(told.items()))}")


async def _page(shop: Shop, order_id: str) -> str:
    """The bank's page, as the customer is shown it."""
    return str((await _action(shop, order_id))["url"])


async def _action(shop: Shop, order_id: str) -> dict[str, Any]:
    """What the customer has to do, once that is known. Raises TimeoutError."""
    found: dict[str, Any] = (await shop.reaches(order_id, OrderStatus.ACTION_REQUIRED))["payment_action"]
    return found


async def _until_received(shop: Shop, order_id: str, amount: dict[str, Any]) -> str:
    """The order's status, once it shows that so much has come."""
    order: dict[str, Any] = {}

    async def has_come() -> bool:
        order.update(await shop.order(order_id))
        action = order["payment_action"]
        return bool(action and action["transfer"].get("received") == amount)

    await until(has_come, f"{amount['amount']} for order {order_id}", UNTIL_S)
    return str(order["status"])


async def _dispute(shop: Shop, order_id: str, state: str) -> dict[str, Any]:
    """The order's dispute, once it is in that state. Raises TimeoutError."""
    found: list[dict[str, Any]] = []

    async def is_there() -> bool:
        found[:] = [each async for each in shop.every(shop.support, f"/payments/disputes?order_id={order_id}&state={state}")]
        return bool(found)

    await until(is_there, f"a dispute of order {order_id} being {state}", UNTIL_S)
    return found[0]


async def _owed(shop: Shop, order_id: str, kind: str) -> str:
    """How much of an order's total is owed for this reason, once something is. Raises TimeoutError."""

    async def is_there() -> bool:
        return bool(await _debts(shop, order_id, kind))

    await until(is_there, f"{kind} of order {order_id}", UNTIL_S)
    total = minor((await shop.order(order_id))["total"])
    owed = sum(minor(each["amount"]) for each in await _debts(shop, order_id, kind))
    return "all of it is owed" if owed == total else f"{owed} of {total} cents are owed"


async def _debts(shop: Shop, order_id: str, kind: str) -> list[dict[str, Any]]:
    """What is on the list of what is owed."""
    path = f"/payments/owed?kind={kind}"
    return [each async for each in shop.every(shop.support, path) if each["order_id"] == order_id]


def _number_of(email: str) -> str:
    """The household's telephone: always the same one."""
    return f"+4915{crc32(email.encode()) % 10**9:09}"
