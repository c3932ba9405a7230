"""What the provider tells without being asked, in whatever order it comes, and the list of what is owed then."""

import itertools
import json
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from chassis.clients import Unavailable
from chassis.database import Database
from chassis.dependencies import provide, provided
from chassis.tokens import TokenVerifier
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from contracts.money import Money
from contracts.payments import MovementState, PaymentStatus, ProcessPayment
from services.payment import commands
from services.payment.adapters import StripePayments
from services.payment.app import PaymentSettings, build
from services.payment.model import Debt, DebtKind, Dispute, Movement, NewsItem, NewsState, Payment
from services.payment.ports import DisputeState, PaymentProvider, ProviderNews
from simulators.stripe.app import signed_with
from tests.conftest import Databases, TokenMint, eventually
from tests.contract.parties import a_day_later
from tests.services.payment.conftest import (
    API_KEY,
    WEBHOOK_SECRET,
    Simulator,
    assert_books_agree,
    event_types,
    events_of,
    news_of,
    pay,
    persist,
    refund_of,
)
from tests.services.shipping.conftest import listening

PATH = "/api/v1/payments/webhook"
AT_ONCE = timedelta(0)


async def paid(
    database: Database, provider: StripePayments, token: str = "pm_card_visa", *, capture: bool = True
) -> ProcessPayment:
    payment = pay(token, capture=capture)
    await commands.process_payment(database, provider, payment)
    return payment


async def rows_of(database: Database, kind: type[Any], *conditions: Any) -> list[Any]:
    async with database.reading() as session:
        return list((await session.exec(select(kind).where(*conditions))).all())


async def payment_row(database: Database, order_id: UUID) -> Payment:
    [row] = await rows_of(database, Payment, col(Payment.order_id) == order_id)
    assert isinstance(row, Payment)
    return row


async def refunds_of(database: Database, order_id: UUID) -> list[Movement]:
    payment = await payment_row(database, order_id)
    return await rows_of(database, Movement, col(Movement.payment_id) == payment.payment_id, col(Movement.kind) == "refund")


async def owed(database: Database) -> list[tuple[DebtKind, str, str]]:
    return [(debt.kind, str(debt.amount), debt.why) for debt in await rows_of(database, Debt, col(Debt.settled_at).is_(None))]


async def tell(database: Database, *news: ProviderNews) -> None:
    for each in news:
        await commands.apply_news(database, each)


async def settle(database: Database, provider: StripePayments, **options: Any) -> None:
    """Do what the job does, and do not wait for the time of its next try."""
    async with database.reading() as session:
        waiting = (await session.exec(select(NewsItem).where(NewsItem.state == NewsState.WAITING))).all()
    for item in waiting:
        await commands.news._settle(database, provider, item, options.get("give_up_after", timedelta(hours=1)))


async def test_a_refund_of_the_dashboard_is_recorded_and_told_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await paid(database, provider)
    made = await simulator.dashboard(f"charges/{payment.order_id}-1/refunds", amount=3_00, reason="goodwill")
    told = await news_of(database, payment, "refund", "succeeded", "3.00", movement_id=made["id"])
    await tell(database, told, told, await news_of(database, payment, "refund", "succeeded", "3.00", movement_id=made["id"]))
    [refund] = await refunds_of(database, payment.order_id)
    assert (refund.state, refund.purpose, refund.provider_id) == (MovementState.SUCCEEDED, "made at the provider", made["id"])
    [event] = [each for each in await events_of(database, payment.order_id) if each["type"] == "RefundProcessed"]
    assert (event["data"]["amount"]["amount"], event["data"]["movement_key"]) == ("3.00", refund.key)
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 9_50}


STATES = ("pending", "succeeded", "failed")


