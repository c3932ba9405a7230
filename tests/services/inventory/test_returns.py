"""Goods that come back by returns: on the shelf or written off, once, and never more than was sent."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.errors import ErrorCode, Refusal
from contracts.events import BackorderFilled, LowStockAlert, ReturnShelved, StockLevelChanged
from contracts.identity import Role
from contracts.inventory import MovementKind, ReservationStatus, ReserveInventory, ReturnedLine, WhenShort
from services.inventory.commands import reservations, returns, warehousing
from services.inventory.model import ReceivedReturn, Reservation, require_still_out
from services.inventory.model.stock import Stock
from tests.conftest import ADMIN, TokenMint
from tests.services.inventory.goods import back, event_types, events, level, movements, order, restock, ship, stock


async def sold(database: Database, **lines: int) -> ReserveInventory:
    """An order that was sent from w1."""
    buy = order("w1", customer_id=None, **lines)
    await reservations.reserve_inventory(database, buy)
    await reservations.ship_inventory(database, ship(buy))
    return buy


def sent(parcel: int = 1, status: ReservationStatus = ReservationStatus.SHIPPED, **lines: int) -> Reservation:
    reservation = Reservation.asked(order("w1", customer_id=None, **lines))
    reservation.parcel, reservation.status = parcel, status
    return reservation


def earlier(number: int, **lines: tuple[int, int]) -> ReceivedReturn:
    return ReceivedReturn.of(back(order(milk=1), number, "w1", **lines))


@pytest.mark.parametrize(
    ("comes", "reservations", "before", "is_too_much"),
    [
        ({"milk": 2}, [sent(milk=2)], [], False),
        ({"milk": 3}, [sent(milk=2)], [], True),
        ({"milk": 3}, [sent(milk=2), sent(2, milk=1, bread=1)], [], False),
        ({"milk": 1}, [sent(milk=2)], [earlier(1, milk=(1, 0))], False),
        ({"milk": 2}, [sent(milk=2)], [earlier(1, milk=(0, 1))], True),
        ({"milk": 1}, [sent(milk=2)], [earlier(1, milk=(1, 0)), earlier(2, milk=(0, 1))], True),
        ({"milk": 1}, [sent(status=ReservationStatus.RESTOCKED, milk=2)], [], True),
        ({"milk": 1}, [sent(status=ReservationStatus.RESERVED, milk=2)], [], True),
        ({"milk": 1}, [sent(status=ReservationStatus.RESTOCKED, milk=2), sent(2, milk=1)], [], False),
        ({"bread": 1}, [sent(milk=2)], [], True),
        ({"bread": 0}, [sent(milk=2)], [], False),
        ({"milk": 1}, [], [], True),
    ],
)
def test_no_more_comes_back_than_was_sent_and_is_out(
    comes: dict[str, int], reservations: list[Reservation], before: list[ReceivedReturn], is_too_much: bool
) -> None:
    if not is_too_much:
        require_still_out(comes, reservations, before)
        return
    with pytest.raises(Refusal) as refused:
        require_still_out(comes, reservations, before)
    assert refused.value.code == ErrorCode.CONFLICT
    assert next(iter(comes)) in refused.value.detail


@pytest.mark.parametrize(("good", "damaged"), [(2, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("on_hand", [0, 3])
def test_what_is_damaged_comes_and_goes_and_alarms_nobody(good: int, damaged: int, on_hand: int) -> None:
    shelf = Stock(warehouse_id="w1", product_id="milk", on_hand=on_hand, low_stock_threshold=on_hand)
    moved = shelf.take_back(good, damaged, "return 1 of order 7")
    assert shelf.on_hand == on_hand + good
    lines = [(one.movement.kind, one.movement.change, one.movement.reference) for one in moved]
    expected = [(MovementKind.RETURN, good + damaged), (MovementKind.WRITE_OFF, -damaged)][: 2 if damaged else 1]
    assert lines == [(kind, change, "return 1 of order 7") for kind, change in expected]
    told = [event for one in moved for event in one.events]
    assert all(isinstance(event, StockLevelChanged) for event in told)


async def test_good_goods_go_on_the_shelf_and_damaged_ones_are_written_off(database: Database) -> None:
    await stock(database, "w1", milk=5, bread=5)
    buy = await sold(database, milk=3, bread=1)
    reply = await returns.receive_return(database, back(buy, milk=(2, 1), bread=(0, 1)))
    assert reply.lines == (
        ReturnedLine(product_id="milk", good=2, damaged=1),
        ReturnedLine(product_id="bread", good=0, damaged=1),
    )
    assert (await level(database, "w1", "milk"), await level(database, "w1", "bread")) == ((4, 0), (4, 0))
    name = f"return 1 of order {buy.order_id}"
    assert (await movements(database, "milk"))[-2:] == [(3, name), (-1, name)]
    assert (await movements(database, "bread"))[-2:] == [(1, name), (-1, name)]
    [shelved] = await events(database, ReturnShelved)
    assert (shelved.order_id, shelved.number, shelved.warehouse_id, shelved.lines) == (buy.order_id, 1, "w1", reply.lines)
    levels = [(event.product_id, event.kind, event.change, event.on_hand) for event in await events(database, StockLevelChanged)]
    assert levels[-4:] == [
        ("milk", "RETURN", 3, 5), ("milk", "WRITE_OFF", -1, 4), ("bread", "RETURN", 1, 5), ("bread", "WRITE_OFF", -1, 4),
    ]  # fmt: skip


async def test_they_may_come_to_another_warehouse_that_never_had_them(database: Database) -> None:
    await stock(database, "w1", milk=5)
    await stock(database, "w2", bread=1)
    buy = await sold(database, milk=2)
    await returns.receive_return(database, back(buy, warehouse_id="w2", milk=(2, 0)))
    assert (await level(database, "w1", "milk"), await level(database, "w2", "milk")) == ((3, 0), (2, 0))


async def test_but_not_to_one_that_is_not_there(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = await sold(database, milk=2)
    with pytest.raises(Refusal) as refused:
        await returns.receive_return(database, back(buy, warehouse_id="w9", milk=(2, 0)))
    assert refused.value.code == ErrorCode.WAREHOUSE_UNKNOWN


async def test_the_same_return_is_received_once(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = await sold(database, milk=3)
    replies = await asyncio.gather(*[returns.receive_return(database, back(buy, milk=(1, 1))) for _ in range(6)])
    assert all(reply == replies[0] for reply in replies)
    assert await level(database, "w1", "milk") == (3, 0)
    assert (await event_types(database)).count("ReturnShelved") == 1
    for other in (back(buy, milk=(2, 0)), back(buy, milk=(1, 1), bread=(1, 0)), back(buy, warehouse_id="w2", milk=(1, 1))):
        with pytest.raises(Refusal) as refused:
            await returns.receive_return(database, other)
        assert refused.value.code == ErrorCode.CONFLICT


async def test_no_unit_comes_back_twice_by_whatever_way(database: Database) -> None:
    await stock(database, "w1", milk=9)
    buy = await sold(database, milk=3)

    async def answer(number: int) -> Any:
        try:
            return await returns.receive_return(database, back(buy, number, milk=(1, 1)))
        except Refusal as refusal:
            return refusal.code

    replies = await asyncio.gather(*map(answer, range(1, 7)))
    assert replies.count(ErrorCode.CONFLICT) == 5
    assert await level(database, "w1", "milk") == (7, 0)
    with pytest.raises(Refusal) as refused:
        await returns.restock_inventory(database, restock(buy))
    assert refused.value.code == ErrorCode.CONFLICT


async def test_what_came_back_with_its_parcel_does_not_come_back_by_a_return(database: Database) -> None:
    await stock(database, "w1", milk=9)
    buy = await sold(database, milk=3)
    again = buy.model_copy(update={"parcel": 2})
    await reservations.reserve_inventory(database, again)
    await reservations.ship_inventory(database, ship(again))
    await returns.restock_inventory(database, restock(buy))
    with pytest.raises(Refusal):
        await returns.receive_return(database, back(buy, milk=(4, 0)))
    await returns.receive_return(database, back(buy, milk=(3, 0)))
    assert await level(database, "w1", "milk") == (9, 0)
    assert (await returns.restock_inventory(database, restock(buy))).status == ReservationStatus.RESTOCKED


@pytest.mark.parametrize("left", [(), ("reserve",)])
async def test_what_was_not_sent_cannot_come_back(database: Database, left: tuple[str, ...]) -> None:
    await stock(database, "w1", milk=5)
    buy = order(milk=2)
    if left:
        await reservations.reserve_inventory(database, buy)
    with pytest.raises(Refusal) as refused:
        await returns.receive_return(database, back(buy, milk=(1, 0)))
    assert refused.value.code == ErrorCode.CONFLICT
    assert await event_types(database) == ["StockLevelChanged", *["InventoryReserved" for _ in left]]


async def test_nothing_at_all_may_have_come(database: Database) -> None:
    await stock(database, "w1", milk=5)
    buy = await sold(database, milk=2)
    before = await movements(database, "milk")
    await returns.receive_return(database, back(buy, milk=(0, 0)))
    assert await movements(database, "milk") == before


async def test_who_waits_gets_what_came_back_the_oldest_first(database: Database) -> None:
    await stock(database, "w1", milk=2)
    buy = await sold(database, milk=2)
    waiting = [order(None, milk=1).model_copy(update={"when_short": WhenShort.WAIT}) for _ in range(2)]
    for each in waiting:
        await reservations.reserve_inventory(database, each)
    await returns.receive_return(database, back(buy, milk=(1, 1)))
    assert [event.order_id for event in await events(database, BackorderFilled)] == [waiting[0].order_id]
    assert await level(database, "w1", "milk") == (1, 1)


async def test_low_stock_is_told_when_it_is_crossed_and_not_by_what_is_written_off(database: Database) -> None:
    await stock(database, "w1", milk=3)
    line = order(milk=1).lines
    key = IdempotencyKey("test", str(uuid4()), "")
    await warehousing.receive_stock(database, ADMIN, "w1", line, key, reference="test", low_stock_threshold=2)
    buy = await sold(database, milk=2)
    assert len(await events(database, LowStockAlert)) == 1
    await returns.receive_return(database, back(buy, milk=(0, 1)))
    assert len(await events(database, LowStockAlert)) == 1
    await returns.receive_return(database, back(buy, 2, milk=(1, 0)))
    await reservations.reserve_inventory(database, order(milk=1))
    assert len(await events(database, LowStockAlert)) == 2


async def test_staff_sees_what_came_back_and_what_was_written_off(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    staff, service = mint.headers(Role.ADMIN), mint.headers(Role.SERVICE)
    await client.put("/api/v1/warehouses/w1", params={"name": "W1"}, headers=staff)
    receipt = {"warehouse_id": "w1", "reference": "note", "lines": [{"product_id": "milk", "quantity": 4}]}
    await client.post("/api/v1/stock/receipts", json=receipt, headers=staff | {"Idempotency-Key": "1"})
    buy = order(milk=3)
    for path, body in (
        ("reservations", buy),
        ("reservations/ship", ship(buy)),
        ("inventory/receive-return", back(buy, milk=(1, 2))),
    ):
        answer = await client.post(f"/internal/v1/{path}", json=body.model_dump(mode="json"), headers=service)
        assert answer.status_code == 200, answer.text
    for kind, change in (("RETURN", 3), ("WRITE_OFF", -2)):
        params = {"product_id": "milk", "kind": kind}
        [line] = (await client.get("/api/v1/stock/movements", params=params, headers=staff)).json()["items"]
        assert (line["change"], line["reference"]) == (change, f"return 1 of order {buy.order_id}")
    too_many = back(buy, 2, milk=(1, 0)).model_dump(mode="json")
    refused = await client.post("/internal/v1/inventory/receive-return", json=too_many, headers=service)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    for role in (Role.CUSTOMER, Role.WAREHOUSE, Role.ADMIN):
        refused = await client.post("/internal/v1/inventory/receive-return", json=too_many, headers=mint.headers(role))
        assert refused.status_code == 403
