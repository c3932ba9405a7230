"""Order sagas with skipped time on the real services: while one runs, the services' clock is its own, and so is the time at which
an outside company is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, SecretStr
from sqlmodel import col, select
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities import all_activities
from activities.calls import Reply
from audit.books import ChargeRow
from chassis import clock
from chassis.clients import HttpSession, Unavailable
from chassis.database import Database
from chassis.idempotency import IdempotencyKey
from contracts.inventory import StockLine
from contracts.orders import OrderStatus, PlaceOrder
from services.inventory.commands import warehousing
from services.order.commands import tell_of_held_up
from services.order.model import outbox
from services.payment.adapters import StripePayments
from services.payment.ports import ChargeRequest, ProviderCharge
from services.shipping.adapters import EasyPost, OwnFleet
from services.shipping.commands import refunds
from services.shipping.model import Package, Shipment
from services.shipping.ports import Carrier, Label, Rate
from services.shipping.sending import Sending
from temporal.refusals import RefusalInterceptor
from testing.sagas import Saga
from tests.conftest import ADMIN, Databases, eventually
from tests.contract.parties import SHELF, WAREHOUSE, RealServices
from tests.services.payment.conftest import API_KEY as PROVIDER_KEY
from tests.services.payment.conftest import Simulator
from tests.services.shipping.conftest import API_KEY as CARRIER_KEY
from tests.services.shipping.conftest import CarrierSimulator, running_carrier
from worker import SANDBOX, WORKFLOWS

SERVICES = ("inventory", "payment", "shipping", "order", "notification")
COMPANIES = ("cards", "carrier")
SIX_HOURS = timedelta(hours=6)
EAGER, A_WHILE = 12, timedelta(minutes=15)
"""After so many tries in vain, a step is tried again this much later, and not after a minute: each try takes the test's time."""
PATIENCE = timedelta(minutes=10)
"""Who waits for an order for so long is told that it takes longer."""
NEVER = 1_000_000
"""Breakers wait in real time, which is no time here; they have tests of their own."""
Faults = Callable[..., Awaitable[None]]


class Clock(datetime):
    """The services', as far ahead as it was set."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.ahead

    @classmethod
    def set(cls, at: datetime) -> None:
        cls.ahead = at - datetime.now(UTC)


class CutOffPayments(StripePayments):
    """The card processor goes away in the moment in which it charges: it has done that, and its answer is lost."""

    def __init__(self, *arguments: Any, faults: Faults, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._faults, self._is_there = faults, True

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        if self._is_there:
            self._is_there = False
            await self._faults(lose_replies_next=1)
        return await super().charge(provider_id, request)


class CutOffCarrier(EasyPost):
    """The same of the carrier when it sells a label."""

    def __init__(self, *arguments: Any, faults: Faults, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._faults, self._is_there = faults, True

    async def buy(self, provider_id: str, rate: Rate) -> Label:
        if self._is_there:
            self._is_there = False
            await self._faults(lose_replies_next=1)
        return await super().buy(provider_id, rate)


@dataclass(frozen=True)
class Plot:
    """What happens to one order."""

    away: str
    """`cards` or `carrier`: who is away."""
    cut_off: bool = False
    """Away from the moment on in which it did what was asked, and not before; its answer is lost."""
    tariff: bool = False
    """Our own vans may carry the parcel instead."""
    lasts: timedelta = SIX_HOURS
    order: dict[str, Any] = field(default_factory=dict)
    """More fields of it."""


UNDISTURBED = Plot("nobody")


@dataclass
class Shop:
    """Real services with the simulators of their companies, for many orders at a time."""

    databases: dict[str, Database]
    cards: Simulator
    carrier: CarrierSimulator
    http: HttpSession
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One call at a time: clock and companies are as they are for the order that it is about."""
    _away: dict[str, bool] = field(default_factory=dict)

    async def is_away(self, company: str, away: bool) -> None:
        """From now on a company answers nobody, or everybody."""
        if self._away.get(company, False) != away:
            await self._faults_of(company)(down=away)
            self._away[company] = away

    async def books(self, order_id: UUID, at: datetime) -> tuple[list[ChargeRow], list[dict[str, Any]], list[Package]]:
        """Of an order: what the card processor has charged, what the carrier has sold, and our own packages, once the money of
        labels that are not needed was asked for. `at`: when that is; the clock is elsewhere, with whichever order was last."""
        async with self._lock:
            Clock.set(at)
            for company in COMPANIES:
                await self.is_away(company, False)
            for _ in range(2):
                await refunds.settle_refunds(self.databases["shipping"], self.services_for(UNDISTURBED).sending)
            charged = [row for name, row in (await self.cards.charges()).items() if name.startswith(str(order_id))]
            async with self.databases["shipping"].reading() as session:
                packages = await session.exec(select(Package).join(Shipment).where(col(Shipment.order_id) == order_id))
            return charged, await self.carrier.labels(order_id), list(packages.all())

    async def told(self, order_id: UUID) -> list[str]:
        """The types of the events that the order service has told of an order."""
        async with self.databases["order"].reading() as session:
            envelopes = await session.exec(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))
            return [envelope["type"] for envelope in envelopes if envelope["partitionkey"] == str(order_id)]

    def _faults_of(self, company: str) -> Faults:
        return self.cards.faults if company == "cards" else self.carrier.faults

    def services_for(self, plot: Plot) -> RealServices:
        cuts_off = plot.away if plot.cut_off else None
        provider, key = self.cards.url, SecretStr(PROVIDER_KEY)
        cards = StripePayments(self.http, provider, key, breaker_threshold=NEVER, retries=0)
        if cuts_off == "cards":
            cards = CutOffPayments(self.http, provider, key, faults=self.cards.faults, breaker_threshold=NEVER, retries=0)
        url, key = self.carrier.url, SecretStr(CARRIER_KEY)
        carrier = EasyPost(self.http, url, key, breaker_threshold=NEVER)
        if cuts_off == "carrier":
            carrier = CutOffCarrier(self.http, url, key, faults=self.carrier.faults, breaker_threshold=NEVER)
        carriers: list[Carrier] = [carrier, *([OwnFleet()] if plot.tariff else [])]
        return RealServices(self.databases, self.cards, cards, Sending(carriers))