@pytest.mark.parametrize("order", list(itertools.permutations(STATES)))
@pytest.mark.parametrize("ours", [True, False], ids=["asked by us", "dashboard"])
async def test_a_refund_s_news_in_every_order_ends_alike(
    database: Database, provider: StripePayments, simulator: Simulator, order: tuple[str, ...], ours: bool
) -> None:
    await simulator.faults(refund_ms=60_000)
    payment = await paid(database, provider, "pm_card_pendingRefund")
    if ours:
        await commands.refund_payment(database, provider, refund_of(payment))
        [asked] = await refunds_of(database, payment.order_id)
        movement_id, amount = asked.provider_id, "12.50"
    else:
        movement_id, amount = f"re_{uuid4().hex}", "2.00"
    for state in order:
        reason = "expired_or_canceled_card" if state == "failed" else None
        told = await news_of(
            database, payment, "refund", state, amount, movement_id=movement_id, key="undo" if ours else None, reason=reason
        )
        await tell(database, told, told)
    [refund] = await refunds_of(database, payment.order_id)
    assert (refund.state, refund.failure) == (MovementState.FAILED, "expired_or_canceled_card")
    row = await payment_row(database, payment.order_id)
    assert (row.status, row.refunded_minor) == (PaymentStatus.CAPTURED, 0)
    assert await owed(database) == [(DebtKind.FAILED_REFUND, f"{amount} USD", "expired_or_canceled_card")]
    types = await event_types(database, payment.order_id)
    assert types.count("RefundFailed") == 1
    [failed] = [each["data"] for each in await events_of(database, payment.order_id) if each["type"] == "RefundFailed"]
    assert failed["was_processed"] == ("RefundProcessed" in types)
    # The order's saga asked for it and was told that it is under way; of the dashboard's it knows nothing.
    owes = [each["data"] for each in await events_of(database, payment.order_id) if each["type"] == "RefundOwed"]
    told_of = [(data["attempt"], data["movement_key"], data["amount"]["amount"], data["failure"]) for data in owes]
    assert told_of == ([(1, "undo", "12.50", "expired_or_canceled_card")] if ours else [])


async def test_what_fails_before_the_answer_is_recorded_stays_failed(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await paid(database, provider)
    part = refund_of(payment).model_copy(update={"amount": payment.amount, "key": "part"})
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, part)
    [made] = await simulator.listed("refunds")
    await simulator.dashboard(f"refunds/{made['id']}/fail")
    reason = "expired_or_canceled_card"
    await tell(
        database, await news_of(database, payment, "refund", "failed", "12.50", movement_id=made["id"], key="part", reason=reason)
    )
    assert "RefundProcessed" not in await event_types(database, payment.order_id)
    refused = await persist(partial(commands.refund_payment, database, provider, part))
    assert isinstance(refused, Refusal)
    assert refused.code == ErrorCode.REFUND_FAILED
    assert await owed(database) == [(DebtKind.FAILED_REFUND, "12.50 USD", reason)]


async def test_news_of_an_undo_before_its_answer_waits_for_it(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await paid(database, provider)
    await simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.refund_payment(database, provider, refund_of(payment))
    [made] = await simulator.listed("refunds")
    told = await news_of(database, payment, "refund", "succeeded", "12.50", movement_id=made["id"], key=made["metadata"]["key"])
    await tell(database, told)
    await settle(database, provider)
    [item] = await rows_of(database, NewsItem)
    assert item.state == NewsState.WAITING
    await commands.refund_payment(database, provider, refund_of(payment))
    await settle(database, provider)
    [item] = await rows_of(database, NewsItem)
    assert item.state == NewsState.APPLIED
    assert (await event_types(database, payment.order_id)).count("RefundProcessed") == 1
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}


async def test_news_before_the_answer_to_the_charge_makes_our_books_right(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = pay("pm_sim_lost_reply")
    with pytest.raises(Unavailable):
        await commands.process_payment(database, provider, payment)
    made = await simulator.dashboard(f"charges/{payment.order_id}-1/refunds", amount=3_00)
    await tell(database, await news_of(database, payment, "refund", "succeeded", "3.00", movement_id=made["id"]))
    await tell(database, await news_of(database, payment, "charge", "captured", "12.50"))
    await settle(database, provider)
    assert {item.state for item in await rows_of(database, NewsItem)} == {NewsState.APPLIED}
    assert (await payment_row(database, payment.order_id)).status == PaymentStatus.CAPTURED
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.CAPTURED
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed", "RefundProcessed"]
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 9_50}


async def test_a_hold_that_expired_is_let_go_of(database: Database, provider: StripePayments, simulator: Simulator) -> None:
    payment = await paid(database, provider, capture=False)
    await simulator.dashboard(f"charges/{payment.order_id}-1/expire")
    told = await news_of(database, payment, "charge", "voided", "0.00", reason="expired")
    await tell(database, told, told)
    await settle(database, provider)
    await tell(database, await news_of(database, payment, "charge", "authorized", "0.00"))  # what was true before
    await settle(database, provider)
    row = await payment_row(database, payment.order_id)
    assert (row.status, row.voided_minor) == (PaymentStatus.VOIDED, 12_50)
    assert {item.state for item in await rows_of(database, NewsItem)} == {NewsState.APPLIED}
    await assert_books_agree(database, simulator)


