"""The card processor: one charge per reference whatever happens, and failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from simulators.payment_provider import create_app

pytestmark = pytest.mark.asyncio

ORDER = {
    "reference": "order-1/payment",
    "amount": 12_50,
    "currency": "EUR",
    "card_token": "tok_visa",
    "capture": True,
}
CHARGES = "/v1/charges"
ONE = "/v1/charges/order-1/payment"


@pytest_asyncio.fixture
async def provider(tmp_path: Path, connect: Callable[[Any], httpx2.AsyncClient]) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(tmp_path, "test-key")
    async with app.running(), connect(app) as client:
        yield client


async def charge(client: httpx2.AsyncClient, key: str = "key-1", **changes: object) -> httpx2.Response:
    return await client.post(CHARGES, headers={"Idempotency-Key": key}, json={**ORDER, **changes})


async def ledger(client: httpx2.AsyncClient) -> Any:
    return (await client.get("/_control/ledger")).json()


async def faults(client: httpx2.AsyncClient, **switches: object) -> httpx2.Response:
    return await client.post("/_control/faults", json=switches)


async def test_charges_and_captures(provider: httpx2.AsyncClient) -> None:
    response = await charge(provider)
    assert response.status_code == 200
    charged = response.json()
    assert charged.pop("id").startswith("ch_")
    assert charged == {
        "reference": "order-1/payment",
        "status": "captured",
        "amount": 1250,
        "currency": "EUR",
        "captured_amount": 1250,
        "refunded_amount": 0,
        "held_amount": 0,
        "held_until": None,
        "disputed_amount": 0,
        "risk": "normal",
    }


async def test_same_key_and_body_hear_the_same_answer(provider: httpx2.AsyncClient) -> None:
    first, second = await charge(provider), await charge(provider)
    assert first.json() == second.json()
    assert (await ledger(provider))["currencies"]["EUR"]["captured"] == 1250
    assert (await provider.get(ONE)).json()["attempts"] == 2


async def test_same_key_with_another_body_is_refused(provider: httpx2.AsyncClient) -> None:
    await charge(provider)
    response = await charge(provider, amount=1)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "idempotency_error")


async def test_same_reference_under_another_key_is_the_existing_charge(provider: httpx2.AsyncClient) -> None:
    first, second = await charge(provider), await charge(provider, key="key-2")
    assert first.json()["id"] == second.json()["id"]
    assert (await ledger(provider))["currencies"]["EUR"]["captured"] == 1250


@pytest.mark.parametrize("keys", [["same"] * 20, [f"key-{n}" for n in range(20)]], ids=["one key", "many keys"])
async def test_twenty_at_once_are_one_charge(provider: httpx2.AsyncClient, keys: list[str]) -> None:
    responses = await asyncio.gather(*(charge(provider, key=key) for key in keys))
    assert {response.json()["id"] for response in responses} == {responses[0].json()["id"]}
    totals = await ledger(provider)
    assert (totals["references"], totals["attempts"]) == (1, 20)
    assert totals["currencies"]["EUR"]["captured"] == 1250


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_expired", "expired_card"),
        ("tok_incorrect_cvc", "incorrect_cvc"),
        ("tok_fraudulent", "fraudulent"),
        ("tok_declined_of_ann", "card_declined"),
        ("tok_visas", "invalid_card_token"),
        ("4242424242424242", "invalid_card_token"),
    ],
)
async def test_declined(provider: httpx2.AsyncClient, token: str, code: str) -> None:
    for key in ("key-1", "key-1", "key-2"):
        response = await charge(provider, key=key, card_token=token)
        assert (response.status_code, response.json()["error"]["code"]) == (402, code)
    assert (await provider.get(ONE)).json()["status"] == "declined"
    assert (await provider.post(f"{ONE}/reversals", json={})).json()["status"] == "declined"
    assert (await ledger(provider))["currencies"] == {}


async def test_review_is_only_authorized_until_captured(provider: httpx2.AsyncClient) -> None:
    held = (await charge(provider, card_token="tok_review")).json()
    assert (held["status"], held["risk"], held["captured_amount"]) == ("authorized", "elevated", 0)
    for _ in range(2):
        captured = (await provider.post(f"{ONE}/capture")).json()
        assert (captured["status"], captured["captured_amount"]) == ("captured", 1250)
    assert (await ledger(provider))["currencies"]["EUR"]["captured"] == 1250


async def test_reversal_refunds_a_captured_charge_once(provider: httpx2.AsyncClient) -> None:
    await charge(provider)
    answers = [(await provider.post(f"{ONE}/reversals", json={"reason": "cancelled"})).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0]["status"], answers[0]["refunded_amount"]) == ("refunded", 1250)
    assert (await ledger(provider))["currencies"]["EUR"]["net"] == 0


async def test_reversal_voids_an_authorized_charge(provider: httpx2.AsyncClient) -> None:
    await charge(provider, capture=False)
    assert (await provider.post(f"{ONE}/reversals", json={})).json()["status"] == "voided"
    late = await provider.post(f"{ONE}/capture")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "not_capturable")
    assert (await ledger(provider))["currencies"]["EUR"]["captured"] == 0


async def test_a_charge_after_its_reversal_is_refused(provider: httpx2.AsyncClient) -> None:
    reversed_first = await provider.post(f"{ONE}/reversals", json={"reason": "timeout"})
    assert (reversed_first.status_code, reversed_first.json()["status"]) == (200, "reversed")
    late = await charge(provider)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "reference_reversed")
    assert (await ledger(provider))["currencies"] == {}


async def test_flaky_answers_at_the_fourth(provider: httpx2.AsyncClient) -> None:
    statuses = [(await charge(provider, card_token="tok_flaky_3")).status_code for _ in range(5)]
    assert statuses == [503, 503, 503, 200, 200]


async def test_a_reference_escaped_as_one_segment_is_the_same(provider: httpx2.AsyncClient) -> None:
    await charge(provider)
    assert (await provider.get("/v1/charges/order-1%2Fpayment")).status_code == 200
    assert (await provider.get("/v1/charges/other")).status_code == 404


async def test_listing_pages_through_the_ledger(provider: httpx2.AsyncClient) -> None:
    for number in range(5):
        await charge(provider, key=f"key-{number}", reference=f"order-{number}")
    seen, cursor = [], "0"
    while cursor:
        page = (await provider.get(CHARGES, params={"limit": 2, "cursor": cursor})).json()
        seen += [row["reference"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == [f"order-{number}" for number in range(5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0},
        {"amount": 1.5},
        {"amount": True},
        {"currency": "eur"},
        {"reference": "a b"},
        {"reference": ""},
    ],
    ids=str,
)
async def test_invalid_requests_are_refused(provider: httpx2.AsyncClient, changes: Any) -> None:
    response = await charge(provider, **changes)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")


async def test_key_and_bearer_are_required(provider: httpx2.AsyncClient) -> None:
    assert (await provider.post(CHARGES, json=ORDER)).status_code == 400
    for path in (ONE, "/_control/faults"):
        refused = await provider.get(path, headers={"Authorization": "Bearer guess"})
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
    assert (await provider.get("/health/live", headers={"Authorization": ""})).status_code == 200


async def test_faults(provider: httpx2.AsyncClient) -> None:
    assert (await faults(provider, down=True)).json()["down"] is True
    assert (await charge(provider)).status_code == 503
    assert (await provider.get("/health/live")).status_code == 200
    await faults(provider, down=False, fail_next=1, fail_reversals=True)
    assert [(await charge(provider)).status_code for _ in range(2)] == [503, 200]
    assert (await provider.post(f"{ONE}/reversals", json={})).status_code == 503
    assert (await provider.get(ONE)).json()["status"] == "captured"
    await provider.delete("/_control/faults")
    assert (await provider.post(f"{ONE}/reversals", json={})).json()["status"] == "refunded"


@pytest.mark.parametrize("wrong", [{"latency_ms": 60_001}, {"fail_next": -1}, {"down": 1}, {"unheard": True}], ids=str)
async def test_faults_are_bounded(provider: httpx2.AsyncClient, wrong: dict[str, object]) -> None:
    before = (await provider.get("/_control/faults")).json()
    assert (await faults(provider, **{"slow_ms": 1, **wrong})).status_code == 422
    assert (await provider.get("/_control/faults")).json() == before


@pytest.mark.parametrize(("token", "status"), [("tok_slow", "captured"), ("tok_timeout", None)])
async def test_a_client_that_gives_up_waiting(provider: httpx2.AsyncClient, token: str, status: str | None) -> None:
    await faults(provider, slow_ms=60_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await charge(provider, card_token=token)
    assert (await provider.get(ONE)).json().get("status") == status


async def test_lost_reply_and_kill_leave_the_charge_in_the_ledger(
    start_process: Callable[..., Awaitable[Any]],
) -> None:
    process = await start_process("payment_provider")
    with pytest.raises(httpx2.TransportError):
        await charge(process.http, card_token="tok_lost_reply")
    await faults(process.http, lose_replies_next=1)
    with pytest.raises(httpx2.TransportError):
        await charge(process.http, key="key-2", reference="order-2")
    await process.kill()
    await process.start()

    kept = (await process.http.get(ONE)).json()
    assert (kept["status"], kept["captured_amount"]) == ("captured", 1250)
    repeated = await charge(process.http, card_token="tok_lost_reply")
    assert (repeated.status_code, repeated.json()["id"]) == (200, kept["id"])
    assert (await ledger(process.http))["currencies"]["EUR"]["captured"] == 2 * 1250
