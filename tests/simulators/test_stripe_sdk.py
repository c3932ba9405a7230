"""Stripe's own SDK talks to the simulator as it would to Stripe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
import stripe as sdk

from tests.simulators.conftest import Process
from tests.simulators.stripe_client import KEY

pytestmark = pytest.mark.asyncio
Client = sdk.StripeClient


@pytest_asyncio.fixture
async def process(start_process: Callable[..., Awaitable[Process]]) -> Process:
    return await start_process("stripe")


def connected(process: Process, key: str = KEY, **options: Any) -> Client:
    url = f"http://127.0.0.1:{process.port}"
    return Client(key, base_addresses={"api": url}, http_client=sdk.AIOHTTPClient(), **options)


@pytest_asyncio.fixture
async def client(process: Process) -> AsyncIterator[Client]:
    client = connected(process, max_network_retries=0)
    yield client
    await close(client)


async def close(client: Client) -> None:
    await client._requestor._get_http_client().close_async()  # type: ignore[no-untyped-call]


async def test_the_whole_life_of_a_payment(client: Client) -> None:
    pi = client.v1.payment_intents
    intent = await pi.create_async(
        {
            "amount": 12_50,
            "currency": "eur",
            "capture_method": "manual",
            "payment_method": "pm_card_visa",
            "payment_method_options": {"card": {"request_multicapture": "if_available"}},
            "metadata": {"reference": "order-1/1"},
            "expand": ["payment_method"],
        },
        {"idempotency_key": "order-1/1"},
    )
    assert isinstance(intent.payment_method, sdk.PaymentMethod)
    assert intent.payment_method.card is not None
    assert intent.payment_method.card.fingerprint
    held = await pi.confirm_async(intent.id, {"expand": ["latest_charge"]}, {"idempotency_key": "order-1/1/confirm"})
    assert held.status == "requires_capture"
    assert isinstance(held.latest_charge, sdk.Charge)
    assert held.latest_charge.payment_method_details is not None
    await pi.capture_async(intent.id, {"amount_to_capture": 500, "final_capture": False})
    taken = await pi.capture_async(intent.id, {"amount_to_capture": 300})
    assert (taken.status, taken.amount_received) == ("succeeded", 800)
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100, "metadata": {"key": "a"}})
    assert (refund.status, (await client.v1.refunds.retrieve_async(refund.id)).amount) == ("succeeded", 100)
    found = await pi.list_async({"limit": 1, "created": {"gte": intent.created}, "expand": ["data.latest_charge"]})
    charge = found.data[0].latest_charge
    assert isinstance(charge, sdk.Charge)
    assert (charge.amount_captured, charge.amount_refunded) == (800, 100)
    listed = [moved.net async for moved in (await client.v1.balance_transactions.list_async()).auto_paging_iter()]
    assert sum(listed) == 700
    events = [event.type async for event in (await client.v1.events.list_async({"limit": 2})).auto_paging_iter()]
    assert events[0] == "charge.refunded"
    assert events[-1] == "payment_intent.created"
    assert (await client.v1.disputes.list_async({"payment_intent": intent.id})).data == []


async def test_customers_pay_again_with_what_was_kept(client: Client) -> None:
    customer = await client.v1.customers.create_async({"email": "ann@example.com"})
    method = await client.v1.payment_methods.create_async({"type": "card", "card": {"token": "tok_visa"}})
    payment = {"amount": 500, "currency": "eur", "confirm": True, "customer": customer.id, "payment_method": method.id}
    await client.v1.payment_intents.create_async({**payment, "setup_future_usage": "off_session"})  # type: ignore[typeddict-item]
    assert (await client.v1.payment_methods.retrieve_async(method.id)).customer == customer.id
    again = await client.v1.payment_intents.create_async({**payment, "off_session": True})  # type: ignore[typeddict-item]
    assert again.status == "succeeded"


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
        ("pm_card_authenticationRequired", "authentication_required", "authentication_required"),
    ],
)
async def test_declines_are_card_errors(client: Client, card: str, code: str, decline_code: str) -> None:
    with pytest.raises(sdk.CardError) as raised:
        await client.v1.payment_intents.create_async(
            {"amount": 500, "currency": "eur", "confirm": True, "payment_method": card, "error_on_requires_action": True}
        )
    error = raised.value
    assert (error.http_status, error.code) == (402, code)
    assert error.error is not None
    assert error.error.decline_code == decline_code
    assert error.error.payment_intent is not None
    assert error.error.payment_intent.status == "requires_payment_method"
    assert error.request_id


async def test_what_is_wrong_is_an_invalid_request(client: Client) -> None:
    with pytest.raises(sdk.InvalidRequestError) as raised:
        await client.v1.payment_intents.create_async({"amount": 0, "currency": "eur"})
    assert (raised.value.http_status, raised.value.param) == (400, "amount")
    with pytest.raises(sdk.InvalidRequestError) as raised:
        await client.v1.payment_intents.retrieve_async("pi_none")
    assert (raised.value.http_status, raised.value.code) == (404, "resource_missing")
    intent = await client.v1.payment_intents.create_async({"amount": 500, "currency": "eur"})
    await client.v1.payment_intents.cancel_async(intent.id)
    with pytest.raises(sdk.InvalidRequestError) as raised:
        await client.v1.payment_intents.capture_async(intent.id)
    assert raised.value.code == "payment_intent_unexpected_state"
    assert raised.value.error is not None
    assert raised.value.error.payment_intent is not None
    assert raised.value.error.payment_intent.status == "canceled"


async def test_a_wrong_key_is_an_authentication_error(process: Process) -> None:
    client = connected(process, "sk_test_guess")
    with pytest.raises(sdk.AuthenticationError):
        await client.v1.accounts.retrieve_current_async()
    await close(client)


async def test_the_right_key_finds_its_account(client: Client) -> None:
    assert (await client.v1.accounts.retrieve_current_async()).charges_enabled


async def test_other_parameters_under_a_key_are_an_idempotency_error(client: Client) -> None:
    await client.v1.payment_intents.create_async({"amount": 500, "currency": "eur"}, {"idempotency_key": "key-1"})
    with pytest.raises(sdk.IdempotencyError):
        await client.v1.payment_intents.create_async({"amount": 600, "currency": "eur"}, {"idempotency_key": "key-1"})


@pytest.mark.parametrize("fault", ["fail_next", "lose_replies_next", "break_next"])
async def test_the_sdk_comes_again_by_itself_and_pays_once(process: Process, fault: str) -> None:
    (await process.http.post("/_control/faults", json={fault: 1})).raise_for_status()
    client = connected(process, max_network_retries=2)
    payment = {"amount": 500, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"}
    # What broke after it was done answers 500 under its key for ever; whoever wants to know has to look.
    with suppress(*([sdk.APIError] if fault == "break_next" else [])):
        await client.v1.payment_intents.create_async(payment)  # type: ignore[arg-type]
    found = (await client.v1.payment_intents.list_async()).data
    assert [intent.status for intent in found] == ["succeeded"]
    await close(client)


async def test_too_many_requests_are_a_rate_limit_error(process: Process, client: Client) -> None:
    (await process.http.post("/_control/faults", json={"limit_next": 1})).raise_for_status()
    with pytest.raises(sdk.RateLimitError):
        await client.v1.payment_intents.list_async()
