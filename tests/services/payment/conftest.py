"""Payment on a fresh database, with the real provider simulator on a port of its own."""

import asyncio
import contextlib
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx2
import pytest_asyncio
import uvicorn
from pydantic import SecretStr
from sqlmodel import col, select

from audit.books import ChargeRow
from audit.stripe import charge_row, reference_of, was_asked
from chassis.clients import HttpSession, Unavailable
from chassis.clock import utc_now
from chassis.database import Database
from contracts.errors import Refusal
from contracts.money import Money
from contracts.payment_actions import BANK_TRANSFER
from contracts.payments import CapturePayment, ProcessPayment, RefundPayment
from services.payment.adapters import HttpBank, StripePayments, Transfers
from services.payment.app import PaymentSettings, build
from services.payment.model import Account, LedgerEntry, Movement, Payment, TransferAccount, outbox
from services.payment.ports import NewsKind, Opened, ProviderNews
from simulators._service import Simulator as Application
from simulators._webhooks import WebhookTarget
from simulators.bank import app as bank_app
from simulators.stripe.app import Options, create_app, signed_with
from tests.conftest import Databases, TokenMint, eventually, running_api

Answer = TypeVar("Answer")
API_KEY = "test-key"
WEBHOOK_SECRET = "secret-of-the-tests-0123456789"
ACCOUNT = TransferAccount("The Shop", "DE89370400440532013000")
OPENED = Opened("pi_1", 16 * "0")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they belong to pytest


class Company:
    """A simulator: its real application behind a real socket, which may be stopped and started again."""

    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._data_dir = data_dir
        self.url = f"http://127.0.0.1:{self._port}"
        self.http = httpx2.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {API_KEY}"})

    def app(self) -> Application:
        raise NotImplementedError

    async def start(self) -> None:
        config = uvicorn.Config(self.app(), port=self._port, ws="none", log_level="warning", timeout_graceful_shutdown=1)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        await eventually(self._is_up, what="the simulator")

    async def _is_up(self) -> bool:
        return self._server.started

    async def stop(self) -> None:
        await self._server.shutdown()
        self._serving.cancel()  # its loop would see `should_exit` only after a tick

    async def faults(self, **switches: object) -> None:
        (await self.http.post("/_control/faults", json=switches)).raise_for_status()

    async def heal(self) -> None:
        (await self.http.delete("/_control/faults")).raise_for_status()

    async def fault(self, name: str) -> Any:
        return (await self.http.get("/_control/faults")).json()[name]


class Simulator(Company):
    """The card processor."""

    def __init__(self, data_dir: Path, webhook_url: str | None = None) -> None:
        super().__init__(data_dir)
        self._options = Options()
        if webhook_url:
            target = WebhookTarget(url=webhook_url, sign=signed_with(WEBHOOK_SECRET), first_wait=0.02, longest_wait=0.1)
            self._options = Options(webhook=target)

    def app(self) -> Application:
        return create_app(self._data_dir, API_KEY, self._options)

    async def dashboard(self, path: str, **body: object) -> Any:
        """What a person does at the provider."""
        response = await self.http.post(f"/_dashboard/{path}", json=body)
        response.raise_for_status()
        return response.json()

    def control(self, statement: str) -> None:
        """Change the provider's own books, e.g. what becomes of a card's refunds."""
        with sqlite3.connect(self._data_dir / "stripe.sqlite") as books:
            books.execute(statement)

    async def act(self, payment: ProcessPayment, result: str) -> None:
        """The customer says `confirm` or `refuse` on the bank's page."""
        path = f"/_control/3ds/{payment.order_id}-{payment.attempt}"
        (await self.http.post(path, json={"result": result})).raise_for_status()

    async def expire(self, payment: ProcessPayment) -> None:
        """What is held is let go, because its time is up."""
        await self.dashboard(f"charges/{payment.order_id}-{payment.attempt}/expire")

    async def charges(self) -> dict[str, ChargeRow]:
        """What the provider's books say of each charge of which a bank was asked, by reference."""
        found = [row for row in await self.listed("payment_intents", expand="data.latest_charge") if was_asked(row)]
        rows = {reference_of(row): charge_row(row) for row in found}
        assert len(rows) == len(found), "a reference has two charges"
        return rows

    async def listed(self, what: str, *, expand: str | None = None) -> list[dict[str, Any]]:
        """All objects of a kind, the newest first."""
        found: list[dict[str, Any]] = []
        while True:
            params = {"limit": "100"} | ({"expand[]": expand} if expand else {})
            params |= {"starting_after": found[-1]["id"]} if found else {}
            page = (await self.http.get(f"/v1/{what}", params=params)).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    async def totals(self) -> dict[str, Counter[str]]:
        """Everything that ever moved, by currency and kind."""
        ledger = (await self.http.get("/_control/ledger")).json()
        return {
            currency: Counter(
                authorize=sums["authorized"], capture=sums["captured"], void=sums["voided"], refund=sums["refunded"]
            )
            for currency, sums in ledger["currencies"].items()
        }


