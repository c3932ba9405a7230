"""Who answers a saga's commands: the model, and the real services with the simulators as their outside companies."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

from pydantic import BaseModel, SecretStr
from sqlalchemy import text
from sqlmodel import select

from chassis.clients import HttpSession
from chassis.clock import utc_now
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal
from contracts.ids import payment_reference
from contracts.inventory import StockLine
from contracts.money import Money
from contracts.orders import PlaceOrder
from contracts.payment_actions import BANK_TRANSFER, ActionKind
from contracts.payments import ProcessPayment
from contracts.shipments import CreateReturnLabel, CreateShipment, Direction, ShipmentStatus
from services.inventory.commands import reservations, returns, warehousing
from services.notification import commands as notification
from services.order import commands as order
from services.payment import commands as payment
from services.payment.adapters import Providers, StripePayments, Transfers
from services.payment.model import Debt, DebtKind, Payment, creditor_reference
from services.payment.ports import Booking
from services.shipping import queries
from services.shipping.adapters import EasyPost
from services.shipping.commands import parcels
from services.shipping.commands.news import apply_carrier_news
from services.shipping.model import rates
from services.shipping.ports import TrackerNews
from services.shipping.sending import Sending
from testing.model import World
from tests.conftest import ADMIN, Databases
from tests.services.payment.conftest import ACCOUNT, Simulator
from tests.services.payment.conftest import API_KEY as PROVIDER_KEY
from tests.services.shipping.conftest import API_KEY as CARRIER_KEY
from tests.services.shipping.conftest import running_carrier
from tests.services.shipping.parcels import shipment_of

WAREHOUSE = "410"
SHELF = {"milk": 1000, "cheese": 1000}


class Party(Protocol):
    """Five services."""

    async def accept(self, order: PlaceOrder) -> None:
        """The order's row, which is there before its saga is."""

    async def handle(self, command: BaseModel) -> BaseModel:
        """The service's reply. Raises Refusal."""

    async def act(self, order_id: UUID, attempt: int, *, confirms: bool) -> None:
        """What the customer does who has to confirm a payment."""

    async def transfer(self, order_id: UUID, amount: Money) -> None:
        """So much comes in at the bank for the order's first attempt to pay, and its payment is told."""

    async def owed(self, order_id: UUID) -> Money:
        """What came in by transfer, and is owed to whoever sent it."""

    async def dispute(self, order_id: UUID) -> None:
        """The customer has the bank take back what was paid with the first attempt."""

    async def decide_dispute(self, order_id: UUID, *, won: bool) -> None:
        """A day later the bank decides whose that is. `won`: by the shop."""

    async def refund_again(self, order_id: UUID, key: str) -> None:
        """Somebody tries a refund of the first attempt again that was refused. Raises Refusal."""

    async def carry(self, order_id: UUID, parcel: int, to: ShipmentStatus) -> None:
        """What the carrier does to a parcel, and tells of it."""

    async def carry_back(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        """The same of a parcel in which a return comes back."""


class Model:
    """The services in memory. What the simulators know cards and addresses by, it is told beforehand."""

    def __init__(self) -> None:
        self._world = World()

    async def accept(self, order: PlaceOrder) -> None:
        self._world.orders.accept(order)

    async def handle(self, command: BaseModel) -> BaseModel:
        if isinstance(command, ProcessPayment):
            self._world.payments.bank.declines = command.payment_token.startswith("pm_card_visa_chargeDeclined")
            self._world.payments.bank.flags = command.payment_token.startswith("pm_card_riskLevelElevated")
            redirects = command.payment_token.startswith("pm_card_authenticationRequired")
            transfers = ActionKind.TRANSFER if command.payment_token == BANK_TRANSFER else None
            self._world.payments.bank.asks = ActionKind.REDIRECT if redirects else transfers
        if isinstance(command, CreateShipment | CreateReturnLabel):
            too_heavy = command.weight_grams > rates.HEAVIEST_GRAMS
            nowhere = (command.ship_to if isinstance(command, CreateShipment) else command.ship_from).city == "Nowhere"
            refuses = ErrorCode.PARCEL_TOO_HEAVY if too_heavy else ErrorCode.ADDRESS_UNDELIVERABLE if nowhere else None
            self._world.shipping.refuses = refuses
        return self._world.handle(command)

    async def act(self, order_id: UUID, attempt: int, *, confirms: bool) -> None:
        self._world.payments.act(order_id, attempt, confirms=confirms)

    async def transfer(self, order_id: UUID, amount: Money) -> None:
        self._world.payments.receive(order_id, 1, amount.minor)

    async def owed(self, order_id: UUID) -> Money:
        payment = self._world.payments.payments[order_id, 1]
        return payment.money(payment.owed_minor)

    async def dispute(self, order_id: UUID) -> None:
        self._world.payments.dispute(order_id, 1)

    async def decide_dispute(self, order_id: UUID, *, won: bool) -> None:
        self._world.payments.decide_dispute(order_id, 1, won=won)

    async def refund_again(self, order_id: UUID, key: str) -> None:
        self._world.payments.refund_again(order_id, 1, key)

    async def carry(self, order_id: UUID, parcel: int, to: ShipmentStatus) -> None:
        assert self._world.shipping.move(order_id, parcel, to)

    async def carry_back(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        assert self._world.shipping.move_label(order_id, number, to)


class RealServices:
    """The services' own commands on PostgreSQL."""

    def __init__(self, databases: dict[str, Database], simulator: Simulator, cards: StripePayments, sending: Sending) -> None:
        self._databases, self._simulator, self.sending = databases, simulator, sending
        self._disputes: dict[UUID, str] = {}
        self._provider = provider = Providers(cards, Transfers(databases["payment"], ACCOUNT))
        self._handlers: dict[str, Callable[[Any], Awaitable[BaseModel]]] = {
            "ReserveInventory": lambda command: reservations.reserve_inventory(databases["inventory"], command),
            "ReleaseInventory": lambda command: reservations.release_inventory(databases["inventory"], command),
            "ShipInventory": lambda command: reservations.ship_inventory(databases["inventory"], command),
            "RestockInventory": lambda command: returns.restock_inventory(databases["inventory"], command),
            "ReceiveReturn": lambda command: returns.receive_return(databases["inventory"], command),
            "ProcessPayment": lambda command: payment.process_payment(databases["payment"], provider, command),
            "CapturePayment": lambda command: payment.capture_payment(databases["payment"], provider, command),
            "RefundPayment": lambda command: payment.refund_payment(databases["payment"], provider, command),
            "GiveBack": lambda command: payment.give_back(databases["payment"], provider, command),
            "ReleaseHold": lambda command: payment.release_hold(databases["payment"], provider, command),
            "CreateShipment": lambda command: parcels.create_shipment(databases["shipping"], sending, command),
            "CancelShipment": lambda command: parcels.cancel_shipment(databases["shipping"], command),
            "CreateReturnLabel": lambda command: parcels.create_return_label(databases["shipping"], sending, command),
            "CancelReturnLabel": lambda command: parcels.cancel_return_label(databases["shipping"], command),
            "AdvanceOrder": lambda command: order.advance_order(databases["order"], command),
            "SendNotification": lambda command: notification.send_notification(databases["notification"], command),
        }

    async def accept(self, placed: PlaceOrder) -> None:
        await order.accept_order(self._databases["order"], placed)

    async def handle(self, command: BaseModel) -> BaseModel:
        return await self._handlers[type(command).__name__](command)

    async def act(self, order_id: UUID, attempt: int, *, confirms: bool) -> None:
        path = f"/_control/3ds/{payment_reference(order_id, attempt)}"
        answer = await self._simulator.http.post(path, json={"result": "confirm" if confirms else "refuse"})
        assert answer.status_code in (200, 400)  # 400: it does not wait for the customer any more

    async def transfer(self, order_id: UUID, amount: Money) -> None:
        database, reference = self._databases["payment"], creditor_reference(payment_reference(order_id, 1))
        booking = Booking(uuid4().hex, amount, True, utc_now(), reference, name="A. Customer", iban="GB33BUKB20201555555555")
        await payment.book(database, [booking])
        await payment.tell_payments(database, self._provider)

    async def owed(self, order_id: UUID) -> Money:
        async with self._databases["payment"].reading() as session:
            debts = (await session.exec(select(Debt).where(Debt.order_id == order_id))).all()
        assert {debt.kind for debt in debts} <= {DebtKind.OVERPAID}
        return sum((debt.amount for debt in debts), Money.zero("USD"))

    async def dispute(self, order_id: UUID) -> None:
        path = f"/_dashboard/charges/{payment_reference(order_id, 1)}/disputes"
        answer = await self._simulator.http.post(path, json={"reason": "fraudulent"})
        assert answer.status_code == 200, answer.text
        self._disputes[order_id] = answer.json()["id"]

    async def decide_dispute(self, order_id: UUID, *, won: bool) -> None:
        path = f"/_dashboard/disputes/{self._disputes[order_id]}/{'win' if won else 'lose'}"
        answer = await self._simulator.http.post(path)
        assert answer.status_code == 200, answer.text
        self._simulator.control("DELETE FROM idempotency_keys")
        await a_day_later(self._databases["payment"])

    async def refund_again(self, order_id: UUID, key: str) -> None:
        database = self._databases["payment"]
        async with database.reading() as session:
            payment_id = (await session.exec(select(Payment.payment_id).where(Payment.order_id == order_id))).one()
        await payment.refund_again(database, self._provider, payment_id, key)

    async def carry(self, order_id: UUID, parcel: int, to: ShipmentStatus) -> None:
        database = self._databases["shipping"]
        shipment = await queries.get_shipment_of_order(database, order_id, parcel)
        if to == ShipmentStatus.DISPATCHED:
            await parcels.dispatch_shipment(database, ADMIN, shipment.shipment_id)
        else:
            await self._tell(shipment.tracking_number, to)

    async def carry_back(self, order_id: UUID, number: int, to: ShipmentStatus) -> None:
        shipment = await shipment_of(self._databases["shipping"], order_id, number, Direction.INBOUND)
        await self._tell(shipment.tracking_number, to)

    async def _tell(self, tracking_number: str | None, to: ShipmentStatus) -> None:
        news = TrackerNews(
            id=f"evt_{uuid4().hex}",
            provider_id=None,
            tracking_number=tracking_number or "",
            status=to,
            word=to.value,
            occurred_at=utc_now(),
        )
        await apply_carrier_news(self._databases["shipping"], news)


@transaction
async def a_day_later(work: UnitOfWork) -> None:
    """What was refused so far was refused a day before."""
    await work.rows(text("update movements set settled_at = settled_at - interval '1 day' where state = 'FAILED'"))


@asynccontextmanager
async def real_services(databases: Databases, directory: Path) -> AsyncIterator[RealServices]:
    """All of them, with stock on the shelf."""
    async with AsyncExitStack() as stack:
        provider = Simulator(directory / "provider")
        (directory / "provider").mkdir()
        await provider.start()
        stack.push_async_callback(provider.stop)
        stack.push_async_callback(provider.http.aclose)
        carrier = await stack.enter_async_context(running_carrier(directory / "carrier"))
        http = await stack.enter_async_context(HttpSession())
        opened = {}
        for name in ("inventory", "payment", "shipping", "order", "notification"):
            opened[name] = Database(await databases.new(name), pool_size=2)
            stack.push_async_callback(opened[name].close)
        services = RealServices(
            opened,
            provider,
            StripePayments(http, provider.url, SecretStr(PROVIDER_KEY)),
            Sending([EasyPost(http, carrier.url, SecretStr(CARRIER_KEY))]),
        )
        await warehousing.put_warehouse(opened["inventory"], ADMIN, WAREHOUSE, WAREHOUSE)
        lines = [StockLine(product_id=product, quantity=quantity) for product, quantity in SHELF.items()]
        key = IdempotencyKey("test", "1", "")
        await warehousing.receive_stock(opened["inventory"], ADMIN, WAREHOUSE, lines, key, reference="test")
        yield services


async def answer(party: Party, command: BaseModel) -> Any:
    """The reply, or the code of the refusal."""
    try:
        return await party.handle(command)
    except Refusal as refusal:
        return refusal.code
