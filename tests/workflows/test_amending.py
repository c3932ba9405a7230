"""An order is amended before anything of it has left: all of it, or nothing; whoever comes in between."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus, WhenShort
from contracts.money import Money
from contracts.orders import Amendment, AmendReply, CaptureAt, OrderLine, OrderStatus, PlaceOrder, Speed
from contracts.parcels import ParcelStatus
from contracts.payments import Payment, ProcessPayment
from contracts.pricing import LineAmounts
from contracts.shipments import ShipmentStatus
from testing.model import World
from testing.model.world import refused, unavailable
from testing.sagas import Saga, place_order
from tests.conftest import eventually
from tests.workflows.conftest import Begin
from tests.workflows.test_parts import net, order_in_parts, parcels_are, refusal_of, two_warehouses, without_cheese

P = ParcelStatus


def usd(minor: int) -> Money:
    return Money.from_minor(minor, "USD")


def amendment(order: PlaceOrder, number: int = 1, *, owed: int | None = None, **units: int) -> Amendment:
    """So many units of each product, at the order's prices, or for 5.00 each; of what is not named as many as before."""
    lines = []
    known = {line.product_id: (place, line) for place, line in enumerate(order.lines, start=1)}
    for product_id in {**known, **units}:
        place, line = known.get(product_id) or (
            len(known) + 1,
            OrderLine(product_id=product_id, name=product_id, quantity=1, unit_price=usd(500), weight_grams=100),
        )
        quantity = units.get(product_id, line.quantity)
        amounts = LineAmounts(items=line.unit_price.minor * quantity)
        if quantity:
            lines.append(line.model_copy(update={"line_id": line.line_id or place, "quantity": quantity, "amounts": amounts}))
    return Amendment(
        number=number,
        lines=tuple(lines),
        total=usd(sum(line.amounts.total for line in lines if line.amounts)),
        ship_to=order.ship_to,
        shipping=order.shipping,
        owed_before=order.total if owed is None else usd(owed),
        by="customer",
    )


async def amend(saga: Saga, world: World, wanted: Amendment) -> AmendReply:
    world.orders.ask_amendment(saga.order.order_id, wanted)
    return AmendReply.model_validate(await saga.handle.execute_update("amend", wanted, result_type=AmendReply))


async def refusal(saga: Saga, world: World, wanted: Amendment) -> str | None:
    world.orders.ask_amendment(saga.order.order_id, wanted)
    return await refusal_of(saga, "amend", wanted.model_dump(mode="json"))


def reserved(world: World) -> dict[str, int]:
    """Units that are promised, by product."""
    units: dict[str, int] = {}
    for shelves in world.inventory.shelves.values():
        for product, shelf in shelves.items():
            units[product] = units.get(product, 0) + shelf.reserved
    return units


def live(world: World, order: PlaceOrder) -> set[int]:
    """Parcels that the carrier has to fetch."""
    return {number for number, status in world.parcels_of(order.order_id).items() if status == ShipmentStatus.BOOKED}


async def contents(saga: Saga) -> dict[int, list[tuple[int, int, int]]]:
    """Line, first unit and units of the parcels that count."""
    parcels = (await saga.state()).parcels
    return {it.parcel: [(line.line_id, line.first, line.quantity) for line in it.lines] for it in parcels if it.counts}


async def deliver(saga: Saga, *parcels: int) -> OrderStatus:
    for parcel in parcels:
        await saga.report("DISPATCHED", "DELIVERED", parcel=parcel)
    return (await saga.handle.result()).status


def assert_kept(world: World, order: PlaceOrder, net_minor: int) -> None:
    record = world.orders.records[order.order_id]
    assert net(world, order) == net_minor
    assert record.total.minor - (record.refunded.minor if record.refunded else 0) == net_minor
    back = sum(payment.refunded_minor for (owner, _), payment in world.payments.payments.items() if owner == order.order_id)
    assert back == (record.refunded.minor if record.refunded else 0) + (record.closed.minor if record.closed else 0)
    assert not any(payment.held_minor for payment in world.payments.payments.values())


async def test_units_and_a_line_are_added_in_a_parcel_of_their_own(begin: Begin) -> None:
    world, order = World(), place_order()
    world.inventory.receive("410", oil=3)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await amend(saga, world, amendment(order, milk=3, oil=2))
            assert (reply.total, reply.charged, reply.given_back) == (usd(3610), usd(1270), usd(0))
            assert await contents(saga) == {1: [(1, 0, 2), (2, 0, 1)], 2: [(1, 2, 1), (3, 0, 2)]}
            assert live(world, order) == {1, 2}
            assert reserved(world) == {"milk": 3, "cheese": 1, "oil": 2}
            assert await deliver(saga, 1, 2) == OrderStatus.COMPLETED
    assert_kept(world, order, 3610)
    assert world.orders.records[order.order_id].events.count("OrderAmended") == 1


