"""The audit of a small platform: right books are right, each falsified one is seen, and what moves is waited for."""

import asyncio
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from rich.console import Console

from audit import AuditReport, AuditSettings, command, run_audit
from audit.books import LISTENERS, Source
from audit.report import CLEAN, UNREADABLE, VIOLATED
from contracts.errors import ErrorCode
from contracts.orders import OrderStatus
from embedded.ports import free_port
from services.analytics import consumers as analytics_consumers
from services.notification import consumers as notification_consumers
from services.notification.commands import Staff
from services.order import consumers as order_consumers
from services.payment import consumers as payment_consumers
from services.shipping import consumers as shipping_consumers
from temporal.client import TemporalSettings
from temporal.orders import OrderSagas
from temporal.returns import ReturnSagas
from tests.audit.conftest import PATIENCE, Shop, place_order
from tests.audit.tampering import long_ago, tamperings, tamperings_of_codes, tamperings_of_the_forgotten
from tests.conftest import eventually

RUN = "import sys, typer; from audit import audit_command; app = typer.Typer(); app.command()(audit_command); app()"


def test_the_auditor_expects_an_effect_of_just_those_events_that_the_services_listen_to() -> None:
    subscriptions = {
        Source.ORDER: order_consumers.subscription(OrderSagas(TemporalSettings()), ReturnSagas(TemporalSettings())),
        Source.NOTIFICATION: notification_consumers.subscription(Staff()),
        Source.PAYMENT: payment_consumers.subscription,
        Source.SHIPPING: shipping_consumers.subscription,
        Source.ANALYTICS: analytics_consumers.subscription,
    }
    # By name: a service may read less of an event than its contract says, in a class of its own.
    heard = {listener: {kind.__name__ for kind in subscription.kinds} for listener, subscription in subscriptions.items()}
    assert heard == {listener: {kind.__name__ for kind in kinds} for listener, kinds in LISTENERS.items()}
    for listener, subscription in subscriptions.items():
        assert {kind.topic for kind in LISTENERS[listener]} <= set(subscription.topics)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAUSE_S", 0.05)


class Played:
    """Orders of every kind at rest."""

    confirmed: UUID
    cancelled: UUID
    forgotten: UUID


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(shop: Shop) -> Played:
    played = Played()
    played.confirmed, outcome = await shop.place()
    assert outcome.status == OrderStatus.CONFIRMED
    played.cancelled, _ = await shop.place()
    await shop.cancel(played.cancelled)
    _, declined = await shop.place("pm_card_visa_chargeDeclined")
    assert declined.code == ErrorCode.PAYMENT_DECLINED
    _, held = await shop.place("pm_card_riskLevelElevated")
    assert held.status == OrderStatus.IN_REVIEW
    lost, outcome = await shop.place("pm_sim_lost_reply")
    assert outcome.status == OrderStatus.CONFIRMED
    shipped, _ = await shop.place()
    mislaid, _ = await shop.place()
    for order_id in (lost, shipped, mislaid):
        await shop.dispatch(order_id)
    await shop.deliver(lost)
    await shop.hear(mislaid, "lost")
    played.forgotten = await shop.forget_somebody()
    await settled(shop)
    return played


async def settled(shop: Shop) -> AuditReport:
    """Send what is queued and spread what is new, until nothing moves."""
    await shop.send_messages()
    await shop.give_labels_back()
    report = await run_audit(AuditSettings.of(shop.env))

    async def at_rest() -> bool:
        nonlocal report
        await shop.spread_news()
        await shop.channels.hear()
        report = await run_audit(AuditSettings.of(shop.env))
        return not report.in_flight

    await eventually(at_rest, what="nothing in flight")
    return report


NO_TRANSFERS = ("credits_agree", "debits_agree", "transfers_add_up", "rest_is_owed")
"""Nobody paid by transfer here."""


async def test_right_books_are_right(shop: Shop, played: Played) -> None:
    report = await run_audit(AuditSettings.of(shop.env), wait_s=20)
    assert report.violations == []
    assert list(report.in_flight) == []
    assert report.exit_code == CLEAN
    assert report.read["orders"] == report.read["workflows"] == 8
    nothing_went_wrong = {
        "settles",
        "dead_letters_are_settled",
        "nobody_waits_in_vain",
        "disputes_agree",
        "what_failed_is_owed",
        *NO_TRANSFERS,
    }
    nothing_came_back = {
        *("no_more_back_than_shipped", "returns_were_received", "label_fits", "labels_agree"),
        *("returns_gave_back", "return_refunds_have_returns", "reports_know_each_return"),
    }
    assert {result.code for result in report.rules if not result.compared} == nothing_went_wrong | nothing_came_back
    assert not [result.code for result in report.rules if result.skipped]


