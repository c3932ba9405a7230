"""How the Stripe simulator takes requests: keys, idempotency, parameters, lists, and failures on demand."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import openapi_spec_validator
import pytest

from simulators.stripe import idempotency
from simulators.stripe.app import Options, create_app
from tests.simulators.stripe_client import KEY, Stripe, document, problems_of

pytestmark = pytest.mark.asyncio
INTENTS = "/v1/payment_intents"
ORDER: dict[str, Any] = {"amount": 12_50, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
Connect = Callable[[Any], httpx2.AsyncClient]


async def test_the_schemas_are_a_valid_description() -> None:
    openapi_spec_validator.validate(document())


# ── Who asks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_both_ways_to_show_the_key(stripe: Stripe) -> None:
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    for right in (f"Bearer {KEY}", f"Basic {basic}"):
        account = await stripe.http.get("/v1/account", headers={"Authorization": right})
        assert account.status_code == 200
    for path in ("/v1/account", "/_control/faults", "/_control/ledger", "/_dashboard/refunds/re_1/fail"):
        for wrong in ("Bearer guess", "Basic guess", KEY, ""):
            refused = await stripe.http.get(path, headers={"Authorization": wrong})
            assert refused.status_code == 401
            assert not problems_of("error", refused.json())
            assert KEY not in refused.text
    assert (await stripe.http.get("/health/live", headers={"Authorization": ""})).status_code == 200


# ── Idempotency ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_hears_its_first_answer_again(stripe: Stripe) -> None:
    first = await stripe.try_post(INTENTS, "key-1", **ORDER)
    again = await stripe.try_post(INTENTS, "key-1", **ORDER)
    assert (first.body, "idempotent-replayed" in first.headers) == (again.body, False)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["request-id"] != again.headers["request-id"]
    assert len(await stripe.all(INTENTS)) == 1
    assert (await stripe.post(INTENTS, "key-2", **ORDER))["id"] != first.body["id"]


async def test_so_it_does_if_that_was_a_decline(stripe: Stripe) -> None:
    declined = {**ORDER, "payment_method": "pm_card_visa_chargeDeclined"}
    replies = [await stripe.try_post(INTENTS, "key-1", **declined) for _ in range(3)]
    assert [reply.refusal for reply in replies] == [(402, "card_declined")] * 3
    assert replies[0].body == replies[2].body
    assert len(await stripe.all("/v1/charges")) == 1


async def test_a_key_names_one_request(stripe: Stripe) -> None:
    intent = await stripe.post(INTENTS, "key-1", **ORDER)
    others = [(INTENTS, {**ORDER, "amount": 1}), (INTENTS, {}), (f"{INTENTS}/{intent['id']}/cancel", {})]
    for path, params in others:
        reply = await stripe.try_post(path, "key-1", **params)
        assert (reply.status, reply.error["type"]) == (400, "idempotency_error")
    assert (await stripe.sums())["captured"] == 12_50


async def test_twenty_at_once_are_one_payment(stripe: Stripe) -> None:
    replies = await asyncio.gather(*(stripe.try_post(INTENTS, "key-1", **ORDER) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body["id"] for reply in replies}) == 1
    totals = await stripe.totals()
    assert (totals["references"], totals["attempts"], totals["currencies"]["EUR"]["captured"]) == (1, 20, 12_50)


async def test_a_key_under_way_has_to_come_again(stripe: Stripe, until: Callable[..., Awaitable[Any]]) -> None:
    await stripe.faults(slow_ms=60_000)
    slow = {**ORDER, "payment_method": "pm_sim_slow"}
    first = asyncio.create_task(stripe.try_post(INTENTS, "key-1", **slow))
    await until(lambda: stripe.all(INTENTS))
    for params in (slow, ORDER):
        assert (await stripe.try_post(INTENTS, "key-1", **params)).refusal == (409, "idempotency_key_in_use")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    again = await stripe.try_post(INTENTS, "key-1", **slow)
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    assert len(await stripe.all(INTENTS)) == 1


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amuont": 1}, {"confirm": "perhaps"}], ids=str)
async def test_what_was_not_understood_is_not_kept(stripe: Stripe, wrong: dict[str, Any]) -> None:
    assert (await stripe.try_post(INTENTS, "key-1", **{**ORDER, **wrong})).status == 400
    assert (await stripe.try_post(INTENTS, "key-1", **ORDER)).status == 200


async def test_what_was_not_done_is_not_kept(stripe: Stripe) -> None:
    await stripe.faults(fail_next=1)
    assert (await stripe.try_post(INTENTS, "key-1", **ORDER)).status == 503
    await stripe.faults(limit_next=1)
    assert (await stripe.try_post(INTENTS, "key-1", **ORDER)).refusal == (429, "rate_limit")
    assert await stripe.all(INTENTS) == []
    assert (await stripe.try_post(INTENTS, "key-1", **ORDER)).status == 200


async def test_what_broke_after_it_was_done_stays_broken(stripe: Stripe) -> None:
    await stripe.faults(break_next=1)
    for _ in range(3):
        reply = await stripe.try_post(INTENTS, "key-1", **ORDER)
        assert (reply.status, reply.error["type"]) == (500, "api_error")
    [intent] = await stripe.all(INTENTS)
    assert intent["status"] == "succeeded"


async def test_keys_are_forgotten_after_a_day(tmp_path: Path, connect: Connect) -> None:
    now = [1_800_000_000.0]
    app = create_app(tmp_path, KEY, Options(clock=lambda: now[0]))
    async with app.running(), connect(app) as client:
        stripe = Stripe(client)
        first = await stripe.post(INTENTS, "key-1", **ORDER)
        now[0] += idempotency.KEPT_S - 1
        assert (await stripe.post(INTENTS, "key-1", **ORDER))["id"] == first["id"]
        now[0] += 1
        assert (await stripe.post(INTENTS, "key-1", **ORDER))["id"] != first["id"]
        assert len(await stripe.all(INTENTS)) == 2


@pytest.mark.parametrize("key", ["", "k" * 256], ids=len)
async def test_keys_have_a_length(stripe: Stripe, key: str) -> None:
    assert (await stripe.try_post(INTENTS, key, **ORDER)).status == 400


# ── Parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -1}, "parameter_invalid_integer", "amount"),
        ({"amount": 1.5}, "parameter_invalid_integer", "amount"),
        ({"amount": "٣"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10**12}, "amount_too_large", "amount"),
        ({"amount": ""}, "parameter_invalid_empty", "amount"),
        ({"currency": "euro"}, None, "currency"),
        ({"currency": "€"}, None, "currency"),
        ({"capture_method": "later"}, None, "capture_method"),
        ({"return_url": "javascript:alert(1)"}, "url_invalid", "return_url"),
        ({"return_url": "shop.example"}, "url_invalid", "return_url"),
        ({"reference": "order-1"}, "parameter_unknown", "reference"),
        ({"metadata": {"k" * 41: "v"}}, None, f"metadata[{'k' * 40}]"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{number}": "v" for number in range(51)}}, None, "metadata"),
        ({"description": "d" * 1_001}, None, "description"),
        ({"payment_method_options": {"card": {"request_multicapture": "always"}}}, None, None),
        ({"payment_method_options": {"ideal": {}, "card": {"cvc": "1"}}}, "parameter_unknown", "payment_method_options"),
        ({"expand": ["customer"]}, None, "expand"),
        ({"expand": ["latest_charge.balance_transaction.source"]}, None, "expand"),
        ({"expand": ["a.b.c.d.e"]}, None, "expand"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(stripe: Stripe, changes: dict[str, Any], code: str | None, param: str | None) -> None:
    reply = await stripe.try_post(INTENTS, **{**ORDER, **changes})
    assert (*reply.refusal, reply.error["type"]) == (400, code, "invalid_request_error")
    assert param is None or reply.error["param"] == param
    assert await stripe.all(INTENTS) == []


@pytest.mark.parametrize("name", ["amount", "currency"])
async def test_what_is_missing_is_named(stripe: Stripe, name: str) -> None:
    params = {given: value for given, value in ORDER.items() if given != name}
    reply = await stripe.try_post(INTENTS, **params)
    assert (*reply.refusal, reply.error["param"]) == (400, "parameter_missing", name)


async def test_some_parameters_need_a_confirmation(stripe: Stripe) -> None:
    needing: dict[str, Any] = {"off_session": True, "error_on_requires_action": True, "return_url": "https://shop.example"}
    for name, value in needing.items():
        reply = await stripe.try_post(INTENTS, amount=1, currency="eur", **{name: value})
        assert (reply.status, reply.error["param"]) == (400, name)
    intent = await stripe.intent(None)
    assert (await stripe.confirm(intent)).refusal == (400, "payment_intent_unexpected_state")
    assert (await stripe.confirm(intent, payment_method="pm_card_visa", amount_to_confirm=1)).status == 400


async def test_what_is_told_is_shown_again(stripe: Stripe) -> None:
    told: dict[str, Any] = {
        "description": "Two cheeses",
        "receipt_email": "ann@example.com",
        "statement_descriptor_suffix": "CHEESE",
        "transfer_group": "order-1",
        "shipping": {"name": "Ann", "address": {"line1": "1 Main Street", "country": "US"}},
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    shown = await stripe.post(INTENTS, **ORDER, **told)
    shipping = shown.pop("shipping")
    assert (shipping["name"], shipping["address"]["line1"], shipping["address"]["city"]) == ("Ann", "1 Main Street", None)
    assert {name: shown[name] for name in told if name != "shipping"} == {n: v for n, v in told.items() if n != "shipping"}
    assert (await stripe.charge_of(shown))["shipping"] == shipping


async def test_bodies_are_forms_of_a_bounded_size(stripe: Stripe) -> None:
    json_body = await stripe.http.post(INTENTS, json=ORDER)
    assert (json_body.status_code, json_body.json()["error"]["type"]) == (400, "invalid_request_error")
    large = await stripe.http.post(INTENTS, data={**ORDER, "description": "d" * 70_000})
    assert large.status_code == 413
    many = await stripe.http.post(INTENTS, data={f"metadata[{number}]": "v" for number in range(400)})
    assert many.status_code == 400


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_lists_come_in_pages_the_newest_first(stripe: Stripe) -> None:
    made = [(await stripe.paid(reference=f"order-{number}"))["id"] for number in range(5)][::-1]
    first = await stripe.get(INTENTS, limit=2)
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (made[:2], True)
    rest = await stripe.get(INTENTS, limit=3, starting_after=made[1])
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (made[2:], False)
    back = await stripe.get(INTENTS, limit=2, ending_before=made[4])
    assert ([each["id"] for each in back["data"]], back["has_more"]) == (made[2:4], True)
    assert (await stripe.call("GET", INTENTS, {"starting_after": "pi_none"})).refusal == (400, "resource_missing")
    for wrong in ({"limit": 0}, {"limit": 101}, {"limit": "all"}, {"page": 1}, {"expand": ["latest_charge"]}):
        assert (await stripe.call("GET", INTENTS, wrong)).status == 400
    both = {"starting_after": made[0], "ending_before": made[1]}
    assert (await stripe.call("GET", INTENTS, both)).status == 400


async def test_lists_can_be_asked_for_what_was_created_when(tmp_path: Path, connect: Connect) -> None:
    now = [1_800_000_000.0]
    app = create_app(tmp_path, KEY, Options(clock=lambda: now[0]))
    async with app.running(), connect(app) as client:
        stripe = Stripe(client)
        for _ in range(3):
            await stripe.paid()
            now[0] += 10
        for bounds, count in (
            ({"gte": 1_800_000_010}, 2),
            ({"gt": 1_800_000_010}, 1),
            ({"lte": 1_800_000_010}, 2),
            ({"lt": 1_800_000_010, "gte": 1_800_000_000}, 1),
        ):
            for path in (INTENTS, "/v1/charges", "/v1/balance_transactions"):
                assert len(await stripe.all(path, created=bounds)) == count
        assert len(await stripe.all(INTENTS, created=1_800_000_010)) == 1
        expanded = await stripe.get(INTENTS, expand=["data.latest_charge.balance_transaction", "data.payment_method"])
        assert [each["latest_charge"]["balance_transaction"]["net"] for each in expanded["data"]] == [12_50] * 3


async def test_charges_of_a_payment(stripe: Stripe) -> None:
    intent = await stripe.intent("pm_card_visa_chargeDeclined")
    await stripe.confirm(intent)
    await stripe.confirm(intent, payment_method="pm_card_visa")
    await stripe.paid(reference="order-2")
    charges = await stripe.all("/v1/charges", payment_intent=intent["id"])
    assert [charge["status"] for charge in charges] == ["failed", "succeeded"]
    assert (await stripe.get(f"/v1/charges/{charges[0]['id']}", expand=["payment_intent"]))["payment_intent"]["id"] == intent[
        "id"
    ]


@pytest.mark.parametrize("path", ["payment_intents/pi_1", "charges/ch_1", "refunds/re_1", "disputes/dp_1", "events/evt_1"])
async def test_what_is_not_there_is_missing(stripe: Stripe, path: str) -> None:
    assert (await stripe.call("GET", f"/v1/{path}", {})).refusal == (404, "resource_missing")
    unknown = await stripe.http.get("/v1/nothing")
    assert (unknown.status_code, problems_of("error", unknown.json())) == (404, [])


# ── Failures on demand ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_faults(stripe: Stripe) -> None:
    assert (await stripe.faults(down=True))["down"] is True
    assert (await stripe.try_post(INTENTS, **ORDER)).status == 503
    assert (await stripe.http.get("/health/live")).status_code == 200
    await stripe.faults(down=False, fail_next=1, fail_reversals=True)
    assert [(await stripe.try_post(INTENTS, **ORDER)).status for _ in range(2)] == [503, 200]
    [paid] = await stripe.all(INTENTS)
    held = await stripe.held()
    reversals: list[tuple[str, dict[str, Any]]] = [
        ("/v1/refunds", {"payment_intent": paid["id"]}),
        (f"{INTENTS}/{held['id']}/cancel", {}),
    ]
    for path, params in reversals:
        assert (await stripe.try_post(path, "key", **params)).status == 503
    assert (await stripe.look(held))["status"] == "requires_capture"
    assert (await stripe.http.delete("/_control/faults")).json()["fail_reversals"] is False
    for number, (path, params) in enumerate(reversals):
        assert (await stripe.try_post(path, f"key-{number}", **params)).status == 200


@pytest.mark.parametrize("wrong", [{"latency_ms": 60_001}, {"fail_next": -1}, {"down": 1}, {"unheard": True}], ids=str)
async def test_faults_are_bounded(stripe: Stripe, wrong: dict[str, Any]) -> None:
    before = (await stripe.http.get("/_control/faults")).json()
    assert (await stripe.http.post("/_control/faults", json={"slow_ms": 1, **wrong})).status_code == 422
    assert (await stripe.http.get("/_control/faults")).json() == before


async def test_the_flaky_card_is_answered_at_the_fourth(stripe: Stripe) -> None:
    intent = await stripe.intent("pm_sim_flaky_1")
    replies = [await stripe.confirm(intent, key=f"key-{number}") for number in range(4)]
    assert [reply.status for reply in replies] == [503, 503, 503, 200]
    at_once = {**ORDER, "payment_method": "pm_sim_flaky", "metadata": {"reference": "order-2"}}
    assert [(await stripe.try_post(INTENTS, "key", **at_once)).status for _ in range(5)] == [503, 503, 503, 200, 200]
    assert len(await stripe.all("/v1/charges")) == 2


@pytest.mark.parametrize(("card", "status"), [("pm_sim_slow", "succeeded"), ("pm_sim_timeout", "requires_confirmation")])
async def test_a_client_that_gives_up_waiting(stripe: Stripe, card: str, status: str) -> None:
    await stripe.faults(slow_ms=60_000)
    intent = await stripe.intent(card)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stripe.confirm(intent)
    assert (await stripe.look(intent))["status"] == status


async def test_a_card_that_never_pays(stripe: Stripe) -> None:
    await stripe.faults(slow_ms=1)
    intent = await stripe.intent("pm_sim_timeout")
    assert [(await stripe.confirm(intent, key="key")).status for _ in range(3)] == [503] * 3
    assert await stripe.all("/v1/charges") == []


async def test_lost_replies_and_a_kill_leave_what_was_done(start_process: Callable[..., Awaitable[Any]]) -> None:
    process = await start_process("stripe")
    stripe = Stripe(process.http)
    intent = await stripe.intent("pm_sim_lost_reply")
    with pytest.raises(httpx2.TransportError):
        await stripe.confirm(intent, key="key-1")
    await stripe.faults(lose_replies_next=1)
    with pytest.raises(httpx2.TransportError):
        await stripe.try_post(INTENTS, "key-2", **ORDER)
    await process.kill()
    await process.start()

    assert (await stripe.look(intent))["status"] == "succeeded"
    again = await stripe.confirm(intent, key="key-1"), await stripe.try_post(INTENTS, "key-2", **ORDER)
    assert [(reply.status, reply.headers["idempotent-replayed"]) for reply in again] == [(200, "true")] * 2
    assert (await stripe.sums())["captured"] == 2 * 12_50