class BankSimulator(Company):
    """The bank with the shop's account."""

    def app(self) -> Application:
        return bank_app.create_app(self._data_dir, API_KEY, ACCOUNT.iban)

    async def pay(self, amount: str, reference: str | None = None, *, currency: str = "USD", **options: str) -> str:
        """A customer transfers so much; returns the bank's name of the entry. `options`: `text`, `name`, `account`, `iban`."""
        body = {"amount": amount, "currency": currency, **({"reference": reference} if reference else {}), **options}
        response = await self.http.post("/_control/transfers", json=body)
        response.raise_for_status()
        entry: str = response.json()["entry_id"]
        return entry

    async def statement(self) -> bytes:
        """All of the account, as somebody downloads it."""
        response = await self.http.get("/v1/statements")
        response.raise_for_status()
        return response.content


@pytest_asyncio.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    simulator = Simulator(tmp_path)
    await simulator.start()
    yield simulator
    await simulator.http.aclose()
    await simulator.stop()


@pytest_asyncio.fixture
async def bank_simulator(tmp_path: Path) -> AsyncIterator[BankSimulator]:
    simulator = BankSimulator(tmp_path)
    await simulator.start()
    yield simulator
    await simulator.http.aclose()
    await simulator.stop()


@pytest_asyncio.fixture
async def bank(bank_simulator: BankSimulator, http: HttpSession) -> HttpBank:
    """The real adapter, without repetitions of its own."""
    return HttpBank(http, bank_simulator.url, SecretStr(API_KEY), ACCOUNT, retries=0)


@pytest_asyncio.fixture
async def transfers(database: Database) -> Transfers:
    return Transfers(database, ACCOUNT)


@pytest_asyncio.fixture
async def http() -> AsyncIterator[HttpSession]:
    async with HttpSession() as http:
        yield http