async def test_units_and_a_line_that_go_are_released_and_paid_back(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await amend(saga, world, amendment(order, milk=1, cheese=0))
            assert (reply.total, reply.charged, reply.given_back) == (usd(270), usd(0), usd(2070))
            assert await contents(saga) == {2: [(1, 0, 1)]}
            assert live(world, order) == {2}
            assert reserved(world) == {"milk": 1, "cheese": 0}
            assert await deliver(saga, 2) == OrderStatus.COMPLETED
    assert_kept(world, order, 270)


async def test_another_address_and_speed_are_other_labels(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    home = order.ship_to.model_copy(update={"line1": "2 Side St"})
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            wanted = amendment(order).model_copy(
                update={"ship_to": home, "shipping": Speed.EXPRESS, "total": order.total + usd(300)}
            )
            reply = await amend(saga, world, wanted)
            assert (reply.charged, live(world, order)) == (usd(300), {3, 4})
            await parcels_are(saga, P.CANCELLED, P.CANCELLED, P.BOOKED, P.BOOKED)
            assert reserved(world) == {"milk": 2, "cheese": 1}
            assert await deliver(saga, 3, 4) == OrderStatus.COMPLETED
    assert_kept(world, order, 2640)


async def test_an_order_is_amended_again_and_cancelled_in_the_end(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await amend(saga, world, amendment(order, milk=4))
            assert await refusal(saga, world, amendment(order, milk=5)) == ErrorCode.CONFLICT
            reply = await amend(saga, world, amendment(order, 2, owed=2880, milk=1))
            assert (reply.total, reply.given_back) == (usd(2070), usd(810))
            await amend(saga, world, amendment(order, 3, owed=2070, milk=2))
            answer = await saga.handle.execute_update("cancel", {"reason": "changed my mind", "requested_by": "customer"})
            assert answer["refunded"]["amount"] == "23.40"
            state = await saga.handle.result()
    assert state.status == OrderStatus.CANCELLED
    assert_kept(world, order, 0)
    assert (reserved(world), live(world, order)) == ({"milk": 0, "cheese": 0}, set())


async def test_a_lost_parcel_of_an_amended_order_is_refunded_at_its_new_price(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await amend(saga, world, amendment(order, milk=12))
            await saga.report("DISPATCHED", "LOST", parcel=1)
            await parcels_are(saga, P.UNDELIVERED, P.BOOKED)
            await saga.update("decide_parcel", {"by": "ann", "reason": "lost", "choice": "refund", "parcel": 1})
            await parcels_are(saga, P.REFUNDED, P.BOOKED)
            assert net(world, order) == 2700  # of two attempts, more than either of them had taken for it
            assert await deliver(saga, 2) == OrderStatus.COMPLETED
    assert_kept(world, order, 2700)


@pytest.mark.parametrize("code", [ErrorCode.OUT_OF_STOCK, ErrorCode.PURCHASE_LIMIT])
async def test_what_is_not_in_stock_cannot_be_added(begin: Begin, code: ErrorCode) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            more = 999 if code == ErrorCode.OUT_OF_STOCK else 101
            world.inventory.shelves["410"]["milk"].received = 200 if code == ErrorCode.OUT_OF_STOCK else 1000
            assert await refusal(saga, world, amendment(order, milk=more)) == code
            await is_as_before(saga, world, order)


@pytest.mark.parametrize("step", ["ProcessPayment", "CapturePayment"])
async def test_a_declined_difference_leaves_the_order_as_it_was(begin: Begin, step: str) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before[step] = [refused(ErrorCode.PAYMENT_DECLINED)]
            wanted = amendment(order, milk=1, cheese=3)
            assert await refusal(saga, world, wanted) == ErrorCode.PAYMENT_DECLINED
            parcel = 1 if step == "ProcessPayment" else 3
            await is_as_before(saga, world, order, parcel)
    assert world.orders.records[order.order_id].amended == {1: ErrorCode.PAYMENT_DECLINED}


async def is_as_before(saga: Saga, world: World, order: PlaceOrder, parcel: int = 1) -> None:
    """Though perhaps in a parcel of another number."""
    assert (live(world, order), reserved(world)) == ({parcel}, {"milk": 2, "cheese": 1})
    assert net(world, order) == order.total.minor
    assert await deliver(saga, parcel) == OrderStatus.COMPLETED
    assert_kept(world, order, order.total.minor)


async def test_the_carrier_refuses_the_new_address(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    moved = order.ship_to.model_copy(update={"line1": "nowhere"})
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()

            def the_second_is_refused() -> None:
                world.before["CreateShipment"] = [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]

            world.before["CreateShipment"] = [the_second_is_refused]
            wanted = amendment(order).model_copy(update={"ship_to": moved, "total": order.total + usd(100)})
            assert await refusal(saga, world, wanted) == ErrorCode.ADDRESS_UNDELIVERABLE
            assert (live(world, order), reserved(world)) == ({5, 6}, {"milk": 2, "cheese": 1})
            assert (await saga.state()).status == OrderStatus.CONFIRMED
            assert await deliver(saga, 5, 6) == OrderStatus.COMPLETED
    assert_kept(world, order, order.total.minor)


async def test_what_has_left_to_the_new_address_stays_so_if_the_carrier_refuses_the_rest(begin: Begin) -> None:
    world, order = two_warehouses(), order_in_parts()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()

            def one_leaves_the_other_is_refused() -> None:
                world.shipping.move(order.order_id, 3, ShipmentStatus.DISPATCHED)
                refused(ErrorCode.PARCEL_TOO_HEAVY)()

            def first() -> None:
                world.before["CreateShipment"] = [one_leaves_the_other_is_refused]

            world.before["CreateShipment"] = [first]
            wanted = amendment(order).model_copy(update={"shipping": Speed.EXPRESS})
            await amend(saga, world, wanted)
            await parcels_are(saga, P.CANCELLED, P.CANCELLED, P.BOOKED, P.CANCELLED)
            assert await deliver(saga, 3) == OrderStatus.COMPLETED
    assert_kept(world, order, 540)


@pytest.mark.parametrize("parts", [False, True])
async def test_the_carrier_decides_whether_the_warehouse_was_first(begin: Begin, parts: bool) -> None:
    world, order = (two_warehouses(), order_in_parts()) if parts else (World(), place_order())
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.shipping.move(order.order_id, 1, ShipmentStatus.DISPATCHED)  # the saga has not heard of it yet
            wanted = amendment(order, milk=1, cheese=2).model_copy(update={"shipping": Speed.EXPRESS})
            assert await refusal(saga, world, wanted) == ErrorCode.ALREADY_DISPATCHED
            assert reserved(world) == {"milk": 2, "cheese": 1}
            await saga.report("DISPATCHED")
            assert await refusal(saga, world, amendment(order, 2, milk=1)) == ErrorCode.ALREADY_DISPATCHED
            assert live(world, order) == ({4} if parts else set())
            assert await deliver(saga, 1, *([4] if parts else [])) == OrderStatus.COMPLETED
    assert_kept(world, order, order.total.minor)


async def test_a_cancellation_and_an_amendment_have_one_answer_each(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["ReserveInventory"] = [unavailable] * 3
            amending = asyncio.create_task(amend(saga, world, amendment(order, milk=3)))

            async def tried() -> bool:
                return world.calls.count("ReserveInventory") > 1

            await eventually(tried)
            assert await refusal(saga, world, amendment(order, 2, milk=4)) == ErrorCode.CONFLICT
            cancelling = asyncio.create_task(saga.handle.execute_update("cancel", {"reason": "no", "requested_by": "customer"}))
            assert (await amending).charged == usd(270)
            assert (await cancelling)["refunded"]["amount"] == "26.10"
            await saga.handle.result()
    assert_kept(world, order, 0)


async def test_a_cancelled_order_is_not_amended(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["CancelShipment"] = [unavailable] * 3
            cancelling = asyncio.create_task(saga.handle.execute_update("cancel", {"reason": "no", "requested_by": "customer"}))

            async def tried() -> bool:
                return "CancelShipment" in world.calls

            await eventually(tried)
            assert await refusal(saga, world, amendment(order, milk=3)) == ErrorCode.NOT_AMENDABLE
            await cancelling


async def test_it_is_done_once_however_many_answers_are_lost(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            commands = "ReserveInventory ProcessPayment CancelShipment CapturePayment SplitReservation CreateShipment"
            for name in [*commands.split(), "AdvanceOrder", "ReleaseInventory"]:
                world.after[name] = [unavailable]
            reply = await amend(saga, world, amendment(order, milk=1, cheese=2))
            assert (reply.charged, reply.total) == (usd(1530), usd(3870))
            assert reserved(world) == {"milk": 1, "cheese": 2}
            assert live(world, order) == {2, 3}
            assert await deliver(saga, 2, 3) == OrderStatus.COMPLETED
    assert_kept(world, order, 3870)
    assert world.orders.records[order.order_id].events.count("OrderAmended") == 1


async def test_money_that_does_not_go_back_is_visible_and_the_order_is_amended(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.before["GiveBack"] = [refused(ErrorCode.REFUND_FAILED)] * 1000
            amending = asyncio.create_task(amend(saga, world, amendment(order, milk=1)))

            async def stuck() -> bool:
                return (await saga.state()).stuck_undos == ("refund-order-amendment-1",)

            await eventually(stuck, timeout_s=120)
            assert world.orders.records[order.order_id].total == usd(2070)
            by_hand = {
                "by": "ann",
                "reason": "paid in cash",
                "undo": "refund-order-amendment-1",
                "done": True,
                "refunded": usd(270),
            }
            await saga.handle.execute_update("settle_undo", by_hand)
            assert (await amending).given_back == usd(270)
            assert await deliver(saga, 2) == OrderStatus.COMPLETED


async def test_goods_that_are_awaited_can_be_amended_away(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.WAIT)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            await parcels_are(saga, P.BOOKED, P.AWAITED)
            await amend(saga, world, amendment(order, cheese=0))
            await parcels_are(saga, P.BOOKED, P.CANCELLED)
            assert world.inventory.promises[order.order_id, 2].status == ReservationStatus.RELEASED
            assert await deliver(saga, 1) == OrderStatus.COMPLETED
    assert_kept(world, order, 540)


async def test_units_that_were_dropped_are_no_part_of_the_amended_order(begin: Begin) -> None:
    world, order = without_cheese(), order_in_parts(when_short=WhenShort.DROP)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await amend(saga, world, amendment(order, owed=540, milk=4, cheese=0))
            assert (reply.total, reply.charged) == (usd(1080), usd(540))
            assert await deliver(saga, 1, 3) == OrderStatus.COMPLETED
    assert_kept(world, order, 1080)


@pytest.mark.parametrize("units", [{"milk": 4}, {"cheese": 0}])
async def test_an_order_that_is_paid_at_dispatch_is_held_anew_as_a_whole(begin: Begin, units: dict[str, int]) -> None:
    world, order = World(), place_order(capture_at=CaptureAt.DISPATCH)
    wanted = amendment(order, **units)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            reply = await amend(saga, world, wanted)
            assert reply.charged.minor == max(wanted.total.minor - 2340, 0)
            assert (reply.given_back, net(world, order)) == (usd(0), 0)
            held = [payment.held_minor for payment in world.payments.payments.values()]
            assert held == ([0, 2880] if "milk" in units else [2340])
            assert await deliver(saga, *([1, 2] if "milk" in units else [2])) == OrderStatus.COMPLETED
    assert_kept(world, order, wanted.total.minor)


async def test_staff_make_what_the_payment_service_wants_to_be_looked_at(begin: Begin) -> None:
    world, order = World(), place_order()
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            world.payments.review = ("velocity: too much in an hour",)
            wanted = amendment(order, milk=3)
            assert await refusal(saga, world, wanted) == ErrorCode.AMENDMENT_NEEDS_STAFF
            reply = await amend(saga, world, wanted.model_copy(update={"number": 2, "by": "ann", "by_staff": True}))
            assert reply.charged == usd(270)
            assert await deliver(saga, 1, 3) == OrderStatus.COMPLETED
    assert_kept(world, order, 2610)


async def test_another_card_pays_the_difference(begin: Begin) -> None:
    world, order = World(), place_order(pay_again_seconds=900)
    cards: list[str] = []
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            world.before["ProcessPayment"] = [refused(ErrorCode.PAYMENT_DECLINED)]
            await saga.place()
            await saga.handle.execute_update("pay", {"payment_token": "tok_other"})
            process = world.payments.process

            def with_card(command: ProcessPayment) -> Payment:
                cards.append(command.payment_token)
                return process(command)

            world._commands["ProcessPayment"] = with_card
            await amend(saga, world, amendment(order, milk=3))
            await amend(saga, world, amendment(order, 2, owed=2610, milk=4).model_copy(update={"payment_token": "tok_third"}))
    assert cards == ["tok_other", "tok_third"]


async def test_the_update_is_rejected_when_the_order_is_not_there_yet(begin: Begin) -> None:
    world, order = World(), place_order(needs_review=True)
    async with begin(world, order) as saga:
        with saga.env.with_time_skipping_disabled():
            await saga.place()
            with pytest.raises(WorkflowUpdateFailedError) as failure:
                await saga.handle.execute_update("amend", amendment(order, milk=3))
            assert isinstance(failure.value.cause, ApplicationError)
            assert failure.value.cause.type == ErrorCode.NOT_AMENDABLE
