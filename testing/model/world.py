"""All services together behind the activities' `Calls`, with faults that a test scripts."""

from collections import defaultdict
from collections.abc import Callable
from uuid import UUID

from pydantic import BaseModel

from activities.calls import Reply
from chassis.clients import Unavailable
from contracts.errors import ErrorCode, Refusal
from testing.model.inventory import Inventory
from testing.model.notification import Notifications
from testing.model.orders import Orders
from testing.model.payment import Payments
from testing.model.returns import Returns
from testing.model.shipping import Shipping

Fault = Callable[[], None]
WAREHOUSE = "410"


class World:
    """Five services. `before` and `after` hold, by the command's name, what each next call meets: before its effect, or after it
    (the reply is lost). An entry raises, or returns to let the call pass."""

    def __init__(self) -> None:
        self.before: dict[str, list[Fault]] = defaultdict(list)
        self.after: dict[str, list[Fault]] = defaultdict(list)
        self.calls: list[str] = []
        self.inventory = Inventory()
        self.payments = Payments()
        self.shipping = Shipping()
        self.notifications = Notifications()
        self.orders = Orders()
        self.returns = Returns(self.payments)
        self.inventory.receive(WAREHOUSE, milk=1000, cheese=1000)
        self._commands: dict[str, Callable[..., BaseModel]] = {
            "ReserveInventory": self.inventory.reserve,
            "ReleaseInventory": self.inventory.release,
            "ShipInventory": self.inventory.ship,
            "RestockInventory": self.inventory.restock,
            "SplitReservation": self.inventory.split,
            "MoveReservation": self.inventory.move,
            "ReceiveReturn": self.inventory.receive_return,
            "ProcessPayment": self.payments.process,
            "CapturePayment": self.payments.capture,
            "RefundPayment": self.payments.refund,
            "GiveBack": self.payments.give_back,
            "ReleaseHold": self.payments.release,
            "CreateShipment": self.shipping.create,
            "CancelShipment": self.shipping.cancel,
            "CreateReturnLabel": self.shipping.create_label,
            "CancelReturnLabel": self.shipping.cancel_label,
            "AdvanceOrder": self.orders.advance,
            "SendNotification": self.notifications.send,
            "AdvanceReturn": self.returns.advance,
            "PlaceReplacement": self.returns.place_replacement,
        }

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Answer a call; see `Calls`."""
        name = type(body).__name__
        self.calls.append(name)
        if self.before[name]:
            self.before[name].pop(0)()
        answer = self.handle(body)
        if self.after[name]:
            self.after[name].pop(0)()
        assert isinstance(answer, reply)
        return answer

    def handle(self, command: BaseModel) -> BaseModel:
        """What the service answers, and its effect. Raises Refusal, Unavailable."""
        return self._commands[type(command).__name__](command)

    def parcels_of(self, order_id: UUID) -> dict[int, str]:
        """Status of each parcel of an order, by its number."""
        return {number: parcel.status for (owner, number), parcel in self.shipping.parcels.items() if owner == order_id}

    def labels_of(self, order_id: UUID) -> dict[int, str]:
        """The same of those in which its returns come back, by the return's number."""
        return {number: label.status for (owner, number), label in self.shipping.labels.items() if owner == order_id}


def unavailable() -> None:
    """A fault: retried."""
    raise Unavailable("down for a moment")


def refused(code: ErrorCode) -> Fault:
    """A refusal: final."""

    def fault() -> None:
        raise Refusal(code, f"no: {code}")

    return fault