@pytest_asyncio.fixture
async def provider(simulator: Simulator, http: HttpSession) -> StripePayments:
    """The real adapter; its breaker and its retries stay out of the way, they have tests of their own."""
    return StripePayments(http, simulator.url, SecretStr(API_KEY), breaker_threshold=1_000_000, retries=0)


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[Database]:
    database = Database(await databases.new("payment"), pool_size=20)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def client(databases: Databases, mint: TokenMint, simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    settings = PaymentSettings(
        database_url=await databases.new("payment"),
        payment_provider_url=simulator.url,
        payment_provider_api_key=SecretStr(API_KEY),
        payment_webhook_secret=SecretStr(WEBHOOK_SECRET),
        bank_recipient=ACCOUNT.recipient,
        bank_iban=ACCOUNT.iban,
    )
    async with running_api(build(settings), mint) as client:
        yield client


RETURN_URL = "https://shop.example/paid"


def pay(
    token: str = "pm_card_visa",
    amount: str = "12.50",
    *,
    currency: str = "USD",
    capture: bool = True,
    return_url: str | None = RETURN_URL,
) -> ProcessPayment:
    return ProcessPayment(
        order_id=uuid4(),
        customer_id=uuid4(),
        amount=Money.model_validate({"amount": amount, "currency": currency}),
        payment_token=token if token == BANK_TRANSFER else f"{token}_{uuid4().hex[:8]}",  # everybody has a card of their own
        ship_to_fingerprint=2 * uuid4().hex,
        capture=capture,
        return_url=return_url,
    )


def capture_of(payment: ProcessPayment) -> CapturePayment:
    return CapturePayment(order_id=payment.order_id, attempt=payment.attempt)


def refund_of(payment: ProcessPayment) -> RefundPayment:
    return RefundPayment(order_id=payment.order_id, attempt=payment.attempt, currency=payment.amount.currency, reason="test")


async def news_of(
    database: Database,
    payment: ProcessPayment,
    kind: str,
    state: str,
    amount: str,
    *,
    movement_id: str | None = None,
    key: str | None = None,
    reason: str | None = None,
    id: str | None = None,
) -> ProviderNews:
    """What the provider's webhook tells of a payment's charge."""
    async with database.reading() as session:
        query = select(Payment.provider_id).where(Payment.order_id == payment.order_id, Payment.attempt == payment.attempt)
        name = (await session.exec(query)).first()
    return ProviderNews(
        id=id or f"evt_{uuid4().hex}",
        kind=NewsKind(kind),
        reference=f"{payment.order_id}-{payment.attempt}",
        charge_id=name or "pi_unknown",
        movement_id=movement_id,
        key=key,
        amount=Money.model_validate({"amount": amount, "currency": payment.amount.currency}),
        state=state,
        occurred_at=utc_now(),
        reason=reason,
    )


async def persist(call: Callable[[], Awaitable[Answer]], *, tries: int = 20) -> Answer | Refusal:
    """Repeat a command until it has a definite answer, as the saga does."""
    for _ in range(tries):
        try:
            return await call()
        except Refusal as refusal:
            return refusal
        except Unavailable:
            continue
    raise AssertionError(f"no definite answer after {tries} tries")


async def events_of(database: Database, order_id: UUID) -> list[dict[str, Any]]:
    async with database.reading() as session:
        table = outbox.table
        rows = await session.execute(select(table.c.envelope).where(table.c.key == str(order_id)).order_by(table.c.seq))
        return [row.envelope for row in rows]


async def event_types(database: Database, order_id: UUID) -> list[str]:
    return [event["type"] for event in await events_of(database, order_id)]


async def movements_of(database: Database, order_id: UUID, *, attempt: int = 1) -> list[Movement]:
    """All of an attempt, oldest first."""
    async with database.reading() as session:
        query = select(Movement).join(Payment).where(Payment.order_id == order_id, Payment.attempt == attempt)
        return list((await session.exec(query.order_by(col(Movement.movement_id)))).all())


async def ledger_of(database: Database, order_id: UUID) -> list[tuple[str, str]]:
    """Kind and amount of every movement that counts, oldest first."""
    return [(row.kind.value, str(row.amount)) for row in await movements_of(database, order_id) if row.counts]


async def assert_books_agree(database: Database, simulator: Simulator) -> dict[str, int]:
    """The provider and we have moved the same money, reference by reference; sums, ledger and events tell the same; nothing is
    unknown. Returns the net of each reference in minor units."""
    async with database.reading() as session:
        payments = {payment.provider_reference: payment for payment in (await session.exec(select(Payment))).all()}
        movements = {row.movement_id: row for row in (await session.exec(select(Movement))).all()}
        entries = (await session.exec(select(LedgerEntry))).all()
        envelopes = [row.envelope for row in await session.execute(select(outbox.table.c.envelope))]
    moved: dict[UUID, Counter[str]] = {}
    totals: dict[str, Counter[str]] = {}
    for row in movements.values():
        assert not row.is_unanswered, f"{row.kind} {row.key}: not known what became of it"
        if row.counts:
            moved.setdefault(row.payment_id, Counter())[row.kind.value] += row.amount_minor
            totals.setdefault(row.currency, Counter())[row.kind.value] += row.amount_minor
    balances: dict[UUID, Counter[Account]] = {}
    for entry in entries:
        of_payment = balances.setdefault(movements[entry.movement_id].payment_id, Counter())
        of_payment[entry.account] += entry.amount_minor
    told: Counter[str] = Counter()
    for envelope in envelopes:
        sign = {"PaymentProcessed": 1, "RefundProcessed": -1}.get(envelope["type"], 0)
        if envelope["type"] == "RefundFailed" and envelope["data"]["was_processed"]:
            sign = 1
        told[envelope["data"]["payment_id"]] += sign * Money.model_validate(envelope["data"]["amount"]).minor
    await simulator.heal()
    theirs = await simulator.charges()
    for reference, charge in theirs.items():
        ours = moved.get(payments[reference].payment_id, Counter())
        assert (ours["capture"], ours["refund"]) == (charge.captured, charge.refunded), reference
    net = {}
    for reference, payment in payments.items():
        ours, ledger = moved.get(payment.payment_id, Counter()), balances.get(payment.payment_id, Counter())
        net[reference] = ours["capture"] - ours["refund"]
        assert net[reference] == told[str(payment.payment_id)], f"events of {reference}"
        assert (payment.captured_minor, payment.refunded_minor, payment.voided_minor) == (
            ours["capture"],
            ours["refund"],
            ours["void"],
        )
        assert ledger[Account.PROVIDER] == net[reference]
        assert ledger[Account.HELD] == payment.held_minor
        assert sum(ledger.values()) == 0
        assert reference in theirs or not ours
    assert totals == await simulator.totals()
    return net
