"""The adapter for Stripe, against the simulator: when it is left alone, what counts as an answer, and that money moves once."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from chassis.clock import utc_now
from contracts.money import Money
from contracts.payments import ActionKind
from services.payment.adapters import StripePayments
from services.payment.model import charge_request
from services.payment.ports import ChargeRequest, ProviderCharge, ProviderMovementState, ProviderStatus
from tests.conftest import eventually
from tests.services.payment.conftest import API_KEY, RETURN_URL, Simulator, pay

Make = Callable[..., StripePayments]


@pytest.fixture
def make(simulator: Simulator, http: HttpSession) -> Make:
    def make(api_key: str = API_KEY, **options: Any) -> StripePayments:
        return StripePayments(http, simulator.url, SecretStr(api_key), **{"retries": 0, **options})

    return make


def request(token: str = "pm_card_visa", *, capture: bool = True, return_url: str | None = RETURN_URL) -> ChargeRequest:
    return charge_request(pay(token, capture=capture, return_url=return_url))


async def opened(provider: StripePayments, wanted: ChargeRequest) -> str:
    found = await provider.open(wanted)
    assert found.provider_id is not None
    return found.provider_id


async def charged(provider: StripePayments, wanted: ChargeRequest) -> ProviderCharge:
    return await provider.charge(await opened(provider, wanted), wanted)


async def taken(make: Make, token: str = "pm_card_visa") -> str:
    """The name of 12.50 that are taken."""
    provider, wanted = make(), request(token)
    name = await opened(provider, wanted)
    assert (await provider.charge(name, wanted)).status == ProviderStatus.CAPTURED
    return name


async def held(make: Make, token: str = "pm_card_visa") -> str:
    """The name of 12.50 that are held."""
    provider, wanted = make(), request(token, capture=False)
    name = await opened(provider, wanted)
    charge = await provider.charge(name, wanted)
    assert (charge.status, charge.captured, charge.refunded) == (ProviderStatus.AUTHORIZED, usd("0"), usd("0"))
    assert charge.held_until is not None
    assert timedelta(days=6) < charge.held_until - utc_now() < timedelta(days=8)
    return name


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount))


async def fails(call: Awaitable[object]) -> None:
    with pytest.raises(Unavailable):
        await call


async def test_a_failing_provider_is_left_alone_and_asked_again_later(make: Make, simulator: Simulator) -> None:
    provider = make(breaker_threshold=3, breaker_seconds=0.2)
    await simulator.faults(fail_next=100)
    for _ in range(10):
        await fails(provider.open(request()))
    assert await simulator.fault("fail_next") == 97  # seven of the ten were not asked
    await simulator.faults(fail_next=0)

    async def is_charged() -> bool:
        try:
            return (await charged(provider, request())).status == ProviderStatus.CAPTURED
        except Unavailable:
            return False

    await eventually(is_charged, what="the breaker's second chance")


async def test_what_fails_at_once_is_asked_again_three_times(make: Make, simulator: Simulator) -> None:
    await simulator.faults(fail_next=3)
    assert (await charged(make(retries=3), request())).status == ProviderStatus.CAPTURED
    await simulator.faults(fail_next=4)
    await fails(make(retries=3).open(request()))
    assert await simulator.fault("fail_next") == 0


async def test_failing_charges_keep_nobody_from_a_refund(make: Make, simulator: Simulator) -> None:
    provider, paid = make(breaker_threshold=2, breaker_seconds=60), request()
    name = await opened(provider, paid)
    await provider.charge(name, paid)
    other = request()
    waiting = await opened(provider, other)
    await simulator.faults(fail_next=2)
    for _ in range(3):
        await fails(provider.charge(waiting, other))
    assert (await provider.reverse(name, "cancelled")).status == ProviderStatus.REFUNDED


async def test_declines_and_bad_requests_do_not_open_the_breaker(make: Make) -> None:
    provider = make(breaker_threshold=2, breaker_seconds=60)
    for _ in range(5):
        assert (await charged(provider, request("pm_card_visa_chargeDeclined"))).status == ProviderStatus.DECLINED
    for _ in range(5):
        with pytest.raises(NotUnderstood, match="404"):
            await provider.look("pi_nothing")
    assert (await charged(provider, request())).status == ProviderStatus.CAPTURED


async def test_a_wrong_api_key_is_a_fault_and_not_a_decline(make: Make, simulator: Simulator) -> None:
    with pytest.raises(NotUnderstood, match="401"):
        await make(api_key="wrong").open(request())
    assert await simulator.listed("payment_intents") == []


async def test_a_charge_that_the_provider_does_not_know_cannot_be_captured(make: Make) -> None:
    with pytest.raises(NotUnderstood, match="404"):
        await make().capture("pi_nothing", amount=usd("1.00"), key="capture", is_last=True)


async def test_opening_moves_no_money_and_tells_cards_apart(make: Make, simulator: Simulator) -> None:
    provider, wanted = make(), request("pm_card_visa_7")
    first, again = [await provider.open(wanted) for _ in range(2)]
    assert first == again
    same = await provider.open(ChargeRequest("another", wanted.amount, wanted.card_token, True, wanted.customer_id))
    assert (same.provider_id != first.provider_id, same.fingerprint) == (True, first.fingerprint)
    assert (await provider.open(request())).fingerprint != first.fingerprint
    assert first.provider_id is not None
    assert (await provider.look(first.provider_id)).status == ProviderStatus.OPEN
    assert await simulator.charges() == {}


async def test_a_card_that_nobody_knows_is_declined_when_the_charge_is_opened(make: Make) -> None:
    for capture in (True, False):
        found = await make().open(request("pm_card_of_nobody", capture=capture))
        assert (found.provider_id, found.decline and found.decline.code) == (None, "invalid_card_token")


@pytest.mark.parametrize("fault", ["lose_replies_next", "break_next"])
async def test_a_charge_whose_answer_was_lost_or_broken_is_made_once(make: Make, simulator: Simulator, fault: str) -> None:
    """`break_next`: it is carried out, and whoever repeats the request hears for a day that it failed."""
    provider, wanted = make(breaker_threshold=1_000), request()
    name = await opened(provider, wanted)
    await simulator.faults(**{fault: 1})
    await fails(provider.charge(name, wanted))
    assert (await provider.charge(name, wanted)).status == ProviderStatus.CAPTURED
    assert (await simulator.charges())[wanted.reference].captured == 12_50
    assert len(await simulator.listed("charges")) == 1


@pytest.mark.parametrize("fault", ["lose_replies_next", "break_next"])
async def test_captures_and_refunds_whose_answers_were_lost_or_broken_are_made_once(
    make: Make, simulator: Simulator, fault: str
) -> None:
    provider, name = make(breaker_threshold=1_000), await held(make)
    await simulator.faults(**{fault: 1})
    await fails(provider.capture(name, amount=usd("5.00"), key="parcel-1", is_last=False))
    part = await provider.capture(name, amount=usd("5.00"), key="parcel-1", is_last=False)
    assert (part.status, part.captured) == (ProviderStatus.AUTHORIZED, usd("5.00"))
    await simulator.faults(**{fault: 1})
    await fails(provider.refund(name, amount=usd("2.00"), key="line-1", reason="lost"))
    refund = await provider.refund(name, amount=usd("2.00"), key="line-1", reason="lost")
    assert (refund.state, refund.amount) == (ProviderMovementState.SUCCEEDED, usd("2.00"))
    await simulator.faults(**{fault: 1})
    await fails(provider.reverse(name, "cancelled"))
    charge = await provider.reverse(name, "cancelled")
    assert (charge.status, charge.captured, charge.refunded) == (ProviderStatus.REFUNDED, usd("5.00"), usd("5.00"))


async def test_what_is_held_is_taken_in_parts(make: Make) -> None:
    provider, name = make(), await held(make)
    for _ in range(2):
        first = await provider.capture(name, amount=usd("5.00"), key="parcel-1", is_last=False)
        assert (first.status, first.captured) == (ProviderStatus.AUTHORIZED, usd("5.00"))
        assert first.movement is not None
        assert (first.movement.state, first.movement.amount) == (ProviderMovementState.SUCCEEDED, usd("5.00"))
    last = await provider.capture(name, amount=usd("6.00"), key="parcel-2", is_last=True)
    assert (last.status, last.captured, last.held_until) == (ProviderStatus.CAPTURED, usd("11.00"), None)
    late = await provider.capture(name, amount=usd("1.50"), key="parcel-3", is_last=True)
    assert late.movement is not None
    assert (late.status, late.movement.state, late.movement.failure) == (
        ProviderStatus.CAPTURED,
        ProviderMovementState.FAILED,
        "not_capturable",
    )


async def test_a_provider_without_multi_capture_lets_go_of_the_rest(make: Make) -> None:
    provider, name = make(multi_capture=False), await held(make)
    charge = await provider.capture(name, amount=usd("5.00"), key="parcel-1", is_last=False)
    assert (charge.status, charge.captured, charge.held_until) == (ProviderStatus.CAPTURED, usd("5.00"), None)
    again = await provider.capture(name, amount=usd("5.00"), key="parcel-2", is_last=True)
    assert again.movement is not None
    assert again.movement.state == ProviderMovementState.FAILED


async def test_what_is_held_is_let_go_and_what_was_taken_stays(make: Make) -> None:
    provider, name = make(), await held(make)
    await provider.capture(name, amount=usd("5.00"), key="parcel-1", is_last=False)
    for _ in range(2):
        charge = await provider.release(name, "held anew")
        assert (charge.status, charge.captured, charge.held_until) == (ProviderStatus.CAPTURED, usd("5.00"), None)
    other = await held(make)
    for _ in range(2):
        assert (await provider.release(other, "held anew")).status == ProviderStatus.VOIDED


async def test_nothing_is_taken_of_a_hold_that_has_expired(make: Make, simulator: Simulator) -> None:
    command = pay(capture=False)
    provider, wanted = make(), charge_request(command)
    name = await opened(provider, wanted)
    await provider.charge(name, wanted)
    await simulator.expire(command)
    charge = await make().capture(name, amount=usd("12.50"), key="capture", is_last=True)
    assert (charge.status, charge.captured) == (ProviderStatus.VOIDED, usd("0"))
    assert charge.movement is not None
    assert charge.movement.state == ProviderMovementState.FAILED


async def test_parts_go_back_and_never_more_than_was_taken(make: Make) -> None:
    provider, name = make(), await taken(make)
    for _ in range(2):
        refund = await provider.refund(name, amount=usd("4.00"), key="parcel-1-lost", reason="lost")
        assert (refund.state, refund.amount) == (ProviderMovementState.SUCCEEDED, usd("4.00"))
    for _ in range(2):
        refused = await provider.refund(name, amount=usd("8.51"), key="too-much", reason="wrong")
        assert refused.state == ProviderMovementState.FAILED
    charge = await provider.reverse(name, "the rest")
    assert (charge.status, charge.refunded) == (ProviderStatus.REFUNDED, usd("12.50"))
    assert charge.movement is not None
    assert charge.movement.amount == usd("8.50")


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
    provider, name = make(), await taken(make, token)
    await simulator.faults(refund_ms=20)
    assert (await provider.refund(name, amount=usd("2.00"), key="part", reason="lost")).state == first

    async def ended() -> bool:
        refund = await provider.refund(name, amount=usd("2.00"), key="part", reason="lost")
        assert (refund.failure == "expired_or_canceled_card") == (refund.state == ProviderMovementState.FAILED)
        return refund.state == last

    await eventually(ended, what="the end of the refund")
    assert (await provider.look(name)).refunded == usd("0" if last == "failed" else "2.00")


async def test_a_reversal_tells_of_its_refund(make: Make, simulator: Simulator) -> None:
    provider = make()
    pending, refused = await taken(make, "pm_card_pendingRefund"), await taken(make, "pm_sim_refund_refused")
    await simulator.faults(refund_ms=60_000)
    for _ in range(2):
        charge = await provider.reverse(pending, "cancelled")
        assert charge.movement is not None
        assert (charge.status, charge.movement.state) == (ProviderStatus.REFUNDED, ProviderMovementState.PENDING)
        charge = await provider.reverse(refused, "cancelled")
        assert charge.movement is not None
        assert (charge.status, charge.movement.state) == (ProviderStatus.CAPTURED, ProviderMovementState.FAILED)


async def test_a_disputed_charge_gives_nothing_back(make: Make, simulator: Simulator) -> None:
    provider, paid = make(), request()
    name = await opened(provider, paid)
    await provider.charge(name, paid)
    dispute = await simulator.dashboard(f"charges/{paid.reference}/disputes", amount=10_00)
    refused = await provider.refund(name, amount=usd("3.00"), key="part", reason="lost")
    assert (refused.state, refused.failure) == (ProviderMovementState.FAILED, "charge_disputed")
    await simulator.dashboard(f"disputes/{dispute['id']}/win")
    refund = await provider.refund(name, amount=usd("3.00"), key="part-2", reason="lost")
    assert refund.state == ProviderMovementState.SUCCEEDED


async def test_of_two_reversals_at_once_neither_is_told_as_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, other, paid = make(), make(), request()
    name = await opened(provider, paid)
    await provider.charge(name, paid)
    reversals, waits = provider._reversals, [other.reverse(name, "cancelled")]

    async def overtaken(provider_id: str) -> list[Mapping[str, Any]]:
        while waits:  # after the charge was looked at
            await waits.pop()
        return await reversals(provider_id)

    monkeypatch.setattr(provider, "_reversals", overtaken)
    charge = await provider.reverse(name, "cancelled")
    assert charge.movement is not None
    assert (charge.status, charge.refunded, charge.movement.state) == (
        ProviderStatus.REFUNDED,
        paid.amount,
        ProviderMovementState.SUCCEEDED,
    )


async def test_where_a_charge_is_can_be_looked_up(make: Make) -> None:
    provider, paid, declined = make(), request(), request("pm_card_visa_chargeDeclined")
    names = [await opened(provider, each) for each in (paid, declined)]
    for name, each in zip(names, (paid, declined), strict=True):
        await provider.charge(name, each)
    assert [(await provider.look(name)).status for name in names] == [ProviderStatus.CAPTURED, ProviderStatus.DECLINED]


@pytest.mark.parametrize("is_confirmed", [True, False])
@pytest.mark.parametrize("capture", [True, False])
async def test_a_customer_confirms_at_the_bank_or_refuses(
    make: Make, simulator: Simulator, is_confirmed: bool, capture: bool
) -> None:
    command = pay("pm_card_authenticationRequired", capture=capture)
    provider, wanted = make(), charge_request(command)
    name = await opened(provider, wanted)
    for _ in range(2):
        charge = await provider.charge(name, wanted)
        assert charge.status == ProviderStatus.ACTION_REQUIRED
        assert charge.action is not None
        assert (charge.action.kind, charge.action.url is not None) == (ActionKind.REDIRECT, True)
    await simulator.act(command, "confirm" if is_confirmed else "refuse")
    charge = await provider.charge(name, wanted)
    if is_confirmed:
        assert charge.status == (ProviderStatus.CAPTURED if capture else ProviderStatus.AUTHORIZED)
    else:
        assert (charge.status, charge.decline and charge.decline.code) == (
            ProviderStatus.DECLINED,
            "payment_intent_authentication_failure",
        )


async def test_without_the_customer_such_a_card_is_declined(make: Make) -> None:
    charge = await charged(make(), request("pm_card_authenticationRequired", return_url=None))
    assert charge.decline is not None
    assert (charge.status, charge.decline.code) == (ProviderStatus.DECLINED, "authentication_required")


async def test_what_waits_for_the_customer_can_be_reversed(make: Make, simulator: Simulator) -> None:
    command = pay("pm_card_authenticationRequired")
    provider, wanted = make(), charge_request(command)
    name = await opened(provider, wanted)
    await provider.charge(name, wanted)
    for _ in range(2):
        assert (await provider.reverse(name, "too late")).status == ProviderStatus.REVERSED
    assert (await simulator.listed("charges")) == []


async def test_a_charge_that_is_reversed_before_a_bank_was_asked_is_never_made(make: Make) -> None:
    provider, wanted = make(), request()
    name = await opened(provider, wanted)
    assert (await provider.reverse(name, "cancelled")).status == ProviderStatus.REVERSED
    assert (await provider.charge(name, wanted)).status == ProviderStatus.REVERSED


async def test_a_charge_that_the_provider_wants_to_be_looked_at_is_taken_and_says_so(make: Make) -> None:
    charge = await charged(make(), request("pm_card_riskLevelElevated"))
    assert (charge.status, charge.captured) == (ProviderStatus.CAPTURED, usd("12.50"))
    assert charge.review is not None
    assert "elevated" in charge.review


async def test_a_card_that_is_held_with_can_be_held_with_again(make: Make, simulator: Simulator) -> None:
    """A payment method works once, unless it is kept for a customer."""
    method = await simulator.http.post("/v1/payment_methods", data={"type": "card", "card[token]": "tok_visa"})
    card = method.json()["id"]
    first = replace(request(capture=False), card_token=card)
    assert (await charged(make(), first)).status == ProviderStatus.AUTHORIZED
    again = replace(first, reference=f"{first.reference}-again")
    assert (await charged(make(), again)).status == ProviderStatus.AUTHORIZED
