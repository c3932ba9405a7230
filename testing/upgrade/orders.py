"""The orders that are in flight when a build comes: one kind for every state in which an order may have to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from temporalio.client import Client, WorkflowHandle

from contracts.ids import order_workflow_id
from contracts.orders import OrderStatus
from contracts.parcels import ParcelChoice
from temporal.names import STUCK_UNDO
from testing.shop import UNTIL_S, Purchase, Shop, until
from testing.upgrade.terminal import Terminal, Unexpected

S = OrderStatus
BY_OPERATOR = "looked at it"


@dataclass
class Trade:
    """All that orders are brought into a state with, and out of it."""

    shop: Shop
    temporal: Client
    terminal: Terminal
    inventory_url: str
    """Of inventory's database."""
    _locks: dict[str, asyncpg.Connection] = field(default_factory=dict)

    def saga(self, order_id: str) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(order_workflow_id(UUID(order_id)))

    async def is_pending(self, order_id: str, activity: str, *, attempt: int = 1) -> None:
        """Return once this activity of the order's saga is pending. A step is only after it has failed within its task, an undo
        from the beginning."""

        async def is_so() -> bool:
            pending = (await self.saga(order_id).describe()).raw_description.pending_activities
            return any(it.activity_type.name == activity and it.attempt >= attempt for it in pending)

        await until(is_so, f"{activity} of order {order_id} to be retried", UNTIL_S)

    async def hold_reservation(self, order_id: str) -> None:
        """Lock what is reserved for the order, as somebody does who forgot a transaction in his console."""
        connection = await asyncpg.connect(self.inventory_url.replace("+asyncpg", ""))
        await connection.execute("SET idle_in_transaction_session_timeout = 0")
        await connection.execute("BEGIN")
        locked = await connection.execute("SELECT FROM reservations WHERE order_id = $1 FOR UPDATE", UUID(order_id))
        assert locked == "SELECT 1", locked
        self._locks[order_id] = connection

    async def let_go(self, order_id: str) -> None:
        await self._locks.pop(order_id).close()

    async def close(self) -> None:
        for order_id in list(self._locks):
            await self.let_go(order_id)


Make = Callable[[Trade, Purchase], Awaitable[str]]
Finish = Callable[[Trade, str], Awaitable[None]]


@dataclass(frozen=True)
class State:
    """A state, how an order gets into it, and how out of it. Parcels that may leave are dispatched and delivered later on, all
    alike."""

    name: str
    status: OrderStatus
    """As customers see it."""
    make: Make
    """Returns the order's id, once it is in the state."""
    finish: Finish
    end: OrderStatus


# ── Into it ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def held(trade: Trade, purchase: Purchase) -> str:
    return await _placed(trade, purchase.paid_with("pm_card_riskLevelElevated"), S.IN_REVIEW)


async def confirmed(trade: Trade, purchase: Purchase) -> str:
    return await _placed(trade, purchase, S.CONFIRMED)


async def shipped(trade: Trade, purchase: Purchase) -> str:
    order_id = await confirmed(trade, purchase)
    await trade.shop.dispatch(order_id)
    await trade.shop.reaches(order_id, S.SHIPPED)
    return order_id


def in_trouble(what: str) -> Make:
    """The carrier reports that the parcel is `lost` or `returned`."""

    async def make(trade: Trade, purchase: Purchase) -> str:
        order_id = await shipped(trade, purchase)
        await trade.shop.carry(order_id, what)
        await trade.shop.reaches(order_id, S.UNDELIVERED)
        return order_id

    return make


async def refund_fails(trade: Trade, purchase: Purchase) -> str:
    """The card processor gives nothing back (`fail_reversals`)."""
    order_id = await confirmed(trade, purchase)
    await trade.shop.cancel(trade.shop.support, order_id)
    await trade.is_pending(order_id, "RefundPayment", attempt=2)
    return order_id


async def not_paid(trade: Trade, purchase: Purchase) -> str:
    """The card processor never answers for this card."""
    placed = await trade.shop.place(purchase.paid_with("pm_sim_timeout"), prefer="respond-async")
    await trade.is_pending(placed.order_id, "ProcessPayment")
    return placed.order_id


async def not_booked_out(trade: Trade, purchase: Purchase) -> str:
    """The parcel has left, and inventory cannot write it down."""
    order_id = await confirmed(trade, purchase)
    await trade.hold_reservation(order_id)
    await trade.shop.dispatch(order_id)
    await trade.is_pending(order_id, "ShipInventory")
    return order_id


