"""What goes back at the Stripe simulator: refunds and disputes, and the balance that both move."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.stripe_client import Stripe

pytestmark = pytest.mark.asyncio
REFUNDS = "/v1/refunds"
EXPIRED = "expired_or_canceled_card"
DASHBOARD = "charges/order-1/1"
Until = Callable[..., Awaitable[Any]]


async def moves(stripe: Stripe, **filters: str) -> list[tuple[str, int]]:
    return [(moved["type"], moved["amount"]) for moved in await stripe.all("/v1/balance_transactions", **filters)]


async def test_some_and_then_the_rest_goes_back(stripe: Stripe) -> None:
    paid = await stripe.paid()
    first = await stripe.post(REFUNDS, payment_intent=paid["id"], amount=250, metadata={"key": "part"}, reason="duplicate")
    assert (first["status"], first["amount"], first["metadata"], first["reason"]) == (
        "succeeded",
        250,
        {"key": "part"},
        "duplicate",
    )
    charge = await stripe.charge_of(paid)
    assert (charge["amount_refunded"], charge["refunded"]) == (250, False)
    rest = await stripe.post(REFUNDS, charge=charge["id"], expand=["charge", "payment_intent", "balance_transaction"])
    assert (rest["amount"], rest["charge"]["refunded"], rest["balance_transaction"]["amount"]) == (1_000, True, -1_000)
    reply = await stripe.try_post(REFUNDS, payment_intent=paid["id"], amount=1)
    assert reply.refusal == (400, "charge_already_refunded")
    assert await moves(stripe) == [("charge", 12_50), ("refund", -250), ("refund", -1_000)]
    assert await moves(stripe, type="refund", source=first["id"]) == [("refund", -250)]
    assert (await stripe.sums())["net"] == 0
    assert [each["id"] for each in await stripe.all(REFUNDS, payment_intent=paid["id"])] == [first["id"], rest["id"]]
    expanded = await stripe.look(paid, "latest_charge.refunds")
    assert [each["id"] for each in expanded["latest_charge"]["refunds"]["data"]] == [rest["id"], first["id"]]


async def test_no_more_goes_back_than_was_taken(stripe: Stripe) -> None:
    held = await stripe.held()
    assert (await stripe.try_post(REFUNDS, payment_intent=held["id"])).status == 400
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture", amount_to_capture=500, final_capture=False)
    reply = await stripe.try_post(REFUNDS, payment_intent=held["id"], amount=501)
    assert (reply.status, reply.error["param"]) == (400, "amount")
    # What is refunded between two captures is not "refunded" as a whole yet.
    refund = await stripe.post(REFUNDS, payment_intent=held["id"], expand=["charge"])
    assert (refund["amount"], refund["charge"]["refunded"]) == (500, False)
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture", amount_to_capture=0, final_capture=True)
    assert (await stripe.charge_of(held))["refunded"] is True


@pytest.mark.parametrize("which", [{}, {"payment_intent": "pi_1", "charge": "ch_1"}], ids=str)
async def test_one_payment_is_refunded(stripe: Stripe, which: dict[str, str]) -> None:
    assert (await stripe.try_post(REFUNDS, **which)).status == 400


@pytest.mark.parametrize("which", [{"payment_intent": "pi_1"}, {"charge": "ch_1"}], ids=str)
async def test_an_unknown_payment_is_not_refunded(stripe: Stripe, which: dict[str, str]) -> None:
    assert (await stripe.try_post(REFUNDS, **which)).refusal == (404, "resource_missing")


@pytest.mark.parametrize(
    ("card", "first", "then", "failure", "left"),
    [
        ("pm_card_pendingRefund", "pending", "succeeded", None, 200),
        ("pm_sim_refund_pending_fails", "pending", "failed", EXPIRED, 0),
        ("pm_card_refundFail", "succeeded", "failed", EXPIRED, 0),
    ],
)
async def test_a_refund_ends_later(
    stripe: Stripe, until: Until, card: str, first: str, then: str, failure: str | None, left: int
) -> None:
    await stripe.faults(refund_ms=60_000)
    paid = await stripe.paid(card)
    refund = await stripe.post(REFUNDS, payment_intent=paid["id"], amount=200)
    assert (refund["status"], refund.get("pending_reason")) == (first, "processing" if first == "pending" else None)
    assert (await stripe.charge_of(paid))["amount_refunded"] == 200
    await stripe.faults(refund_ms=1)
    other = await stripe.post(REFUNDS, payment_intent=paid["id"], amount=100)

    async def ended() -> Any:
        now = await stripe.get(f"{REFUNDS}/{other['id']}")
        return now if now["status"] == then else None

    ended_refund = await until(ended)
    assert ended_refund.get("failure_reason") == failure
    assert (await stripe.get(f"{REFUNDS}/{refund['id']}"))["status"] == first
    left_of_both = 200 + (100 if then == "succeeded" else 0)
    assert (await stripe.charge_of(paid))["amount_refunded"] == left_of_both
    await stripe.dashboard(f"refunds/{refund['id']}/{'succeed' if then == 'succeeded' else 'fail'}")
    assert (await stripe.charge_of(paid))["amount_refunded"] == left + (100 if then == "succeeded" else 0)


async def test_a_refund_may_fail_days_after_it_succeeded(stripe: Stripe) -> None:
    paid = await stripe.paid()
    refund = await stripe.post(REFUNDS, payment_intent=paid["id"], amount=200)
    for _ in range(2):
        failed = await stripe.dashboard(f"refunds/{refund['id']}/fail")
        assert (failed["status"], failed["failure_reason"]) == ("failed", EXPIRED)
    reply = await stripe.http.post(f"/_dashboard/refunds/{refund['id']}/succeed")
    assert reply.status_code == 400
    assert await moves(stripe) == [("charge", 12_50), ("refund", -200), ("refund_failure", 200)]
    back = await stripe.get(f"/v1/balance_transactions/{failed['failure_balance_transaction']}")
    assert (back["amount"], back["source"]) == (200, refund["id"])
    assert (await stripe.charge_of(paid))["amount_refunded"] == 0
    assert (await stripe.sums())["refunded"] == 0


async def test_a_refused_refund_moves_nothing(stripe: Stripe) -> None:
    paid = await stripe.paid("pm_sim_refund_refused")
    refund = await stripe.post(REFUNDS, payment_intent=paid["id"], amount=200)
    assert (refund["status"], refund["failure_reason"], refund["balance_transaction"]) == ("failed", EXPIRED, None)
    assert await moves(stripe) == [("charge", 12_50)]
    assert (await stripe.charge_of(paid))["amount_refunded"] == 0


async def test_a_refund_of_a_card_cannot_be_called_off(stripe: Stripe) -> None:
    paid = await stripe.paid("pm_card_pendingRefund")
    refund = await stripe.post(REFUNDS, payment_intent=paid["id"])
    assert (await stripe.try_post(f"{REFUNDS}/{refund['id']}/cancel")).status == 400
    assert (await stripe.try_post(f"{REFUNDS}/re_none/cancel")).refusal == (404, "resource_missing")


async def test_a_person_refunds_in_the_dashboard(stripe: Stripe) -> None:
    paid = await stripe.paid()
    refund = await stripe.dashboard(f"{DASHBOARD}/refunds", amount=200, reason="by hand")
    assert (refund["payment_intent"], refund["metadata"], refund["status"]) == (paid["id"], {"note": "by hand"}, "succeeded")
    rest = await stripe.dashboard(f"charges/{paid['id']}/refunds")
    assert rest["amount"] == 10_50
    names = [f"charges/{paid['latest_charge']}", f"charges/{paid['id']}", "charges/order-1%2F1", "charges/nobody"]
    statuses = [(await stripe.http.post(f"/_dashboard/{name}/refunds", json={})).status_code for name in names]
    assert statuses == [400, 400, 400, 404]


# ── Disputes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_disputes_are_decided_once(stripe: Stripe) -> None:
    paid = await stripe.paid()
    first = await stripe.dashboard(f"{DASHBOARD}/disputes", amount=500, reason="fraudulent")
    second = await stripe.dashboard(f"{DASHBOARD}/disputes", amount=300)
    assert (first["status"], first["charge"], first["payment_intent"]) == ("needs_response", paid["latest_charge"], paid["id"])
    for _ in range(2):
        assert (await stripe.dashboard(f"disputes/{first['id']}/win"))["status"] == "won"
    await stripe.dashboard(f"disputes/{second['id']}/lose")
    assert (await stripe.http.post(f"/_dashboard/disputes/{second['id']}/win")).status_code == 400
    assert await moves(stripe, type="adjustment") == [("adjustment", -500), ("adjustment", -300), ("adjustment", 500)]
    shown = await stripe.get(f"/v1/disputes/{first['id']}", expand=["charge", "payment_intent"])
    assert [moved["reporting_category"] for moved in shown["balance_transactions"]] == ["dispute", "dispute_reversal"]
    assert (shown["charge"]["disputed"], shown["payment_intent"]["id"]) == (True, paid["id"])
    totals = await stripe.sums()
    assert (totals["captured"], totals["disputed"]) == (12_50, 300)
    for filters in ({"payment_intent": paid["id"]}, {"charge": paid["latest_charge"]}, {}):
        assert [each["status"] for each in await stripe.all("/v1/disputes", **filters)] == ["won", "lost"]
    assert await stripe.all("/v1/disputes", charge="ch_other") == []


async def test_what_is_disputed_is_not_refunded(stripe: Stripe) -> None:
    paid = await stripe.paid()
    dispute = await stripe.dashboard(f"{DASHBOARD}/disputes", amount=1_000)
    assert (await stripe.try_post(REFUNDS, payment_intent=paid["id"])).refusal == (400, "charge_disputed")
    assert (await stripe.post(REFUNDS, payment_intent=paid["id"], amount=250))["status"] == "succeeded"
    assert (await stripe.http.post(f"/_dashboard/{DASHBOARD}/disputes", json={})).status_code == 400
    await stripe.dashboard(f"disputes/{dispute['id']}/win")
    assert (await stripe.post(REFUNDS, payment_intent=paid["id"]))["amount"] == 1_000


@pytest.mark.parametrize("path", ["refunds/re_1/perhaps", "disputes/dp_1/perhaps", "disputes/dp_1/win", "refunds/re_1/fail"])
async def test_the_dashboard_knows_what_it_can_do(stripe: Stripe, path: str) -> None:
    assert (await stripe.http.post(f"/_dashboard/{path}")).status_code == 404


async def test_the_balance_never_changes_what_it_says(tmp_path: Path, stripe: Stripe) -> None:
    await stripe.paid()
    with sqlite3.connect(tmp_path / "stripe.sqlite") as books:
        for statement in ("UPDATE balance_transactions SET amount = 1", "DELETE FROM balance_transactions"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                books.execute(statement)
