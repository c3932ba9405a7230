"""Sequences of commands, made up by Hypothesis, are answered by a service as by its pure model, and leave the same behind."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import hypothesis.strategies as st
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import BaseModel

from chassis.clock import utc_now
from chassis.idempotency import IdempotencyKey
from contracts.errors import ErrorCode, Refusal
from contracts.ids import parcel_reference, return_reference
from contracts.inventory import (
    ReceiveReturn,
    ReleaseInventory,
    ReserveInventory,
    RestockInventory,
    ReturnedLine,
    ShipInventory,
    SplitReservation,
    StockLine,
    WhenShort,
)
from contracts.money import Money
from contracts.orders import AdvanceOrder, OrderStatus, PlaceOrder
from contracts.parcels import Trouble
from contracts.payments import CapturePayment, GiveBack, ProcessPayment, RefundPayment, ReleaseHold
from contracts.shipments import CancelReturnLabel, CancelShipment, CreateShipment, ShipmentStatus
from services.inventory.commands import announcing, reservations, returns, warehousing
from services.order import commands as order_commands
from services.payment import commands as payment_commands
from services.shipping.commands import news as shipping_news
from services.shipping.commands import parcels as shipping_parcels
from testing.model.inventory import Announced, Inventory
from testing.model.orders import Orders
from testing.model.payment import Payments
from testing.model.shipping import Shipping
from tests.conftest import ADMIN, Databases
from tests.races import inventory, order, payment, shipping
from tests.races.machine import Arena, Subject

ORDERS = [UUID(int=0x5EED << 112 | number) for number in range(3)]
order_ids = st.sampled_from(ORDERS)
parcels = st.integers(1, 2)
COMPARED = {
    *("status", "parcel", "warehouse_id", "lines", "parcels", "dropped", "amount", "refunded", "captured", "moved", "outcome"),
    "number",
}
"""What of a reply is compared: not ids, which the service makes up."""


class Both(RuleBasedStateMachine):
    """A service and its model."""

    subject: ClassVar[Subject[Any]]
    loop: ClassVar[asyncio.AbstractEventLoop]
    arena: ClassVar[Arena]

    def __init__(self) -> None:
        super().__init__()
        self.do(self.arena.clear())

    @property
    def database(self) -> Any:
        return self.arena.database

    def do(self, doing: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await doing

        return self.loop.run_until_complete(done())

    def compare(self, expected: Callable[[], Any], doing: Awaitable[Any]) -> None:
        async def done() -> Any:
            return await doing

        assert _answer(lambda: self.loop.run_until_complete(done())) == _answer(expected)

    def world(self) -> Any:
        """What the service's invariants are about, beside its rows."""
        return None

    def teardown(self) -> None:
        rows = self.do(self.arena.rows())
        assert not self.subject.broken(rows, self.world())


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        reply = ask()
    except Refusal as refusal:
        return refusal.code
    return reply.model_dump(include=COMPARED) if isinstance(reply, BaseModel) else reply


