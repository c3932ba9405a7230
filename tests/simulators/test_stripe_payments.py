"""Payments at the Stripe simulator: what each card does, what is held, captured and let go, and what customers confirm."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.simulators.stripe_client import Reply, Stripe

pytestmark = pytest.mark.asyncio
INTENTS = "/v1/payment_intents"


def of(intent: dict[str, object]) -> tuple[object, ...]:
    return intent["status"], intent["amount_capturable"], intent["amount_received"]


async def test_a_payment_is_known_before_a_bank_is_asked(stripe: Stripe) -> None:
    intent = await stripe.intent(None)
    assert of(intent) == ("requires_payment_method", 0, 0)
    known = await stripe.intent(expand=["payment_method"])
    assert of(known) == ("requires_confirmation", 0, 0)
    assert known["payment_method"]["card"]["brand"] == "visa"
    assert await stripe.all("/v1/charges") == []
    assert await stripe.sums() is None


async def test_confirmed_it_is_paid(stripe: Stripe) -> None:
    paid = await stripe.paid()
    assert of(paid) == ("succeeded", 0, 12_50)
    charge = await stripe.charge_of(paid)
    assert (charge["captured"], charge["amount_captured"], charge["paid"], charge["refunded"]) == (True, 12_50, True, False)
    assert (charge["outcome"]["type"], charge["outcome"]["risk_level"]) == ("authorized", "normal")
    assert charge["metadata"] == {"reference": "order-1/1"}
    assert "capture_before" not in charge["payment_method_details"]["card"]
    [moved] = await stripe.all("/v1/balance_transactions")
    assert (moved["type"], moved["amount"], moved["source"]) == ("charge", 12_50, charge["id"])
    assert (await stripe.sums())["captured"] == 12_50


async def test_one_request_makes_and_confirms(stripe: Stripe) -> None:
    params: dict[str, Any] = {"amount": 500, "currency": "USD", "confirm": True, "payment_method": "pm_card_mastercard"}
    paid = await stripe.post(INTENTS, **params)
    assert (paid["status"], paid["currency"]) == ("succeeded", "usd")


@pytest.mark.parametrize(
    ("card", "code", "decline_code", "outcome"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline", "issuer_declined"),
        ("pm_card_chargeDeclined", "card_declined", "generic_decline", "issuer_declined"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds", "issuer_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds", "issuer_declined"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card", "issuer_declined"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc", "issuer_declined"),
        ("pm_card_radarBlock", "card_declined", "fraudulent", "blocked"),
        ("pm_card_visa_chargeDeclined_of_ann", "card_declined", "generic_decline", "issuer_declined"),
    ],
)
async def test_declined(stripe: Stripe, card: str, code: str, decline_code: str, outcome: str) -> None:
    intent = await stripe.intent(card)
    reply = await stripe.confirm(intent)
    assert (*reply.refusal, reply.error["type"], reply.error["decline_code"]) == (402, code, "card_error", decline_code)
    now = await stripe.look(intent, "latest_charge")
    assert reply.error["payment_intent"]["id"] == intent["id"]
    assert (of(now), now["payment_method"]) == (("requires_payment_method", 0, 0), None)
    assert now["last_payment_error"]["decline_code"] == decline_code
    assert (now["latest_charge"]["status"], now["latest_charge"]["outcome"]["type"]) == ("failed", outcome)
    assert await stripe.sums() is None
    # Another card pays the same intent.
    again = await stripe.confirm(intent, payment_method="pm_card_visa")
    assert (again.body["status"], again.body["last_payment_error"]) == ("succeeded", None)


@pytest.mark.parametrize("card", ["pm_card_visas", "4242424242424242", "pm_nobody", "pm_card_visa" + "_x" * 200])
async def test_an_unknown_card_is_no_payment(stripe: Stripe, card: str) -> None:
    params: dict[str, Any] = {"amount": 500, "currency": "eur"}
    reply = await stripe.try_post(INTENTS, **params, payment_method=card)
    assert (*reply.refusal, reply.error["param"]) == (400, "resource_missing", "payment_method")
    intent = await stripe.intent(None)
    assert (await stripe.confirm(intent, payment_method=card)).refusal == (400, "resource_missing")
    assert of(await stripe.look(intent)) == ("requires_payment_method", 0, 0)
    assert len(await stripe.all(INTENTS)) == 1


@pytest.mark.parametrize("capture_method", ["automatic", "manual"])
async def test_elevated_risk_is_marked_for_a_review(stripe: Stripe, capture_method: str) -> None:
    intent = await stripe.intent("pm_card_riskLevelElevated", capture_method=capture_method)
    confirmed = (await stripe.confirm(intent, expand=["latest_charge"])).body
    assert confirmed["status"] == ("succeeded" if capture_method == "automatic" else "requires_capture")
    outcome = confirmed["latest_charge"]["outcome"]
    assert (outcome["type"], outcome["risk_level"]) == ("manual_review", "elevated")


# ── What is held ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_held_is_captured_once(stripe: Stripe) -> None:
    held = await stripe.held()
    assert of(held) == ("requires_capture", 12_50, 0)
    charge = await stripe.charge_of(held)
    assert (charge["captured"], charge["balance_transaction"]) == (False, None)
    assert charge["payment_method_details"]["card"]["capture_before"] - charge["created"] == 7 * 86_400
    captured = await stripe.post(f"{INTENTS}/{held['id']}/capture", expand=["latest_charge.balance_transaction"])
    assert of(captured) == ("succeeded", 0, 12_50)
    assert captured["latest_charge"]["balance_transaction"]["net"] == 12_50
    again = await stripe.try_post(f"{INTENTS}/{held['id']}/capture")
    assert again.refusal == (400, "payment_intent_unexpected_state")
    assert again.error["payment_intent"]["status"] == "succeeded"
    assert await stripe.sums() == {
        "authorized": 12_50,
        "captured": 12_50,
        "voided": 0,
        "refunded": 0,
        "disputed": 0,
        "net": 12_50,
    }


async def test_the_capture_method_may_be_said_when_it_is_confirmed(stripe: Stripe) -> None:
    held = await stripe.confirm(await stripe.intent(), capture_method="manual")
    assert (held.body["status"], held.body["capture_method"]) == ("requires_capture", "manual")


async def test_what_is_not_captured_is_let_go(stripe: Stripe) -> None:
    held = await stripe.held()
    captured = await stripe.post(f"{INTENTS}/{held['id']}/capture", amount_to_capture=1_000)
    assert of(captured) == ("succeeded", 0, 1_000)
    charge = await stripe.charge_of(held)
    assert (charge["amount"], charge["amount_captured"], charge["amount_refunded"]) == (12_50, 1_000, 0)
    assert (await stripe.sums())["voided"] == 2_50


async def test_parcels_are_captured_one_by_one(stripe: Stripe) -> None:
    held = await stripe.held()
    capture = f"{INTENTS}/{held['id']}/capture"
    assert of(await stripe.post(capture, amount_to_capture=500, final_capture=False)) == ("requires_capture", 7_50, 500)
    charge = await stripe.charge_of(held)
    assert (charge["captured"], charge["amount_captured"]) == (False, 500)
    assert charge["payment_method_details"]["card"]["multicapture"]["status"] == "available"
    too_large = await stripe.try_post(capture, amount_to_capture=7_51)
    assert (*too_large.refusal, too_large.error["param"]) == (400, "amount_too_large", "amount_to_capture")
    assert of(await stripe.post(capture, amount_to_capture=500, final_capture=False)) == ("requires_capture", 2_50, 1_000)
    # Nothing more is wanted: the rest goes back to the customer.
    assert of(await stripe.post(capture, amount_to_capture=0, final_capture=True)) == ("succeeded", 0, 1_000)
    assert [moved["amount"] for moved in await stripe.all("/v1/balance_transactions")] == [500, 500]
    assert (await stripe.charge_of(held))["captured"] is True


async def test_nothing_is_no_first_capture(stripe: Stripe) -> None:
    held = await stripe.held()
    for final in (True, False):
        reply = await stripe.try_post(f"{INTENTS}/{held['id']}/capture", amount_to_capture=0, final_capture=final)
        assert reply.refusal == (400, "parameter_invalid_integer")
    assert of(await stripe.look(held)) == ("requires_capture", 12_50, 0)


async def test_the_last_of_fifty_captures_is_final(stripe: Stripe) -> None:
    held = await stripe.held()
    capture = f"{INTENTS}/{held['id']}/capture"
    for _ in range(49):
        await stripe.post(capture, amount_to_capture=1, final_capture=False)
    assert (await stripe.try_post(capture, amount_to_capture=1, final_capture=False)).status == 400
    assert of(await stripe.post(capture, amount_to_capture=1)) == ("succeeded", 0, 50)


async def test_without_asking_there_is_one_capture(stripe: Stripe) -> None:
    intent = await stripe.intent(capture_method="manual")
    held = (await stripe.confirm(intent, expand=["latest_charge"])).body
    assert held["latest_charge"]["payment_method_details"]["card"]["multicapture"]["status"] == "unavailable"
    reply = await stripe.try_post(f"{INTENTS}/{intent['id']}/capture", amount_to_capture=500, final_capture=False)
    assert (reply.status, reply.error["param"]) == (400, "final_capture")
    assert of(await stripe.look(intent)) == ("requires_capture", 12_50, 0)


async def test_cancelled_it_is_let_go_for_good(stripe: Stripe) -> None:
    held = await stripe.held()
    canceled = await stripe.post(f"{INTENTS}/{held['id']}/cancel", cancellation_reason="abandoned")
    assert (of(canceled), canceled["cancellation_reason"]) == (("canceled", 0, 0), "abandoned")
    for path in ("confirm", "capture", "cancel"):
        reply = await stripe.try_post(f"{INTENTS}/{held['id']}/{path}")
        assert reply.refusal == (400, "payment_intent_unexpected_state")
        assert reply.error["payment_intent"]["status"] == "canceled"
    assert (await stripe.sums())["voided"] == 12_50


@pytest.mark.parametrize("card", [None, "pm_card_visa", "pm_card_authenticationRequired"])
async def test_a_payment_that_was_not_made_can_be_forbidden(stripe: Stripe, card: str | None) -> None:
    intent = await stripe.intent(card)
    if card == "pm_card_authenticationRequired":
        await stripe.confirm(intent, return_url="https://shop.example/back")
    assert (await stripe.post(f"{INTENTS}/{intent['id']}/cancel"))["status"] == "canceled"
    late = await stripe.confirm(intent, payment_method="pm_card_visa")
    assert late.refusal == (400, "payment_intent_unexpected_state")
    assert await stripe.sums() is None


async def test_what_is_paid_cannot_be_cancelled(stripe: Stripe) -> None:
    paid = await stripe.paid()
    reply = await stripe.try_post(f"{INTENTS}/{paid['id']}/cancel")
    assert reply.refusal == (400, "payment_intent_unexpected_state")
    assert (await stripe.confirm(paid)).refusal == (400, "payment_intent_unexpected_state")


async def test_cancelled_after_some_captures_it_has_succeeded(stripe: Stripe) -> None:
    held = await stripe.held()
    await stripe.post(f"{INTENTS}/{held['id']}/capture", amount_to_capture=500, final_capture=False)
    assert of(await stripe.post(f"{INTENTS}/{held['id']}/cancel")) == ("succeeded", 0, 500)


async def test_many_confirmations_at_once_are_one_charge(stripe: Stripe) -> None:
    intent = await stripe.intent()
    replies = await asyncio.gather(*(stripe.confirm(intent, key=f"key-{number}") for number in range(20)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 19
    assert len(await stripe.all("/v1/charges")) == 1
    totals = await stripe.totals()
    assert (totals["references"], totals["attempts"], totals["by_status"]) == (1, 20, {"succeeded": 1})
    attempts = await stripe.http.get("/_control/attempts/order-1%2F1")
    assert attempts.json() == {"attempts": 20}


# ── Customers and what they pay with ─────────────────────────────────────────────────────────────────────────────────────


async def test_each_use_of_a_test_card_is_a_new_payment_method_of_the_same_card(stripe: Stripe) -> None:
    cards = ["pm_card_visa", "pm_card_visa", "pm_card_visa_7", "pm_card_mastercard"]
    methods = [(await stripe.intent(card, expand=["payment_method"]))["payment_method"] for card in cards]
    assert len({method["id"] for method in methods}) == 4
    prints = [method["card"]["fingerprint"] for method in methods]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    charge = await stripe.charge_of(await stripe.paid())
    assert charge["payment_method_details"]["card"]["fingerprint"] == prints[0]


async def test_a_payment_method_of_nobody_is_used_once(stripe: Stripe) -> None:
    address = {"line1": "1 Main Street", "city": "Springfield", "country": "US"}
    details = {"name": "Ann", "address": address}
    method = await stripe.post("/v1/payment_methods", type="card", card={"token": "tok_visa"}, billing_details=details)
    assert await stripe.get(f"/v1/payment_methods/{method['id']}") == method
    assert method["billing_details"]["address"]["city"] == "Springfield"
    paid = await stripe.paid(method["id"])
    assert (await stripe.charge_of(paid))["billing_details"]["name"] == "Ann"
    reply = await stripe.try_post(INTENTS, amount=500, currency="eur", payment_method=method["id"])
    assert (reply.status, reply.error["param"]) == (400, "payment_method")
    assert "may not be used again" in reply.error["message"]


async def test_a_payment_method_of_a_customer_is_used_again(stripe: Stripe) -> None:
    ann = await stripe.post("/v1/customers", email="ann@example.com", metadata={"customer_id": "1"})
    bob = await stripe.post("/v1/customers", name="Bob")
    assert await stripe.get(f"/v1/customers/{ann['id']}") == ann
    intent = await stripe.intent(customer=ann["id"], setup_future_usage="off_session")
    method = (await stripe.confirm(intent)).body["payment_method"]
    [kept] = await stripe.all("/v1/payment_methods", customer=ann["id"], type="card")
    assert kept["id"] == method
    params: dict[str, Any] = {"amount": 500, "currency": "eur", "confirm": True, "off_session": True, "payment_method": method}
    again = await stripe.post(INTENTS, **params, customer=ann["id"])
    assert (again["status"], again["payment_method"]) == ("succeeded", method)
    assert (await stripe.try_post(INTENTS, **params)).status == 400
    assert (await stripe.try_post(INTENTS, **params, customer=bob["id"])).refusal == (400, "resource_missing")
    unknown = await stripe.try_post(INTENTS, **params, customer="cus_nobody")
    assert (*unknown.refusal, unknown.error["param"]) == (400, "resource_missing", "customer")


async def test_no_card_number_is_taken(stripe: Stripe) -> None:
    number = {"number": "4242424242424242", "exp_month": 1, "exp_year": 2030, "cvc": "123"}
    reply = await stripe.try_post("/v1/payment_methods", type="card", card=number)
    assert (reply.status, reply.error["param"]) == (400, "card[number]")
    assert "4242" not in str(reply.body)
    assert (await stripe.try_post("/v1/payment_methods", type="card", card={"token": "tok_none"})).status == 400
    assert await stripe.all("/v1/payment_methods") == []


# ── What the customer has to confirm at the bank ─────────────────────────────────────────────────────────────────────────

ASKS = "pm_card_authenticationRequired"
BACK = "https://shop.example/orders/1?tab=pay"


async def asked(stripe: Stripe, card: str = ASKS, **more: Any) -> tuple[dict[str, object], str]:
    """A payment that waits for its customer, and where that is done."""
    reply = await stripe.confirm(await stripe.intent(card), return_url=BACK, **more)
    assert of(reply.body) == ("requires_action", 0, 0)
    action = reply.body["next_action"]
    assert (action["type"], action["redirect_to_url"]["return_url"]) == ("redirect_to_url", BACK)
    return reply.body, action["redirect_to_url"]["url"]


async def answer(stripe: Stripe, url: str, result: str, key: str | None = None) -> tuple[int, dict[str, list[str]]]:
    parts = urlsplit(url)
    form = {"key": key or parse_qs(parts.query)["key"][0], "result": result}
    response = await stripe.http.post(parts.path, data=form, headers={"Authorization": ""})
    return response.status_code, parse_qs(urlsplit(response.headers.get("location", "")).query)


@pytest.mark.parametrize("capture_method", ["automatic", "manual"])
async def test_the_customer_confirms(stripe: Stripe, capture_method: str) -> None:
    intent, url = await asked(stripe, capture_method=capture_method)
    page = await stripe.http.get(url, headers={"Authorization": ""})
    assert page.status_code == 200
    assert "Confirm 12.50 EUR to the shop?" in page.text
    assert await stripe.all("/v1/charges") == []
    for _ in range(2):  # also if the button is pressed twice
        status, added = await answer(stripe, url, "confirm")
        assert (status, added["redirect_status"], added["tab"]) == (303, ["succeeded"], ["pay"])
        assert added["payment_intent"] == [intent["id"]]
        assert added["payment_intent_client_secret"] == [intent["client_secret"]]
    now = await stripe.look(intent, "latest_charge")
    expected = ("succeeded", 0, 12_50) if capture_method == "automatic" else ("requires_capture", 12_50, 0)
    assert (of(now), now["next_action"]) == (expected, None)
    assert now["latest_charge"]["payment_method_details"]["card"]["three_d_secure"]["result"] == "authenticated"
    assert (await stripe.http.get(url)).status_code == 303  # nothing is left to ask


async def test_the_customer_refuses(stripe: Stripe) -> None:
    intent, url = await asked(stripe)
    assert (await answer(stripe, url, "refuse"))[1]["redirect_status"] == ["failed"]
    now = await stripe.look(intent)
    assert (of(now), now["payment_method"]) == (("requires_payment_method", 0, 0), None)
    assert now["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert (await answer(stripe, url, "confirm"))[1]["redirect_status"] == ["failed"]
    assert await stripe.all("/v1/charges") == []


async def test_the_bank_may_decline_what_its_customer_has_confirmed(stripe: Stripe) -> None:
    intent, url = await asked(stripe, f"{ASKS}ChargeDeclinedInsufficientFunds")
    assert (await answer(stripe, url, "confirm"))[1]["redirect_status"] == ["failed"]
    now = await stripe.look(intent)
    assert (now["status"], now["last_payment_error"]["decline_code"]) == ("requires_payment_method", "insufficient_funds")


async def test_nobody_else_confirms(stripe: Stripe) -> None:
    intent, url = await asked(stripe)
    assert (await answer(stripe, url, "confirm", key="guess"))[0] == 404
    assert (await stripe.http.get(f"/3ds/{intent['id']}?key=guess")).status_code == 404
    assert (await stripe.http.get("/3ds/pi_nobody?key=")).status_code == 404
    assert (await answer(stripe, url, "perhaps"))[0] == 400
    assert (await stripe.look(intent))["status"] == "requires_action"


async def test_without_a_way_back_there_is_a_page(stripe: Stripe) -> None:
    reply = await stripe.confirm(await stripe.intent(ASKS))
    url = reply.body["next_action"]["redirect_to_url"]["url"]
    assert (await answer(stripe, url, "confirm"))[0] == 200
    assert (await stripe.look(reply.body))["status"] == "succeeded"


async def test_what_was_cancelled_meanwhile_is_not_paid(stripe: Stripe) -> None:
    intent, url = await asked(stripe)
    await stripe.post(f"{INTENTS}/{intent['id']}/cancel")
    assert (await answer(stripe, url, "confirm"))[1]["redirect_status"] == ["failed"]
    assert await stripe.sums() is None


@pytest.mark.parametrize(
    "nobody", [{"off_session": True}, {"error_on_requires_action": True}, {"off_session": "recurring"}], ids=str
)
async def test_where_nobody_is_there_it_is_declined(stripe: Stripe, nobody: dict[str, Any]) -> None:
    intent = await stripe.intent(ASKS)
    reply = await stripe.confirm(intent, **nobody)
    assert (*reply.refusal, reply.error["type"]) == (402, "authentication_required", "card_error")
    now = await stripe.look(intent)
    assert (of(now), now["last_payment_error"]["code"]) == (("requires_payment_method", 0, 0), "authentication_required")


async def test_a_test_answers_for_the_customer(stripe: Stripe) -> None:
    intent, _ = await asked(stripe)
    assert (await stripe.control("control/3ds/order-1/1", result="confirm"))["status"] == "succeeded"
    again = await stripe.http.post(f"/_control/3ds/{intent['id']}", json={"result": "refuse"})
    assert (again.status_code, again.json()["error"]["code"]) == (400, "payment_intent_unexpected_state")
    intent, _ = await asked(stripe)
    refused = await stripe.control(f"control/3ds/{intent['id']}", result="refuse")
    assert refused["status"] == "requires_payment_method"


async def test_it_waits_for_its_customer_with_another_card_too(stripe: Stripe) -> None:
    intent, url = await asked(stripe)
    again: Reply = await stripe.confirm(intent, payment_method="pm_card_visa")
    assert again.body["status"] == "succeeded"
    await answer(stripe, url, "confirm")
    assert len(await stripe.all("/v1/charges")) == 1