@pytest.mark.parametrize("order", list(itertools.permutations(["open", "lost"])))
async def test_a_dispute_that_is_lost_is_owed(database: Database, provider: StripePayments, order: tuple[str, ...]) -> None:
    payment = await paid(database, provider)
    for state in (*order, *order):
        await tell(database, await news_of(database, payment, "dispute", state, "5.00", movement_id="dp_1", reason="fraudulent"))
    [dispute] = await rows_of(database, Dispute)
    assert (dispute.state, dispute.order_id, str(dispute.amount)) == (DisputeState.LOST, payment.order_id, "5.00 USD")
    told = [(each["type"], each["data"].get("won")) for each in await events_of(database, payment.order_id)][2:]
    assert told == [("PaymentDisputed", None), ("DisputeClosed", False)]
    assert await owed(database) == [(DebtKind.LOST_DISPUTE, "5.00 USD", "fraudulent")]


async def test_a_dispute_that_is_won_is_over(database: Database, provider: StripePayments) -> None:
    payment = await paid(database, provider)
    for state in ("open", "won", "lost"):
        await tell(database, await news_of(database, payment, "dispute", state, "5.00", movement_id="dp_2"))
    [dispute] = await rows_of(database, Dispute)
    assert dispute.state == DisputeState.WON
    assert await owed(database) == []


@pytest.mark.parametrize(
    ("kind", "state", "is_owed"),
    [("charge", "captured", True), ("refund", "failed", True), ("dispute", "open", True), ("charge", "voided", False)],
)
async def test_news_of_an_unknown_order_is_kept_and_told(
    database: Database, provider: StripePayments, kind: str, state: str, is_owed: bool
) -> None:
    told = await news_of(database, pay(), kind, state, "7.00", movement_id=None if kind == "charge" else "x_1")
    await tell(database, told, told)
    await settle(database, provider)
    [item] = await rows_of(database, NewsItem)
    assert item.state == NewsState.WAITING
    await settle(database, provider, give_up_after=AT_ONCE)
    [item] = await rows_of(database, NewsItem)
    assert item.state == NewsState.UNMATCHED
    assert await owed(database) == ([(DebtKind.UNMATCHED, "7.00 USD", f"{kind} {state}")] if is_owed else [])


@pytest.mark.parametrize("reference", [None, "somebody's", "6b1e5e1e-0000-4000-8000-000000000000-1"])
async def test_a_charge_that_is_not_ours_is_unmatched_until_it_went_back(
    database: Database, provider: StripePayments, reference: str | None
) -> None:
    told = [await news_of(database, pay(), "charge", state, "7.00") for state in ("captured", "refunded")]
    for each in told:
        await tell(database, ProviderNews(**{**{name: getattr(each, name) for name in each.__slots__}, "reference": reference}))
        await settle(database, provider, give_up_after=AT_ONCE)
        assert len(await owed(database)) == (1 if each.state == "captured" else 0)