class Calls:
    """An order's calls of the services: at its own time, and while its plot wants it, without one of the companies."""

    def __init__(self, shop: Shop, plot: Plot, order: PlaceOrder) -> None:
        self._shop, self._plot, self._services = shop, plot, shop.services_for(plot)
        self._goes_away: datetime | None = None
        if not plot.cut_off and not order.needs_review:
            self._goes_away = order.placed_at
        self.tried: list[tuple[str, datetime]] = []
        """Each command that was not answered, and when."""

    def goes_away(self) -> None:
        """The company, from now on."""
        self._goes_away = datetime.now(UTC)

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Answer a call; see `activities.calls.Calls`."""
        at = activity.info().current_attempt_scheduled_time
        async with self._shop._lock:
            Clock.set(at)
            await tell_of_held_up(self._shop.databases["order"], PATIENCE)
            is_away = self._goes_away is not None and at < self._goes_away + self._plot.lasts
            for company in COMPANIES:
                await self._shop.is_away(company, is_away and company == self._plot.away)
            try:
                answer = await self._services.handle(body)
            except Unavailable as fault:
                self.tried.append((type(body).__name__, at))
                if self._goes_away is None:
                    self._goes_away = at  # an answer was lost
                if len(self.tried) < EAGER:
                    raise
                raise ApplicationError(str(fault), next_retry_delay=A_WHILE) from None
            assert isinstance(answer, reply)
            return answer


@asynccontextmanager
async def open_shop(databases: Databases, directory: Path) -> AsyncIterator[Shop]:
    """With stock on the shelf. The services' clock can be set while it is open."""
    async with AsyncExitStack() as stack:
        (directory / "cards").mkdir()
        cards = Simulator(directory / "cards")
        await cards.start()
        stack.push_async_callback(cards.stop)
        stack.push_async_callback(cards.http.aclose)
        carrier = await stack.enter_async_context(running_carrier(directory / "carrier"))
        http = await stack.enter_async_context(HttpSession())
        opened = {}
        for name in SERVICES:
            opened[name] = Database(await databases.new(name), pool_size=2)
            stack.push_async_callback(opened[name].close)
        await warehousing.put_warehouse(opened["inventory"], ADMIN, WAREHOUSE, WAREHOUSE)
        lines = [StockLine(product_id=product, quantity=quantity) for product, quantity in SHELF.items()]
        await warehousing.receive_stock(
            opened["inventory"], ADMIN, WAREHOUSE, lines, IdempotencyKey("test", "1", ""), reference="test"
        )
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(clock, "datetime", Clock)
        yield Shop(opened, cards, carrier, http)


class OutlastingSaga(Saga):
    """One order's saga, for who waits for what it says."""

    async def reaches(self, status: OrderStatus) -> None:
        async def is_there() -> bool:
            return (await self.state()).status == status

        await eventually(is_there, what=f"status {status}")

    async def waits(self, hours: int) -> None:
        """So long; hour by hour, because Temporal skips so many times only before it stops of itself."""
        with suppress(RPCError):  # it has ended
            for _ in range(hours):
                await self.env.fast_forward(self.handle, timedelta(hours=1))

    async def says(self, words: str) -> None:
        async def is_said() -> bool:
            return any(words in entry["what"] for entry in await self.handle.query("timeline"))

        await eventually(is_said, what=words)


@asynccontextmanager
async def playing(
    env: WorkflowEnvironment, shop: Shop, plot: Plot, order: PlaceOrder
) -> AsyncIterator[tuple[OutlastingSaga, Calls]]:
    """The order's saga; a worker runs inside."""
    calls = Calls(shop, plot, order)
    async with shop._lock:
        await calls._services.accept(order)
    queue = f"orders-{uuid4()}"
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=WORKFLOWS,
        activities=all_activities(lambda service: calls),
        interceptors=[RefusalInterceptor()],
        workflow_runner=SANDBOX,
        max_cached_workflows=10,
    ):
        yield OutlastingSaga(env, queue, order), calls
