"""`commerce orders`: where an order is and why; and an order whose workflow was lost is found, and repaired."""

import json
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from audit import AuditReport, AuditSettings, command, run_audit
from contracts.errors import ErrorCode
from contracts.ids import order_workflow_id
from contracts.orders import CancelRequest, OrderStatus
from services.order.commands import find_order
from temporal.client import TemporalSettings, connect
from tests.audit.conftest import Shop, place_order
from tests.cli.conftest import Command
from tests.conftest import eventually

S = OrderStatus
WHY = ("--reason", "terminated by mistake", "--by", "ann")


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAUSE_S", 0.05)


async def lose(shop: Shop, order_id: UUID) -> None:
    """End its workflow as no workflow should be ended, and wait until Temporal says so to everybody."""
    client = await connect(TemporalSettings(temporal_address=shop.env["TEMPORAL_ADDRESS"]))
    await client.get_workflow_handle(order_workflow_id(order_id)).terminate("by mistake")
    listed = f"WorkflowId = '{order_workflow_id(order_id)}' AND ExecutionStatus = 'Terminated'"

    async def is_listed() -> bool:
        return bool(await shop.sagas.count(listed))

    await eventually(is_listed, timeout_s=60, what="the terminated workflow in Temporal's list")


async def reaches(shop: Shop, order_id: UUID, status: OrderStatus) -> None:
    async def is_there() -> bool:
        await shop.spread_news()
        order = await find_order(shop.databases["order"], order_id)
        return order is not None and order.status == status

    await eventually(is_there, timeout_s=60, what=f"order {status}")


async def at_rest(shop: Shop) -> AuditReport:
    """The audit, once nothing moves any more."""

    async def is_quiet() -> bool:
        await shop.send_messages()
        await shop.give_labels_back()
        await shop.spread_news()
        return not (await run_audit(AuditSettings.of(shop.env))).in_flight

    await eventually(is_quiet, timeout_s=60, what="nothing in flight")
    return await run_audit(AuditSettings.of(shop.env))


def env_of(shop: Shop) -> dict[str, str]:
    return shop.env | {"COLUMNS": "200"}


