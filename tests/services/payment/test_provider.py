"""The adapter: when the provider is left alone, and what counts as an answer."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from chassis.clock import utc_now
from contracts.money import Money
from contracts.payments import ProcessPayment
from services.payment.adapters import HttpPaymentProvider
from services.payment.model import Payment
from services.payment.ports import ChargeRequest, ProviderMovementState, ProviderStatus
from tests.conftest import eventually
from tests.services.payment.conftest import API_KEY, CARD, Simulator, pay

Make = Callable[..., HttpPaymentProvider]


@pytest.fixture
def make(simulator: Simulator, http: HttpSession) -> Make:
    def make(api_key: str = API_KEY, **options: Any) -> HttpPaymentProvider:
        return HttpPaymentProvider(http, simulator.url, SecretStr(api_key), **options)

    return make


def request(token: str = "pm_card_visa") -> ChargeRequest:
    command: ProcessPayment = pay(token)
    return Payment.asked(command, CARD).charge_request(command)


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


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
        assert (await provider.charge(request("pm_card_visa_chargeDeclined"))).status == ProviderStatus.DECLINED
    first = request()
    await provider.charge(first)
    other = ChargeRequest(first.reference, first.amount, "pm_card_mastercard", first.capture, first.description)
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
        await make().capture("nothing-1", amount=usd("1.00"), key="capture", is_last=True)


async def test_a_reason_of_any_length_may_be_given(make: Make, simulator: Simulator) -> None:
    paid = request()
    await make().charge(paid)
    await make().reverse(paid.reference, "x" * 5_000)
    assert len((await simulator.charges())[paid.reference]["reversal_reason"]) == 500


async def held(make: Make, token: str = "pm_card_visa") -> str:
    """The reference of 12.50 that are held."""
    command = pay(token, capture=False)
    wanted = Payment.asked(command, CARD).charge_request(command)
    charge = await make().charge(wanted)
    assert (charge.status, charge.captured, charge.refunded) == (ProviderStatus.AUTHORIZED, usd("0"), usd("0"))
    assert charge.held_until is not None
    assert timedelta(days=6) < charge.held_until - utc_now() < timedelta(days=8)
    return wanted.reference


async def test_what_is_held_is_taken_in_parts(make: Make) -> None:
    provider, reference = make(), await held(make)
    for _ in range(2):
        first = await provider.capture(reference, amount=usd("5.00"), key="parcel-1", is_last=False)
        assert (first.status, first.captured) == (ProviderStatus.AUTHORIZED, usd("5.00"))
        assert first.movement is not None
        assert (first.movement.state, first.movement.amount) == (ProviderMovementState.SUCCEEDED, usd("5.00"))
    last = await provider.capture(reference, amount=usd("6.00"), key="parcel-2", is_last=True)
    assert (last.status, last.captured, last.held_until) == (ProviderStatus.CAPTURED, usd("11.00"), None)
    late = await provider.capture(reference, amount=usd("1.50"), key="parcel-3", is_last=True)
    assert late.movement is not None
    assert (late.status, late.movement.state, late.movement.failure) == (
        ProviderStatus.CAPTURED,
        ProviderMovementState.FAILED,
        "not_capturable",
    )


async def test_a_provider_without_multi_capture_lets_go_of_the_rest(make: Make) -> None:
    provider, reference = make(multi_capture=False), await held(make)
    charge = await provider.capture(reference, amount=usd("5.00"), key="parcel-1", is_last=False)
    assert (charge.status, charge.captured, charge.held_until) == (ProviderStatus.CAPTURED, usd("5.00"), None)
    again = await provider.capture(reference, amount=usd("5.00"), key="parcel-2", is_last=True)
    assert again.movement is not None
    assert again.movement.state == ProviderMovementState.FAILED


async def test_nothing_is_taken_of_a_hold_that_has_expired(make: Make, simulator: Simulator) -> None:
    reference = await held(make)
    (await simulator.http.post(f"/_dashboard/charges/{reference}/expire")).raise_for_status()
    charge = await make().capture(reference, amount=usd("12.50"), key="capture", is_last=True)
    assert (charge.status, charge.captured) == (ProviderStatus.VOIDED, usd("0"))
    assert charge.movement is not None
    assert charge.movement.state == ProviderMovementState.FAILED


async def test_parts_go_back_and_never_more_than_was_taken(make: Make, simulator: Simulator) -> None:
    provider, paid = make(), request()
    await provider.charge(paid)
    for _ in range(2):
        refund = await provider.refund(paid.reference, amount=usd("4.00"), key="parcel-1-lost", reason="lost")
        assert (refund.state, refund.amount) == (ProviderMovementState.SUCCEEDED, usd("4.00"))
    for _ in range(2):
        refused = await provider.refund(paid.reference, amount=usd("8.51"), key="too-much", reason="wrong")
        assert (refused.state, refused.failure) == (ProviderMovementState.FAILED, "refund_too_large")
    charge = await provider.reverse(paid.reference, "the rest")
    assert (charge.status, charge.refunded) == (ProviderStatus.REFUNDED, usd("12.50"))
    assert charge.movement is not None
    assert charge.movement.amount == usd("8.50")
    assert (await simulator.charges())[paid.reference]["refunded_amount"] == 12_50


@pytest.mark.parametrize(
    ("token", "first", "last"),
    [
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_sim_refund_pending_fails", "pending", "failed"),
        ("pm_card_refundFail", "succeeded", "failed"),
        ("pm_sim_refund_refused", "failed", "failed"),
    ],
)
async def test_what_becomes_of_a_refund_later(make: Make, simulator: Simulator, token: str, first: str, last: str) -> None:
    provider, paid = make(), request(token)
    await provider.charge(paid)
    await simulator.faults(refund_ms=20)
    assert (await provider.refund(paid.reference, amount=usd("2.00"), key="part", reason="lost")).state == first

    async def ended() -> bool:
        refund = await provider.refund(paid.reference, amount=usd("2.00"), key="part", reason="lost")
        assert (refund.failure == "expired_or_canceled_card") == (refund.state == ProviderMovementState.FAILED)
        return refund.state == last

    await eventually(ended, what="the end of the refund")
    charge = await provider.look(paid.reference)
    assert charge is not None
    assert charge.refunded == usd("0" if last == "failed" else "2.00")


async def test_a_reversal_tells_of_its_refund(make: Make, simulator: Simulator) -> None:
    provider, pending, refused = make(), request("pm_card_pendingRefund"), request("pm_sim_refund_refused")
    await simulator.faults(refund_ms=60_000)
    for each in (pending, refused):
        await provider.charge(each)
    for _ in range(2):
        charge = await provider.reverse(pending.reference, "cancelled")
        assert charge.movement is not None
        assert (charge.status, charge.movement.state) == (ProviderStatus.REFUNDED, ProviderMovementState.PENDING)
        charge = await provider.reverse(refused.reference, "cancelled")
        assert charge.movement is not None
        assert (charge.status, charge.movement.state) == (ProviderStatus.CAPTURED, ProviderMovementState.FAILED)


async def test_a_disputed_charge_gives_nothing_back(make: Make, simulator: Simulator) -> None:
    provider, paid = make(), request()
    await provider.charge(paid)
    opened = (await simulator.http.post(f"/_dashboard/charges/{paid.reference}/disputes", json={"amount": 10_00})).json()
    refused = await provider.refund(paid.reference, amount=usd("3.00"), key="part", reason="lost")
    assert (refused.state, refused.failure) == (ProviderMovementState.FAILED, "charge_disputed")
    (await simulator.http.post(f"/_dashboard/disputes/{opened['id']}/win")).raise_for_status()
    refund = await provider.refund(paid.reference, amount=usd("3.00"), key="part-2", reason="lost")
    assert refund.state == ProviderMovementState.SUCCEEDED


async def test_a_reference_may_be_looked_for(make: Make) -> None:
    provider, paid, declined = make(), request(), request("pm_card_visa_chargeDeclined")
    assert await provider.look(paid.reference) is None
    for each in (paid, declined):
        await provider.charge(each)
    found = [await provider.look(each.reference) for each in (paid, declined)]
    assert [charge and charge.status for charge in found] == [ProviderStatus.CAPTURED, ProviderStatus.DECLINED]
