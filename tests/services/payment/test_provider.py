"""The adapter: when the provider is left alone, and what counts as an answer."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from contracts.payments import ProcessPayment
from services.payment.adapters import HttpPaymentProvider
from services.payment.model import Payment
from services.payment.ports import ChargeRequest, ProviderStatus
from tests.conftest import eventually
from tests.services.payment.conftest import API_KEY, CARD, Simulator, pay

Make = Callable[..., HttpPaymentProvider]


@pytest.fixture
def make(simulator: Simulator, http: HttpSession) -> Make:
    def make(api_key: str = API_KEY, **options: Any) -> HttpPaymentProvider:
        return HttpPaymentProvider(http, simulator.url, SecretStr(api_key), **options)

    return make


def request(token: str = "tok_visa") -> ChargeRequest:
    command: ProcessPayment = pay(token)
    return Payment.asked(command, CARD).charge_request(command)


async def fails(call: Awaitable[object]) -> None:
    with pytest.raises(Unavailable):
        await call


async def test_a_failing_provider_is_left_alone_and_asked_again_later(make: Make, simulator: Simulator) -> None:
    provider = make(breaker_threshold=3, breaker_seconds=0.2)
    await simulator.faults(fail_next=100)
    for _ in range(10):
        await fails(provider.charge(request()))
    assert await simulator.fault("fail_next") == 97  # seven of the ten were not asked
    await simulator.faults(fail_next=0)

    async def charged() -> bool:
        try:
            return (await provider.charge(request())).status == ProviderStatus.CAPTURED
        except Unavailable:
            return False

    await eventually(charged, what="the breaker's second chance")


async def test_failing_charges_keep_nobody_from_a_refund(make: Make, simulator: Simulator) -> None:
    provider = make(breaker_threshold=2, breaker_seconds=60)
    paid = request()
    await provider.charge(paid)
    await simulator.faults(fail_next=2)
    for _ in range(3):
        await fails(provider.charge(request()))
    assert (await provider.reverse(paid.reference, "cancelled")).status == ProviderStatus.REFUNDED


async def test_declines_and_bad_requests_do_not_open_the_breaker(make: Make) -> None:
    provider = make(breaker_threshold=2, breaker_seconds=60)
    for _ in range(5):
        assert (await provider.charge(request("tok_declined"))).status == ProviderStatus.DECLINED
    first = request()
    await provider.charge(first)
    other = ChargeRequest(first.reference, first.amount, "tok_mastercard", first.capture, first.description)
    for _ in range(5):
        with pytest.raises(NotUnderstood, match=r"422: .* idempotency_error"):
            await provider.charge(other)
    assert (await provider.charge(request())).status == ProviderStatus.CAPTURED


async def test_a_wrong_api_key_is_a_fault_and_not_a_decline(make: Make, simulator: Simulator) -> None:
    with pytest.raises(NotUnderstood, match="401"):
        await make(api_key="wrong").charge(request())
    assert await simulator.charges() == {}


async def test_a_charge_that_the_provider_does_not_know_cannot_be_captured(make: Make) -> None:
    with pytest.raises(NotUnderstood, match="404"):
        await make().capture("nothing-1")


async def test_a_reason_of_any_length_may_be_given(make: Make, simulator: Simulator) -> None:
    paid = request()
    await make().charge(paid)
    await make().reverse(paid.reference, "x" * 5_000)
    assert len((await simulator.charges())[paid.reference]["reversal_reason"]) == 500