async def test_an_order_is_shown_with_what_it_waits_for_and_what_happened(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    result = await commerce(env_of(shop), "orders", "show", order_id)
    assert result.exit_code == 0, result.output
    for words in (
        "CONFIRMED",
        "the warehouse to dispatch",
        "23.40 USD",
        f"order-{order_id}",
        "Goods reserved",
        "at warehouse 410",
    ):
        assert words in result.stdout
    shown = json.loads((await commerce(env_of(shop), "orders", "show", order_id, "--json")).stdout)
    assert (shown["status"], shown["parcels"][0]["status"], shown["stuck_undos"]) == ("CONFIRMED", "BOOKED", [])
    await shop.dispatch(order_id)
    await reaches(shop, order_id, S.SHIPPED)
    await shop.hear(order_id, "lost")
    await reaches(shop, order_id, S.UNDELIVERED)
    result = await commerce(env_of(shop), "orders", "show", order_id)
    assert "refund, resend, wait" in result.stdout
    unknown = await commerce(env_of(shop), "orders", "show", uuid4())
    assert unknown.exit_code == 1
    assert "There is no order" in unknown.output


async def test_lost_workflow_is_found_and_repaired(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    await lose(shop, order_id)
    report = await at_rest(shop)
    assert [(each.rule, each.order_id) for each in report.violations] == [("workflow_is_not_lost", order_id)]
    left = report.violations[0].found
    assert "the reservation of parcel 1" in left
    assert "parcel 1 (BOOKED, the carrier says booked)" in left
    assert "23.40 USD taken" in left
    shown = await commerce(env_of(shop), "orders", "show", order_id)
    assert "its workflow was lost" in shown.stdout

    repaired = await commerce(env_of(shop), "orders", "repair", order_id, *WHY)
    assert repaired.exit_code == 0, repaired.output
    await reaches(shop, order_id, S.CANCELLED)
    report = await at_rest(shop)
    assert report.violations == []
    again = await commerce(env_of(shop), "orders", "repair", order_id, *WHY)
    assert again.exit_code == 1
    assert "has ended" in again.output


async def test_lost_workflow_of_an_order_that_was_being_placed_is_undone(shop: Shop, commerce: Command) -> None:
    await shop.control("CARRIER_URL", "/_control/faults", {"fail_next": 60_000})
    order = place_order(shop.customer_id, "pm_card_visa")
    try:
        await shop.accept(order)
        assert await shop.sagas.place(order, "place", timedelta(seconds=1)) is None

        async def is_paid() -> bool:
            state = await shop.sagas.state(order.order_id)
            return state is not None and "create shipment" in state.waiting_for

        await eventually(is_paid, timeout_s=60, what="the saga at its third step")
        await lose(shop, order.order_id)
    finally:
        await shop.control("CARRIER_URL", "/_control/faults", {"fail_next": 0})
    repaired = await commerce(env_of(shop), "orders", "repair", order.order_id, *WHY)
    assert repaired.exit_code == 0, repaired.output
    await reaches(shop, order.order_id, S.CANCELLED)
    row = await find_order(shop.databases["order"], order.order_id)
    assert row is not None
    assert (row.code, row.refunded_minor) == (ErrorCode.CANCELLED_BY_REQUEST, row.total_minor)
    assert (await at_rest(shop)).violations == []


async def test_lost_workflow_whose_parcel_has_left_is_followed(shop: Shop, commerce: Command) -> None:
    """The carrier's word came when there was no workflow to hear it."""
    order_id, _ = await shop.place()
    await lose(shop, order_id)
    await shop.dispatch(order_id)
    repaired = await commerce(env_of(shop), "orders", "repair", order_id, *WHY)
    assert repaired.exit_code == 0, repaired.output
    await reaches(shop, order_id, S.SHIPPED)
    await shop.deliver(order_id)
    await reaches(shop, order_id, S.COMPLETED)
    assert (await at_rest(shop)).violations == []


async def test_lost_workflow_of_a_confirmed_order_may_go_on(shop: Shop, commerce: Command) -> None:
    order_id, _ = await shop.place()
    await lose(shop, order_id)
    repaired = await commerce(env_of(shop), "orders", "repair", order_id, "--go-on", *WHY)
    assert repaired.exit_code == 0, repaired.output
    running = await commerce(env_of(shop), "orders", "repair", order_id, *WHY)
    assert running.exit_code == 1
    assert "runs; there is nothing to repair" in running.output
    assert (await at_rest(shop)).violations == []
    await shop.dispatch(order_id)
    await reaches(shop, order_id, S.SHIPPED)
    await shop.deliver(order_id)
    await reaches(shop, order_id, S.COMPLETED)
    assert (await at_rest(shop)).violations == []


async def test_an_order_whose_saga_is_still_to_be_started_is_not_repaired(shop: Shop, commerce: Command) -> None:
    order = place_order(shop.customer_id, "pm_card_visa")
    await shop.accept(order)
    shown = await commerce(env_of(shop), "orders", "show", order.order_id)
    assert "its saga to be started" in shown.stdout
    refused = await commerce(env_of(shop), "orders", "repair", order.order_id, *WHY)
    assert refused.exit_code == 1
    assert "still to be started" in refused.output
    assert await shop.sagas.start(order, "place")
    await reaches(shop, order.order_id, S.CONFIRMED)


async def test_what_an_undo_that_was_given_up_leaves_open_is_told_with_who_gave_it_up(shop: Shop, commerce: Command) -> None:
    """The last test here: the books stay wrong, as they should."""
    order_id, _ = await shop.place()
    await shop.control("PAYMENT_PROVIDER_URL", "/_control/faults", {"fail_next": 60_000})
    try:
        await shop.sagas.cancel(order_id, CancelRequest(reason="changed my mind"), "cancel", timedelta(seconds=1))

        async def is_stuck() -> bool:
            return any(undo.order_id == order_id for undo in await shop.sagas.stuck())

        await eventually(is_stuck, timeout_s=120, what="the stuck refund")
        settle = ("undo", "settle", order_id, "refund-payment", "--give-up", "--reason", "disputed", "--by", "ann")
        for wrong in ("99.00", "0.001", "-1", "much"):
            refused = await commerce(env_of(shop), *settle, "--refunded", wrong)
            assert refused.exit_code == 1, refused.output
        settled = await commerce(env_of(shop), *settle)
        assert settled.exit_code == 0, settled.output
    finally:
        await shop.control("PAYMENT_PROVIDER_URL", "/_control/faults", {"fail_next": 0})
    await reaches(shop, order_id, S.CANCELLED)
    violations = (await at_rest(shop)).violations
    still_out = {"money_in_our_ledger", "money_at_the_provider"}
    never_answered = {"movements_are_answered", "refunds_agree"}
    assert {violation.rule for violation in violations} == still_out | never_answered
    assert {violation.order_id for violation in violations} == {order_id}
    assert all("(undo given up: refund-payment: by ann: disputed)" in violation.found for violation in violations)