async def long(trade: Trade, purchase: Purchase) -> str:
    """So many signals that the saga goes on in another run."""
    order_id = await confirmed(trade, purchase)
    saga = trade.saga(order_id)
    first = (await saga.describe()).run_id

    async def goes_on() -> bool:
        await saga.signal("reject", {"by": "nobody", "reason": "not in review"})
        return (await saga.describe()).run_id != first

    await until(goes_on, f"order {order_id} to go on in another run", UNTIL_S)
    return order_id


async def _placed(trade: Trade, purchase: Purchase, status: OrderStatus) -> str:
    order_id = (await trade.shop.place(purchase)).order_id
    await trade.shop.reaches(order_id, status)
    return order_id


# ── Out of it ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def decided(decision: str) -> Finish:
    """About a review: `approve` or `reject`."""

    async def finish(trade: Trade, order_id: str) -> None:
        reply = await trade.shop.decide(order_id, decision, BY_OPERATOR)
        assert reply.status == 200, reply

    return finish


def parcel_decided(choice: ParcelChoice) -> Finish:
    async def finish(trade: Trade, order_id: str) -> None:
        await trade.shop.call(
            trade.shop.support, "POST", f"/orders/{order_id}/parcel-decision", {"choice": choice, "reason": BY_OPERATOR}
        )

    return finish


async def cancelled(trade: Trade, order_id: str) -> None:
    reply = await trade.shop.cancel(trade.shop.support, order_id)
    assert reply.status in (200, 202), reply


async def undone(trade: Trade, order_id: str) -> None:
    """Refunds work again by now. It has long been said that this one is stuck."""

    async def is_told() -> bool:
        return (await trade.saga(order_id).describe()).typed_search_attributes.get(STUCK_UNDO) is not None

    await until(is_told, f"order {order_id} to have a stuck undo", UNTIL_S)
    said = await trade.terminal.commerce("undo", "retry", order_id, code=None)
    # Since refunds work again, its time may have come before the command did.
    if "is tried now" not in said and "is stuck" not in said:
        raise Unexpected(f"commerce undo retry {order_id}: {said}")


async def let_go(trade: Trade, order_id: str) -> None:
    await trade.let_go(order_id)


async def by_itself(trade: Trade, order_id: str) -> None:
    """Its parcel goes the usual way."""


STATES = (
    State("held for review, approved at last", S.IN_REVIEW, held, decided("approve"), S.COMPLETED),
    State("held for review, rejected at last", S.IN_REVIEW, held, decided("reject"), S.CANCELLED),
    State("mid-payment: the card processor does not answer", S.PENDING, not_paid, cancelled, S.CANCELLED),
    State("waiting for dispatch", S.CONFIRMED, confirmed, by_itself, S.COMPLETED),
    State("waiting for dispatch, cancelled at last", S.CONFIRMED, confirmed, cancelled, S.CANCELLED),
    State("waiting for dispatch, in its second run", S.CONFIRMED, long, by_itself, S.COMPLETED),
    State("dispatched, a step being retried that has to succeed", S.CONFIRMED, not_booked_out, let_go, S.COMPLETED),
    State("on its way", S.SHIPPED, shipped, by_itself, S.COMPLETED),
    State("parcel lost", S.UNDELIVERED, in_trouble("lost"), parcel_decided(ParcelChoice.REFUND), S.REFUNDED),
    State(
        "parcel returned",
        S.UNDELIVERED,
        in_trouble("returned"),
        parcel_decided(ParcelChoice.REFUND_AND_RESTOCK),
        S.REFUNDED,
    ),
    State("stuck undo: the card processor refunds nothing", S.CANCELLING, refund_fails, undone, S.CANCELLED),
)
"""Every one is made on the build that runs, waits while the others come and go, and ends on its own."""


@dataclass(frozen=True)
class Waiting:
    """An order in one of the states."""

    state: State
    order_id: str


async def make_all(trade: Trade, purchases: list[Purchase], each: int) -> list[Waiting]:
    """So many orders in each state, all at once: most of the time is waiting."""
    wanted = [(state, purchases.pop()) for state in STATES for _ in range(each)]
    made = await asyncio.gather(*(state.make(trade, purchase) for state, purchase in wanted))
    return [Waiting(state, order_id) for (state, _), order_id in zip(wanted, made, strict=True)]