class InventoryMachine(Both):
    subject = inventory.SUBJECT
    numbers = st.integers(1, 3)
    quantities = st.one_of(st.integers(1, 4), st.integers(1, 120))
    goods = st.sampled_from([*inventory.PRODUCTS, "rice", "tea"])
    """Two are on no shelf: who wants them waits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Inventory()
        self.receipts = 0
        for warehouse in inventory.WAREHOUSES:
            self.do(warehousing.put_warehouse(self.database, ADMIN, warehouse, warehouse))
            self.model.receive(warehouse)
            for product in inventory.PRODUCTS:
                self.put_on_shelf(warehouse, product, 90)  # so that the limit of one customer is reached, too

    @rule(
        order_id=order_ids,
        parcel=numbers,
        warehouse=st.sampled_from([None, *inventory.WAREHOUSES, "nowhere"]),
        lines=st.dictionaries(goods, quantities, min_size=1),
        may_split=st.booleans(),
        when_short=st.sampled_from(WhenShort),
        day_by_day=st.booleans(),
    )
    def reserve(
        self,
        order_id: UUID,
        parcel: int,
        warehouse: str | None,
        lines: dict[str, int],
        may_split: bool,
        when_short: WhenShort,
        day_by_day: bool,
    ) -> None:
        command = ReserveInventory(
            order_id=order_id,
            parcel=parcel,
            customer_id=ORDERS[0],
            warehouse_id=warehouse,
            lines=tuple(StockLine(product_id=product, quantity=quantity) for product, quantity in lines.items()),
            may_split=may_split,
            when_short=when_short,
            day_by_day=day_by_day,
        )
        self.compare(lambda: self.model.reserve(command), reservations.reserve_inventory(self.database, command))

    @rule(order_id=order_ids, parcel=numbers, planned=st.booleans())
    def release(self, order_id: UUID, parcel: int, planned: bool) -> None:
        command = ReleaseInventory(order_id=order_id, parcel=parcel, planned=planned, reason="test")
        self.compare(lambda: self.model.release(command), reservations.release_inventory(self.database, command))

    @rule(order_id=order_ids, parcel=numbers)
    def ship(self, order_id: UUID, parcel: int) -> None:
        command = ShipInventory(order_id=order_id, parcel=parcel)
        self.compare(lambda: self.model.ship(command), reservations.ship_inventory(self.database, command))

    @rule(order_id=order_ids, parcel=numbers)
    def restock(self, order_id: UUID, parcel: int) -> None:
        command = RestockInventory(order_id=order_id, parcel=parcel, reason="test")
        self.compare(lambda: self.model.restock(command), returns.restock_inventory(self.database, command))

    @rule(
        order_id=order_ids,
        number=numbers,
        warehouse=st.sampled_from([*inventory.WAREHOUSES, "nowhere"]),
        lines=st.dictionaries(
            st.sampled_from([*inventory.PRODUCTS, "new"]), st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1
        ),
    )
    def receive_return(self, order_id: UUID, number: int, warehouse: str, lines: dict[str, tuple[int, int]]) -> None:
        back = tuple(ReturnedLine(product_id=product, good=good, damaged=damaged) for product, (good, damaged) in lines.items())
        command = ReceiveReturn(order_id=order_id, number=number, warehouse_id=warehouse, lines=back)
        self.compare(lambda: self.model.receive_return(command), returns.receive_return(self.database, command))

    @rule(
        order_id=order_ids,
        parcel=numbers,
        into=st.integers(2, 5),
        lines=st.dictionaries(st.sampled_from(inventory.PRODUCTS), quantities, min_size=1),
    )
    def split(self, order_id: UUID, parcel: int, into: int, lines: dict[str, int]) -> None:
        goods = tuple(StockLine(product_id=product, quantity=quantity) for product, quantity in lines.items())
        command = SplitReservation(order_id=order_id, parcel=parcel, into=into, lines=goods)
        self.compare(lambda: self.model.split(command), reservations.split_reservation(self.database, command))

    @rule(
        warehouse=st.sampled_from(inventory.WAREHOUSES),
        product=goods,
        quantity=quantities,
        days=st.integers(1, 3),
    )
    def announce(self, warehouse: str, product: str, quantity: int, days: int) -> None:
        self.receipts += 1
        on, key = utc_now().date() + timedelta(days=days), IdempotencyKey("test", str(self.receipts), "")
        self.do(announcing.announce_receipt(self.database, ADMIN, warehouse, product, quantity, on, key, reference="test"))
        self.model.announced.append(Announced(warehouse, product, quantity, on))

    @rule(warehouse=st.sampled_from(inventory.WAREHOUSES), product=goods, quantity=quantities)
    def receive(self, warehouse: str, product: str, quantity: int) -> None:
        self.put_on_shelf(warehouse, product, quantity)

    def put_on_shelf(self, warehouse: str, product: str, quantity: int) -> None:
        self.receipts += 1
        lines = [StockLine(product_id=product, quantity=quantity)]
        key = IdempotencyKey("test", str(self.receipts), "")
        self.do(warehousing.receive_stock(self.database, ADMIN, warehouse, lines, key, reference="test"))
        self.model.receive(warehouse, **{product: quantity})

    def teardown(self) -> None:
        super().teardown()
        expected = {
            (warehouse, product): (shelf.on_hand, shelf.reserved)
            for warehouse, shelves in self.model.shelves.items()
            for product, shelf in shelves.items()
        }
        rows = self.do(self.arena.rows())["stock"]
        assert {(row["warehouse_id"], row["product_id"]): (row["on_hand"], row["reserved"]) for row in rows} == expected
        kept = {(UUID(row["order_id"]), row["parcel"]): row["status"] for row in self.do(self.arena.rows())["reservations"]}
        assert kept == {key: promise.status for key, promise in self.model.promises.items()}


class OrderMachine(Both):
    subject = order.SUBJECT

    def __init__(self) -> None:
        super().__init__()
        self.model = Orders()

    @rule(order_id=order_ids)
    def accept(self, order_id: UUID) -> None:
        placement: PlaceOrder = order.placement(order_id)
        record = self.model.accept(placement)
        assert self.do(order_commands.accept_order(self.database, placement)).status == record.status

    @rule(order_id=order_ids, after=st.integers(1, 7), path=st.lists(st.sampled_from(OrderStatus), max_size=4))
    def advance(self, order_id: UUID, after: int, path: list[OrderStatus]) -> None:
        self._advance(order_id, after, tuple(path))

    @rule(order_id=order_ids, word=st.sampled_from(order.PATHS))
    def advance_by_a_likely_word(self, order_id: UUID, word: tuple[int, tuple[OrderStatus, ...]]) -> None:
        self._advance(order_id, *word)

    def _advance(self, order_id: UUID, after: int, path: tuple[OrderStatus, ...]) -> None:
        trouble = Trouble.LOST if OrderStatus.UNDELIVERED in path else None
        command = AdvanceOrder(order_id=order_id, after=after, path=path, trouble=trouble)
        self.compare(lambda: self.model.advance(command), order_commands.advance_order(self.database, command))

    def teardown(self) -> None:
        super().teardown()
        rows = self.do(self.arena.rows())["orders"]
        histories = {UUID(row["order_id"]): [entry["status"] for entry in row["history"]] for row in rows}
        assert histories == {order_id: record.history for order_id, record in self.model.records.items()}


class PaymentMachine(Both):
    subject = payment.SUBJECT

    def __init__(self) -> None:
        super().__init__()
        self.model = Payments()
        self.bank = payment.Bank()

    def world(self) -> payment.Till:
        return payment.Till(ORDERS[0], tuple(ORDERS), self.bank)

    @rule(
        order_id=order_ids,
        attempt=parcels,
        capture=st.booleans(),
        token=st.sampled_from(["pm_card_visa", "pm_card_visa", "pm_card_visa_chargeDeclined"]),
        minor=st.sampled_from([1250, 1250, 1250, 990, 0]),
    )
    def process(self, order_id: UUID, attempt: int, capture: bool, token: str, minor: int) -> None:
        command = ProcessPayment(
            order_id=order_id,
            attempt=attempt,
            customer_id=order_id,
            amount=Money.from_minor(minor, "USD"),
            payment_token=token,
            ship_to_fingerprint=2 * order_id.hex,
            capture=capture,
        )
        self.model.bank.declines = token == "pm_card_visa_chargeDeclined"
        self.compare(lambda: self.model.process(command), payment_commands.process_payment(self.database, self.bank, command))

    @rule(order_id=order_ids, attempt=parcels)
    def capture(self, order_id: UUID, attempt: int) -> None:
        command = CapturePayment(order_id=order_id, attempt=attempt)
        self.model.bank.declines = False
        self.compare(lambda: self.model.capture(command), payment_commands.capture_payment(self.database, self.bank, command))

    @rule(order_id=order_ids, attempt=parcels)
    def refund(self, order_id: UUID, attempt: int) -> None:
        command = RefundPayment(order_id=order_id, attempt=attempt, reason="test")
        self.compare(lambda: self.model.refund(command), payment_commands.refund_payment(self.database, self.bank, command))

    amounts = st.sampled_from([100, 250, 500, 750, 1250, 2000, 0])
    keys = st.sampled_from(["a", "b", "c"])

    @rule(order_id=order_ids, attempt=parcels, minor=amounts, key=keys, is_last=st.booleans())
    def capture_part(self, order_id: UUID, attempt: int, minor: int, key: str, is_last: bool) -> None:
        amount = Money.from_minor(minor, "USD")
        command = CapturePayment(order_id=order_id, attempt=attempt, amount=amount, key=key, is_last=is_last)
        self.model.bank.declines = False
        self.compare(lambda: self.model.capture(command), payment_commands.capture_payment(self.database, self.bank, command))

    @rule(order_id=order_ids, minor=amounts, key=keys)
    def give_back(self, order_id: UUID, minor: int, key: str) -> None:
        command = GiveBack(order_id=order_id, amount=Money.from_minor(minor, "USD"), key=key, reason="test")
        self.compare(lambda: self.model.give_back(command), payment_commands.give_back(self.database, self.bank, command))

    @rule(order_id=order_ids, attempt=parcels)
    def release(self, order_id: UUID, attempt: int) -> None:
        command = ReleaseHold(order_id=order_id, attempt=attempt, reason="test")
        self.compare(lambda: self.model.release(command), payment_commands.release_hold(self.database, self.bank, command))

    @rule(order_id=order_ids, attempt=parcels, minor=amounts, key=keys)
    def refund_part(self, order_id: UUID, attempt: int, minor: int, key: str) -> None:
        amount = Money.from_minor(minor, "USD")
        command = RefundPayment(order_id=order_id, attempt=attempt, amount=amount, key=key, reason="test")
        self.compare(lambda: self.model.refund(command), payment_commands.refund_payment(self.database, self.bank, command))


class ShippingMachine(Both):
    subject = shipping.SUBJECT

    def __init__(self) -> None:
        super().__init__()
        self.model = Shipping()
        self.van = shipping.Van()
        self.news = 0

    def world(self) -> shipping.Dock:
        return shipping.Dock(tuple(ORDERS), (), self.van)

    @rule(order_id=order_ids, parcel=parcels, city=st.sampled_from(["Cincinnati", "Cincinnati", "Nowhere"]))
    def create(self, order_id: UUID, parcel: int, city: str) -> None:
        command: CreateShipment = shipping.to_create(order_id, city).model_copy(update={"parcel": parcel})
        self.model.refuses = ErrorCode.ADDRESS_UNDELIVERABLE if city == "Nowhere" else None
        self.compare(
            lambda: self.model.create(command),
            shipping_parcels.create_shipment(self.database, shipping.sending(self.van), command),
        )

    @rule(order_id=order_ids, parcel=parcels)
    def cancel(self, order_id: UUID, parcel: int) -> None:
        command = CancelShipment(order_id=order_id, parcel=parcel, reason="test")
        self.compare(lambda: self.model.cancel(command), shipping_parcels.cancel_shipment(self.database, command))

    @rule(
        order_id=order_ids,
        parcel=parcels,
        to=st.sampled_from(
            [*3 * [ShipmentStatus.DISPATCHED], *map(ShipmentStatus, ("IN_TRANSIT", "DELIVERED", "LOST", "RETURNED"))]
        ),
    )
    def carry(self, order_id: UUID, parcel: int, to: ShipmentStatus) -> None:
        """The carrier takes a parcel, and tells where it is; what it cannot do, it does not."""
        if not self.model.move(order_id, parcel, to):
            return
        reference = parcel_reference(order_id, parcel)
        self.news += 1
        told = shipping.news_of(reference, to, self.news)
        self.do(shipping_news.apply_carrier_news(self.database, told))

    @rule(order_id=order_ids, number=parcels, city=st.sampled_from(["Cincinnati", "Cincinnati", "Nowhere"]))
    def create_label(self, order_id: UUID, number: int, city: str) -> None:
        command = shipping.to_label(order_id, number, city)
        self.model.refuses = ErrorCode.ADDRESS_UNDELIVERABLE if city == "Nowhere" else None
        doing = shipping_parcels.create_return_label(self.database, shipping.sending(self.van), command)
        self.compare(lambda: self.model.create_label(command), doing)

    @rule(order_id=order_ids, number=parcels)
    def cancel_label(self, order_id: UUID, number: int) -> None:
        command = CancelReturnLabel(order_id=order_id, number=number, reason="test")
        doing = shipping_parcels.cancel_return_label(self.database, command)
        self.compare(lambda: self.model.cancel_label(command), doing)

    @rule(
        order_id=order_ids,
        number=parcels,
        to=st.sampled_from(
            [*3 * [ShipmentStatus.DISPATCHED], *map(ShipmentStatus, ("IN_TRANSIT", "DELIVERED", "LOST", "RETURNED"))]
        ),
    )
    def carry_back(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        """The customer hands a return in, and the carrier tells where it is."""
        if not self.model.move_label(order_id, number, to):
            return
        reference = return_reference(order_id, number)
        self.news += 1
        told = shipping.news_of(reference, to, self.news)
        self.do(shipping_news.apply_carrier_news(self.database, told))

    def teardown(self) -> None:
        super().teardown()
        rows = self.do(self.arena.rows())["shipments"]
        for direction, expected in (("outbound", self.model.parcels), ("inbound", self.model.labels)):
            found = [row for row in rows if row["direction"] == direction]
            statuses = {(UUID(row["order_id"]), row["parcel"]): row["status"] for row in found}
            assert statuses == {key: parcel.status for key, parcel in expected.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def urls(databases: Databases) -> dict[str, str]:
    return {service: await databases.new(service) for service in ("inventory", "order", "payment", "shipping")}


@pytest.mark.parametrize("machine", [InventoryMachine, OrderMachine, PaymentMachine, ShippingMachine])
def test_a_service_answers_as_its_model_does(urls: dict[str, str], race_seeds: int, machine: type[Both]) -> None:
    machine.loop = asyncio.new_event_loop()
    machine.arena = machine.loop.run_until_complete(Arena.opened(urls[machine.subject.service], machine.subject))
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8 * race_seeds,
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        machine.loop.run_until_complete(machine.arena.close())
        machine.loop.close()
