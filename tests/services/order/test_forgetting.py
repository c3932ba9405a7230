"""Forgetting a customer: each order names nobody once it has ended, and the key goes with the last one."""

import json
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlmodel import select

from chassis.database import Database
from chassis.store import in_transaction
from contracts.errors import ErrorCode, Refusal
from contracts.events import CustomerForgotten
from contracts.identity import Role
from contracts.keys import WrappedKey
from contracts.orders import AdvanceOrder, CancelRequest, OrderStatus, Outcome, PlaceOrder
from contracts.returns import ReturnStatus
from services.order import commands
from services.order.commands import OrderService
from services.order.model import CustomerKey, Order, Return, outbox
from services.order.schemas import CurrentOrderView
from temporal.returns import ReturnSagas
from tests.conftest import TokenMint, changing
from tests.personal import found_in
from tests.services.order.conftest import new_order
from tests.services.order.test_returns import asked, delivered, tell

S = OrderStatus
WORDS = "my sister Mabel is ill"
PERSONAL = ("Ada Lovelace", "Market Street", "San Francisco", "94105", "tok_", WORDS)
DELIVERED = (S.RESERVED, S.PAID, S.CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED)


async def placed(database: Database, customer_id: UUID) -> PlaceOrder:
    order = new_order(customer_id)
    await commands.accept_order(database, order)
    return order


async def advance(database: Database, order_id: UUID, *path: OrderStatus, words: str | None = None) -> None:
    outcome = Outcome(order_id=order_id, status=path[-1], code=ErrorCode.CANCELLED_BY_REQUEST, detail=words) if words else None
    command = AdvanceOrder(
        order_id=order_id,
        after=1,
        path=path,
        detail=words,
        for_staff=words,
        review_reason=words,
        code=ErrorCode.CANCELLED_BY_REQUEST if words else None,
        outcome=outcome,
    )
    await commands.advance_order(database, command)


async def forget(database: Database, customer_id: UUID) -> None:
    event = CustomerForgotten(customer_id=customer_id, by=customer_id)
    await in_transaction(database, lambda work: commands.wish_to_forget(work, event))


async def key_of(database: Database, customer_id: UUID) -> CustomerKey:
    async with database.reading() as session:
        return await session.get_one(CustomerKey, customer_id)


async def with_key(database: Database, customer_id: UUID) -> None:
    async with changing(database) as work:
        work.add(CustomerKey.new(WrappedKey(customer_id=customer_id, wrapped=b"wrapped", master_key_id="m1")))


async def told(database: Database, kind: str) -> list[str]:
    async with database.reading() as session:
        rows = (await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))).scalars()
        return [row["data"]["order_id"] for row in rows if row["type"] == kind]


async def test_what_has_ended_names_nobody_at_once_and_the_rest_when_it_ends(
    orders: OrderService, sagas_of_returns: ReturnSagas, database: Database
) -> None:
    customer = uuid4()
    await with_key(database, customer)
    ended, open_ = await placed(database, customer), await placed(database, customer)
    await advance(database, ended.order_id, *DELIVERED)
    await advance(database, open_.order_id, *DELIVERED[:4])
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert await told(database, "OrderForgotten") == [str(ended.order_id)]
    assert (await key_of(database, customer)).wrapped == b"wrapped"
    kept = await commands.find_order(database, open_.order_id)
    assert kept
    assert kept.ship_to["name"] == "Ada Lovelace"

    await commands.advance_order(database, AdvanceOrder(order_id=open_.order_id, after=5, path=(S.DELIVERED, S.COMPLETED)))
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert await told(database, "OrderForgotten") == [str(ended.order_id), str(open_.order_id)]
    assert await found_in(database.url, PERSONAL) == []
    key = await key_of(database, customer)
    assert (key.wrapped, key.master_key_id) == (None, None)
    assert key.destroyed_at
    assert key.forgotten_at
    order = await commands.find_order(database, ended.order_id)
    assert order
    assert (order.status, order.total, order.order_lines) == (S.COMPLETED, ended.total, ended.lines)
    assert CurrentOrderView.of(order).ship_to.country == "US"
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert len(await told(database, "OrderForgotten")) == 2


async def test_what_a_customer_wrote_is_in_no_event_and_not_in_the_order(
    orders: OrderService, sagas_of_returns: ReturnSagas, database: Database
) -> None:
    customer = uuid4()
    order = await placed(database, customer)
    await commands.wish_to_cancel(database, order.order_id, CancelRequest(reason=WORDS, requested_by="customer"))
    await advance(database, order.order_id, S.CANCELLING, S.CANCELLED, words=f"Cancelled: {WORDS}")
    async with database.reading() as session:
        events = json.dumps((await session.execute(select(outbox.table.c.envelope))).scalars().all())
    assert WORDS not in events
    assert "Cancelled by request" in events
    assert await found_in(database.url, [WORDS]) != []
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert await found_in(database.url, PERSONAL) == []