async def test_a_failed_refund_is_tried_again_until_it_went_well(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    await simulator.faults(refund_ms=0)
    payment = await paid(database, provider, "pm_sim_refund_refused")
    part = refund_of(payment).model_copy(update={"amount": payment.amount, "key": "parcel-1"})
    refused = await persist(partial(commands.refund_payment, database, provider, part))
    assert isinstance(refused, Refusal)
    row = await payment_row(database, payment.order_id)
    for tries in (2, 3):
        with pytest.raises(Refusal) as again:
            await commands.refund_again(database, provider, row.payment_id, "parcel-1")
        assert again.value.code == ErrorCode.REFUND_FAILED
        assert len(await refunds_of(database, payment.order_id)) == tries
    assert await owed(database) == [(DebtKind.FAILED_REFUND, "12.50 USD", "expired_or_canceled_card")]
    simulator.control("UPDATE charges SET card = 'pm_card_visa'")
    movement = await commands.refund_again(database, provider, row.payment_id, "parcel-1")
    assert (movement.state, movement.key) == (MovementState.SUCCEEDED, "parcel-1:4")
    assert await owed(database) == []
    same = await commands.refund_again(database, provider, row.payment_id, "parcel-1")
    assert same.movement_id == movement.movement_id
    assert await assert_books_agree(database, simulator) == {f"{payment.order_id}-1": 0}
    with pytest.raises(Refusal, match="no such refund"):
        await commands.refund_again(database, provider, row.payment_id, "parcel-2")


async def test_only_the_provider_may_tell_and_only_admins_settle(
    client: httpx2.AsyncClient, mint: TokenMint, simulator: Simulator
) -> None:
    payment = pay("pm_sim_refund_refused")
    service, admin, support = (mint.headers(role) for role in (Role.SERVICE, Role.ADMIN, Role.SUPPORT))
    await client.post("/internal/v1/payments/process", json=payment.model_dump(mode="json"), headers=service)
    part = refund_of(payment).model_copy(update={"amount": payment.amount, "key": "parcel-1"})
    answer = await client.post("/internal/v1/payments/refund", json=part.model_dump(mode="json"), headers=service)
    assert (answer.status_code, answer.json()["code"]) == (409, "refund_failed")

    [debt] = (await client.get("/api/v1/payments/owed", headers=support)).json()["items"]
    assert (debt["kind"], debt["order_id"], debt["amount"]["amount"]) == ("failed_refund", str(payment.order_id), "12.50")
    retry, by_hand = (call.removeprefix("POST ") for call in debt["settle_with"])
    assert (await client.post(retry, headers=support)).status_code == 403
    assert (await client.post(retry, headers=admin)).json()["code"] == "refund_failed"
    settled = await client.post(by_hand, json={"reason": "bank transfer 4711"}, headers=admin)
    assert (settled.status_code, settled.json()["settled_how"], settled.json()["settle_with"]) == (200, "bank transfer 4711", [])
    assert (await client.post(by_hand, json={"reason": "another"}, headers=admin)).json()["code"] == "conflict"
    assert (await client.get("/api/v1/payments/owed", headers=support)).json()["items"] == []
    assert len((await client.get("/api/v1/payments/owed", params={"settled": True}, headers=support)).json()["items"]) == 1
    assert (await client.get("/api/v1/payments/owed", headers=mint.headers(Role.CUSTOMER))).status_code == 403

    [intent] = await simulator.listed("payment_intents")
    dispute = {"object": "dispute", "id": "dp_1", "payment_intent": intent["id"], "charge": intent["latest_charge"]}
    dispute |= {"amount": 500, "currency": "usd", "status": "needs_response", "reason": "fraudulent"}
    event = {"object": "event", "id": "evt_1", "created": int(time.time()), "type": "charge.dispute.created"}
    body = json.dumps(event | {"data": {"object": dispute}})
    now = int(time.time())
    old = signed_with(WEBHOOK_SECRET)(body, now - 3_600)
    for headers in ({}, signed_with("another secret")(body, now), old):
        response = await client.post(PATH, content=body, headers={"Content-Type": "application/json", **headers})
        assert (response.status_code, response.json()["code"]) == (401, "invalid_signature")
    foreign = json.dumps(event | {"type": "customer.created", "data": {"object": {"object": "customer", "id": "cus_1"}}})
    no_state = body.replace("needs_response", "unheard_of")
    for content, status in ((body, 204), (body, 204), (foreign, 204), (no_state, 204), ("{", 400), ('{"id": "evt_1"}', 503)):
        signed = {"Content-Type": "application/json", **signed_with("another secret", WEBHOOK_SECRET)(content, now)}
        assert (await client.post(PATH, content=content, headers=signed)).status_code == status
    [dispute] = (await client.get("/api/v1/payments/disputes", params={"state": "open"}, headers=support)).json()["items"]
    assert (dispute["order_id"], dispute["reason"]) == (str(payment.order_id), "fraudulent")
    assert (await client.get("/api/v1/payments/news", headers=support)).json()["items"] == []


async def test_from_the_provider_s_dashboard_to_the_list_of_what_is_owed(
    databases: Databases, mint: TokenMint, tmp_path: Path
) -> None:
    """The simulator signs and sends by itself, over sockets both ways: before its answers, twice, and newest first."""
    shop: dict[str, Any] = {}

    async def gate(scope: Any, receive: Any, send: Any) -> None:
        await shop["api"](scope, receive, send)

    async with listening(gate) as shop_url:
        simulator = Simulator(tmp_path, shop_url + PATH)
        await simulator.start()
        settings = PaymentSettings(
            database_url=await databases.new("payment"),
            payment_provider_url=simulator.url,
            payment_provider_api_key=SecretStr(API_KEY),
            payment_webhook_secret=SecretStr(WEBHOOK_SECRET),
        )
        service = build(settings)
        provide(service.api, TokenVerifier, mint.verifier("payment"))
        shop["api"] = service.api
        internal, support = mint.headers(Role.SERVICE), mint.headers(Role.SUPPORT)
        async with service.opened(), httpx2.AsyncClient(base_url=shop_url, headers=internal) as client:
            await simulator.faults(webhooks_early=True, webhooks_twice=True, refund_ms=300)
            payment = pay("pm_card_refundFail")
            charged = await client.post("/internal/v1/payments/process", json=payment.model_dump(mode="json"))
            assert charged.json()["status"] == "CAPTURED"
            undone = await client.post("/internal/v1/payments/refund", json=refund_of(payment).model_dump(mode="json"))
            assert undone.status_code == 200, undone.text
            other = pay()
            await client.post("/internal/v1/payments/process", json=other.model_dump(mode="json"))
            await simulator.faults(webhooks_early=False, webhooks_held=True, webhooks_newest_first=True)
            dispute = await simulator.dashboard(f"charges/{other.order_id}-1/disputes", amount=2_00)
            await simulator.dashboard(f"disputes/{dispute['id']}/lose")
            await simulator.faults(webhooks_held=False)

            provider = provided(service.api, PaymentProvider)

            async def listed() -> bool:
                await commands.settle_news(service.database, provider)
                page = (await client.get("/api/v1/payments/owed", headers=support)).json()
                found = {(debt["kind"], debt["order_id"]) for debt in page["items"]}
                return found == {("failed_refund", str(payment.order_id)), ("lost_dispute", str(other.order_id))}

            await eventually(listed, what="what is owed")
        await simulator.http.aclose()
        await simulator.stop()


async def test_an_undo_of_a_disputed_charge_is_tried_now_and_then_and_told_once(
    database: Database, provider: StripePayments, simulator: Simulator
) -> None:
    payment = await paid(database, provider)
    dispute = await simulator.dashboard(f"charges/{payment.order_id}-1/disputes", reason="fraudulent")
    for tries in (1, 2):
        for _ in range(3):
            with pytest.raises(Refusal, match=r"not give 12\.50 USD back") as refused:
                await commands.refund_payment(database, provider, refund_of(payment))
            assert (refused.value.code, refused.value.extra["failure"]) == (ErrorCode.REFUND_FAILED, "charge_disputed")
        assert [row.key for row in await refunds_of(database, payment.order_id)] == ["undo", "undo:2"][:tries]
        await a_day_later(database)
    assert (await event_types(database, payment.order_id)).count("RefundFailed") == 1
    assert await owed(database) == [(DebtKind.FAILED_REFUND, "12.50 USD", "charge_disputed")]
    await simulator.dashboard(f"disputes/{dispute['id']}/win")
    simulator.control("DELETE FROM idempotency_keys")
    undone = await commands.refund_payment(database, provider, refund_of(payment))
    assert (undone.status, undone.refunded) == (PaymentStatus.REFUNDED, payment.amount)
    assert await owed(database) == []


@pytest.mark.parametrize("order", ["refund, dispute", "dispute, refund"])
async def test_what_the_bank_gave_back_is_not_owed_a_second_time(
    database: Database, provider: StripePayments, simulator: Simulator, order: str
) -> None:
    """A refund that failed, and a dispute that was lost, of the same money: whoever pays from the list pays it once."""
    payment = await paid(database, provider)
    made = await simulator.dashboard(f"charges/{payment.order_id}-1/disputes", amount=10_00)

    async def loses() -> None:
        told = await news_of(database, payment, "dispute", "lost", "10.00", movement_id=made["id"], reason="fraudulent")
        await tell(database, told, told)

    async def refunds(minor: int, key: str) -> None:
        amount = Money.from_minor(minor, "USD")
        part = refund_of(payment).model_copy(update={"amount": amount, "key": key})
        with pytest.raises(Refusal):
            await commands.refund_payment(database, provider, part)

    if order == "dispute, refund":
        await loses()
    await refunds(9_00, "parcel-1")
    await refunds(11_00, "parcel-2")
    if order == "refund, dispute":
        await loses()
    lost, more = (DebtKind.LOST_DISPUTE, "10.00 USD", "fraudulent"), (DebtKind.FAILED_REFUND, "11.00 USD", "charge_disputed")
    assert sorted(await owed(database)) == [more, lost]
    [settled] = await rows_of(database, Debt, col(Debt.settled_at).is_not(None))
    assert (settled.key, settled.settled_how) == ("parcel-1", f"the bank gave it back: dispute {made['id']}")