async def test_each_falsified_book_is_seen(shop: Shop, played: Played) -> None:
    settings = AuditSettings.of(shop.env)
    orders = {"confirmed": played.confirmed, "cancelled": played.cancelled}
    for tampering in [*tamperings(shop.env, **orders), *tamperings_of_codes(shop.env, **orders)]:
        async with tampering.done():
            report = await run_audit(settings)
        assert tampering.rules <= report.violated, tampering.name
        assert report.exit_code == VIOLATED
    report = await run_audit(settings)
    assert report.violations == []


async def test_whatever_is_left_of_a_customer_who_was_forgotten_long_ago_is_seen(shop: Shop, played: Played) -> None:
    settings = AuditSettings.of(shop.env)
    async with long_ago(shop.env, played.forgotten):
        assert (await run_audit(settings)).violations == []
        for tampering in tamperings_of_the_forgotten(shop.env, played.forgotten):
            async with tampering.done():
                report = await run_audit(settings)
            assert tampering.rules == report.violated, tampering.name


async def test_a_violation_is_told_with_its_order_and_both_values(shop: Shop, played: Played) -> None:
    tampering = next(
        each
        for each in tamperings(shop.env, confirmed=played.confirmed, cancelled=played.cancelled)
        if "never refunded" in each.name
    )
    async with tampering.done():
        report = await run_audit(AuditSettings.of(shop.env))
    output = io.StringIO()
    report.print(Console(file=output, width=200))
    line = next(line for line in output.getvalue().splitlines() if "money_at_the_provider" in line)
    assert str(played.cancelled) in line
    assert "expected 0.00 USD, found 23.40 USD" in line


async def test_what_cannot_be_read_is_said(shop: Shop, played: Played) -> None:
    report = await run_audit(AuditSettings.of(shop.env | {"CARRIER_URL": f"http://127.0.0.1:{free_port()}"}))
    assert report.exit_code == UNREADABLE
    assert set(report.unreadable) == {Source.CARRIER}
    skipped = {result.code for result in report.rules if result.skipped}
    assert skipped == {"parcel_fits", "parcels_agree", "labels_agree", "labels_are_given_back", "nothing_without_an_order"}
    output = io.StringIO()
    report.print(Console(file=output, width=200))
    assert "Could not read carrier" in output.getvalue()


async def test_an_order_that_moves_is_in_flight_and_one_that_gets_nowhere_a_violation(shop: Shop, played: Played) -> None:
    await shop.control("PAYMENT_PROVIDER_URL", "/_control/faults", {"fail_next": 60_000})
    order = place_order(shop.customer_id, "pm_card_visa")
    await shop.accept(order)
    try:
        assert await shop.sagas.place(order, "place", timedelta(seconds=1)) is None
        await shop.spread_news()
        blind = AuditSettings.of(shop.env | {"PAYMENT_PROVIDER_URL": f"http://127.0.0.1:{free_port()}"})
        report = await run_audit(blind)
        assert report.violations == []
        assert order.order_id in {item.order_id for item in report.in_flight}
        report = await run_audit(blind, wait_s=0.5)
        assert {(violation.rule, violation.order_id) for violation in report.violations} == {("settles", order.order_id)}
    finally:
        await shop.control("PAYMENT_PROVIDER_URL", "/_control/faults", {"fail_next": 0})
    outcome = await shop.sagas.place(order, "place", PATIENCE)
    assert outcome is not None
    assert outcome.status == OrderStatus.CONFIRMED
    assert (await settled(shop)).violations == []


async def test_the_command_tells_by_its_exit_code(shop: Shop, played: Played, tmp_path: Path) -> None:
    reply = await _run(shop.env, "--json", "--data", str(tmp_path))
    assert reply.returncode == CLEAN, reply.stderr
    report = json.loads(reply.stdout)
    assert report["exit_code"] == CLEAN
    assert {rule["code"]: rule["violations"] for rule in report["rules"]}["ledgers_agree"] == []
    first = tamperings(shop.env, confirmed=played.confirmed, cancelled=played.cancelled)[0]
    async with first.done():
        reply = await _run(shop.env, "--data", str(tmp_path))
    assert reply.returncode == VIOLATED
    assert str(played.confirmed) in reply.stdout
    reply = await _run({}, "--data", str(tmp_path))
    assert reply.returncode == UNREADABLE
    assert "DATABASE_URL_ORDER" in reply.stderr


async def _run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", RUN, *arguments],
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
