"""Returns: their records, the goods that come back, the labels that they come by, and the orders that they bring."""

from dataclasses import dataclass, field
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from contracts.inventory import ReceiveReturn, ReturnReceived
from contracts.money import Money
from contracts.payments import GiveBack, GivenBack
from contracts.returns import (
    NEXT_RETURN_STATUS,
    AdvanceReturn,
    PlaceReplacement,
    ReplacementPlaced,
    ReturnAdvanced,
    ReturnRun,
    ReturnStatus,
)
from contracts.shipments import CancelReturnLabel, CreateReturnLabel, ReturnLabel, ShipmentStatus
from testing.model.inventory import Inventory
from testing.model.payment import Payments

Key = tuple[UUID, int]
"""Order, and number of the return."""
_S = ShipmentStatus


@dataclass
class ReturnRecord:
    """One return's row."""

    history: list[ReturnStatus] = field(default_factory=lambda: [ReturnStatus.REQUESTED])
    words: list[AdvanceReturn] = field(default_factory=list)
    """What its saga told, each once."""

    @property
    def status(self) -> ReturnStatus:
        return self.history[-1]

    @property
    def last(self) -> AdvanceReturn:
        return self.words[-1]


class Returns:
    """What the services do for returns."""

    def __init__(self, inventory: Inventory, payments: Payments) -> None:
        self._inventory, self._payments = inventory, payments
        self.records: dict[Key, ReturnRecord] = {}
        self.received: dict[Key, ReceiveReturn] = {}
        self.labels: dict[Key, ShipmentStatus] = {}
        self.replacements: dict[UUID, PlaceReplacement] = {}
        self.price: Money | None = None
        """What the next replacement costs; None: as much as its credit."""
        self.given: dict[tuple[UUID, str], Money] = {}
        """What went back, by order and key."""

    def accept(self, run: ReturnRun) -> ReturnRecord:
        """The row that exists before the saga does."""
        return self.records.setdefault((run.order_id, run.number), ReturnRecord())

    def advance(self, command: AdvanceReturn) -> ReturnAdvanced:
        """Walk the path, as far as it is new. Refusals: not_found, illegal_transition."""
        record = self.records.get((command.order_id, command.number))
        if record is None:
            raise Refusal(ErrorCode.NOT_FOUND, "There is no such return.")
        if len(record.history) < command.after:
            raise Refusal(ErrorCode.ILLEGAL_TRANSITION, "The return's record has missed what came before.")
        for status in command.new_to(record.history):
            if status not in NEXT_RETURN_STATUS[record.status]:
                raise Refusal(ErrorCode.ILLEGAL_TRANSITION, f"A return that is {record.status} cannot become {status}.")
            record.history.append(status)
        if not record.words or command.as_of > record.last.as_of or command.path != record.last.path:
            record.words.append(command)
        return ReturnAdvanced(order_id=command.order_id, number=command.number, status=record.status)

    def receive(self, command: ReceiveReturn) -> ReturnReceived:
        """Refusals: warehouse_unknown, conflict."""
        shelves = self._inventory.shelves.get(command.warehouse_id)
        if shelves is None:
            raise Refusal(ErrorCode.WAREHOUSE_UNKNOWN, f"There is no warehouse {command.warehouse_id}.")
        earlier = self.received.setdefault((command.order_id, command.number), command)
        if earlier is command:
            for line in command.lines:
                shelves[line.product_id].restocked += line.good
        elif earlier.lines != command.lines:
            raise Refusal(ErrorCode.CONFLICT, "Other goods came by this return.")
        return ReturnReceived(
            order_id=command.order_id, number=command.number, warehouse_id=earlier.warehouse_id, lines=earlier.lines
        )

    def create_label(self, command: CreateReturnLabel) -> ReturnLabel:
        """Refusal: shipment_cancelled."""
        key = (command.order_id, command.number)
        if self.labels.setdefault(key, _S.BOOKED) == _S.CANCELLED:
            raise Refusal(ErrorCode.SHIPMENT_CANCELLED, "The label was called off.")
        return self._label(key)

    def cancel_label(self, command: CancelReturnLabel) -> ReturnLabel:
        """Refusal: already_dispatched."""
        key = (command.order_id, command.number)
        if self.labels.setdefault(key, _S.CANCELLED) not in (_S.BOOKED, _S.CANCELLED):
            raise Refusal(ErrorCode.ALREADY_DISPATCHED, "The parcel is with the carrier.")
        self.labels[key] = _S.CANCELLED
        return self._label(key)

    def give_back(self, command: GiveBack) -> GivenBack:
        """Of the newest attempt first. Refusals: not_found, conflict."""
        attempts = sorted((number for of, number in self._payments.payments if of == command.order_id), reverse=True)
        paid = [self._payments.payments[command.order_id, number] for number in attempts]
        if not paid:
            raise Refusal(ErrorCode.NOT_FOUND, "Nothing was paid for this order.")
        earlier = self.given.get((command.order_id, command.key))
        if earlier not in (None, command.amount):
            raise Refusal(ErrorCode.CONFLICT, "Another amount was asked for under this key.")
        if earlier is None:
            left = command.amount.minor
            if left > sum(payment.captured_minor - payment.refunded_minor for payment in paid):
                raise Refusal(ErrorCode.CONFLICT, "Less was taken and not given back.")
            for payment in paid:
                part = min(left, payment.captured_minor - payment.refunded_minor)
                payment.refunded_minor, left = payment.refunded_minor + part, left - part
            self.given[command.order_id, command.key] = command.amount
        refunded = sum(payment.refunded_minor for payment in paid)
        return GivenBack(
            order_id=command.order_id, amount=command.amount, refunded=Money.from_minor(refunded, command.amount.currency)
        )

    def place_replacement(self, command: PlaceReplacement) -> ReplacementPlaced:
        """Refusals: those that a test scripts."""
        self.replacements.setdefault(command.replacement_id, command)
        price = self.price or command.credit
        taken = min(price.minor, command.credit.minor)
        return ReplacementPlaced(
            replacement_id=command.replacement_id,
            total=Money.from_minor(price.minor - taken, price.currency),
            credit=Money.from_minor(taken, price.currency),
        )

    def _label(self, key: Key) -> ReturnLabel:
        status = self.labels[key]
        tracking = None if status == _S.CANCELLED else f"RET{key[1]}"
        return ReturnLabel(order_id=key[0], number=key[1], status=status, tracking_number=tracking)