async def test_nothing_is_ordered_by_one_who_is_to_be_forgotten(database: Database) -> None:
    customer = uuid4()
    before = await placed(database, customer)
    await forget(database, customer)
    with pytest.raises(Refusal) as refused:
        await placed(database, customer)
    assert refused.value.code == ErrorCode.CUSTOMER_FORGOTTEN
    async with database.reading() as session:
        found = (await session.exec(select(Order.order_id).where(Order.customer_id == customer))).all()
    assert list(found) == [before.order_id]
    await placed(database, uuid4())


async def test_a_history_is_readable_until_its_saga_has_closed(
    orders: OrderService, sagas_of_returns: ReturnSagas, database: Database
) -> None:
    """The order's last word to its record comes before the saga's own end is written down."""
    customer = uuid4()
    order = await placed(database, customer)
    assert await orders.sagas.start(order, "place-it")
    await advance(database, order.order_id, *DELIVERED)
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert await told(database, "OrderForgotten") == []
    assert (await key_of(database, customer)).forgotten_at is None
    await orders.sagas._client.get_workflow_handle(f"order-{order.order_id}").terminate()
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert await told(database, "OrderForgotten") == [str(order.order_id)]
    assert (await key_of(database, customer)).forgotten_at


async def test_staff_see_how_far_it_is(
    orders: OrderService, sagas_of_returns: ReturnSagas, database: Database, client: httpx2.AsyncClient, mint: TokenMint
) -> None:
    customer, support = uuid4(), mint.headers(Role.SUPPORT)
    order, path = await placed(database, customer), f"/api/v1/customers/{customer}/erasure"
    assert (await client.get(path, headers=support)).status_code == 404
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    seen = (await client.get(path, headers=support)).json()
    assert (seen["orders_left"], seen["forgotten_at"]) == (1, None)
    await advance(database, order.order_id, *DELIVERED)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    seen = (await client.get(path, headers=support)).json()
    assert (seen["orders_left"], seen["forgotten_at"] is None) == (0, False)
    assert (await client.get(path, headers=mint.headers(Role.CUSTOMER, subject=customer))).status_code == 403


async def test_to_be_asked_twice_changes_nothing(orders: OrderService, sagas_of_returns: ReturnSagas, database: Database) -> None:
    customer = uuid4()
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    first = await key_of(database, customer)
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert (await key_of(database, customer)).model_dump() == first.model_dump()
    assert first.forgotten_at


def test_whatever_is_added_to_an_order_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {
        *("order_id", "customer_id", "status", "lines", "currency", "charges", "total_minor", "refunded_minor", "warehouse_id"),
        *("needs_review", "code", "trouble", "tracking_number", "placed_at", "confirmed_at", "updated_at", "version"),
        *("parcels", "as_of", "returned_minor", "replaces", "capture_at", "amended", "held_up_at"),
    }
    blanked = {
        *("fingerprint", "placement", "cancel_wish", "hand_over_at", "outcome", "ship_to", "review_reason", "detail"),
        *("history", "declined", "action", "forgotten_at"),
    }
    assert set(Order.model_fields) == kept | blanked


def test_whatever_is_added_to_a_return_is_forgotten_or_named_here() -> None:
    """Who adds a column decides whether it names a person."""
    kept = {
        *("order_id", "number", "customer_id", "kind", "resolution", "send_back", "lines", "exchange_for", "status"),
        *("warehouse_id", "currency", "estimate", "needs_approval", "due_at", "tracking_number", "came", "settlement"),
        *(
            "refunded_minor",
            "replacement_id",
            "not_replaced",
            "code",
            "as_of",
            "reminded_at",
            "requested_at",
            "updated_at",
            "version",
        ),
    }
    blanked = {"comment", "run", "hand_over_at", "history", "detail", "forgotten_at"}
    assert set(Return.model_fields) == kept | blanked


async def test_an_open_return_keeps_its_order_and_the_key(
    orders: OrderService, sagas_of_returns: ReturnSagas, database: Database
) -> None:
    customer = uuid4()
    await with_key(database, customer)
    order = await delivered(database, customer_id=customer)
    number = await asked(database, order, comment=WORDS)
    await tell(database, order, number, ReturnStatus.APPROVED, for_staff=WORDS, detail=WORDS)
    await forget(database, customer)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    assert (await key_of(database, customer)).forgotten_at is None
    assert await told(database, "OrderForgotten") == []

    with pytest.raises(Refusal) as refused:
        await asked(database, order)
    assert refused.value.code == ErrorCode.CUSTOMER_FORGOTTEN

    await tell(database, order, number, ReturnStatus.CANCELLED)
    await commands.forget_customers(database, orders.sagas, sagas_of_returns)
    found = await commands.find_return(database, order.order_id, number)
    assert found
    assert WORDS not in found.model_dump_json()
    assert found.forgotten_at
    assert found.run is None
    assert (await key_of(database, customer)).forgotten_at
