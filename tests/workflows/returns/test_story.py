"""The stories of returns, exchanges and claims, each to its end."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from contracts.errors import ErrorCode
from contracts.ids import replacement_id_for
from contracts.money import Money
from contracts.orders import LineRequest, OrderStatus
from contracts.returns import (
    Condition,
    ReplacementEnded,
    Resolution,
    ReturnKind,
    ReturnReason,
    ReturnStatus,
    ReturnTerms,
    SendBack,
)
from contracts.shipments import ShipmentStatus
from temporal.retries import OUTSIDE
from testing.model import World
from testing.model.world import WAREHOUSE, refused, unavailable
from testing.return_sagas import ANN, DAY, ReturnSaga, everything, paid, return_run
from testing.sagas import place_order
from tests.workflows.returns.conftest import BeginReturn

_S = ReturnStatus
CAME = [_S.REQUESTED, _S.APPROVED, _S.RECEIVED, _S.SETTLING, _S.COMPLETED]
WAITS_FOR_GOODS = "to send the goods back"
DAMAGED = ReturnReason.DAMAGED
FEES = ReturnTerms(restocking_percent=10, damaged_percent=50, label_cost=Money(amount=Decimal("1.50"), currency="USD"))
LOOKED_AT = ReturnTerms(needs_approval=True)
INSTEAD = (LineRequest(product_id="cheese", quantity=1),)


def usd(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="USD")


async def ends(saga: ReturnSaga, *path: ReturnStatus) -> None:
    """It ends, and its record knows it."""
    state = await saga.handle.result()
    assert state.status == path[-1]
    assert saga.record.history == [*path]
    assert (state.waiting_for, state.due_at, state.stuck_undos) == ("nothing", None, ())


async def test_a_return_comes_back_and_its_price_goes_back(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run()) as saga:
        state = await saga.waits_for(WAITS_FOR_GOODS)
        assert state.status == _S.APPROVED
        assert state.then == "it expires"
        assert (saga.record.last.tracking_number, saga.record.last.due_at) == ("RET1", state.due_at)
        assert (await saga.receive(*everything())).status != _S.APPROVED
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}
    assert saga.record.last.refunded == usd("23.40")
    assert {shelf: it.restocked for shelf, it in world.inventory.shelves[WAREHOUSE].items()} == {"milk": 2, "cheese": 1}
    assert world.labels_of(saga.run.order_id) == {1: ShipmentStatus.CANCELLED}  # nothing came by it


async def test_fees_are_kept_and_damage_is_written_off(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run(terms=FEES)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything(cheese="damaged"))
        await ends(saga, *CAME)
    # milk 5.40; cheese 18.00 at 50 %; 10 % restocking of 5.40 and of 9.00; 1.50 for the label
    assert saga.given == {"return-1": "11.46"}
    assert [it.condition for it in saga.record.last.came or ()] == [Condition.GOOD, Condition.DAMAGED]
    assert world.inventory.shelves[WAREHOUSE]["cheese"].restocked == 0


async def test_what_did_not_come_is_not_paid_for(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive({"line_id": 1, "quantity": 1, "condition": "good"})
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "2.70"}


async def test_nothing_came_at_all(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run(resolution=Resolution.EXCHANGE, exchange_for=INSTEAD)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive()
        await ends(saga, *CAME)
    assert saga.given == {}
    assert saga.record.last.detail == "Nothing came back."
    assert not {"ReceiveReturn", "PlaceReplacement", "GiveBack"} & set(world.calls)


async def test_a_return_without_a_label_books_none(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run(send_back=SendBack.DROP_OFF)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.report("LOST")  # of a parcel that is none of ours
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert not {"CreateReturnLabel", "CancelReturnLabel"} & set(world.calls)


async def test_goods_that_no_carrier_fetches_are_brought(begin: BeginReturn) -> None:
    world = World()
    world.before["CreateReturnLabel"] = [refused(ErrorCode.ADDRESS_UNDELIVERABLE)]
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.tells("No parcel can be booked")
        assert saga.record.last.tracking_number is None
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert "CancelReturnLabel" not in world.calls


async def test_a_label_that_cannot_be_booked_for_long_may_have_been_booked_all_the_same(
    begin: BeginReturn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hour here, in place of half a day, in which it would be tried for minutes."""
    monkeypatch.setattr("workflows.returns.steps.OUTSIDE", replace(OUTSIDE, give_up_after=timedelta(hours=1)))
    world = World()
    world.after["CreateReturnLabel"] = [unavailable] * 10_000
    async with begin(world, return_run()) as saga:
        await saga.calls("CreateReturnLabel", 3)
        await saga.later(3600)
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.cancel()
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.CANCELLED)
    assert world.labels_of(saga.run.order_id) == {1: ShipmentStatus.CANCELLED}


# ── Decisions and deadlines ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_somebody_approves(begin: BeginReturn) -> None:
    async with begin(World(), return_run(terms=LOOKED_AT)) as saga:
        state = await saga.waits_for("approve or reject")
        assert (state.status, state.then) == (_S.REQUESTED, "it is approved")
        assert (await saga.update("approve", ANN)).status == _S.APPROVED
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert saga.record.words[0].for_staff == "by ann: looked at it"


@pytest.mark.parametrize("how", ["update", "signal"])
async def test_somebody_rejects(begin: BeginReturn, how: str) -> None:
    async with begin(World(), return_run(terms=LOOKED_AT)) as saga:
        if how == "update":
            assert (await saga.update("reject", ANN)).status == _S.REJECTED
        else:
            await saga.handle.signal("reject", ANN)
        await ends(saga, _S.REQUESTED, _S.REJECTED)
    assert saga.record.last.code == ErrorCode.REVIEW_REJECTED
    assert saga.record.last.detail is None  # what staff wrote is not for the customer


async def test_nobody_decides_about_a_return(begin: BeginReturn) -> None:
    async with begin(World(), return_run(terms=LOOKED_AT)) as saga:
        await saga.later(3 * DAY)
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert saga.record.last.code is None


async def test_nobody_decides_about_a_claim(begin: BeginReturn) -> None:
    run = return_run(kind=ReturnKind.CLAIM, reason=DAMAGED, terms=LOOKED_AT)
    async with begin(World(), run) as saga:
        assert (await saga.waits_for("approve or reject")).then == "it is rejected"
        await saga.later(3 * DAY)
        await ends(saga, _S.REQUESTED, _S.REJECTED)
    assert saga.record.last.code == ErrorCode.REVIEW_EXPIRED


async def test_its_customer_is_reminded_once_and_then_it_expires(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.later(7 * DAY)
        await saga.tells("Reminded")
        assert saga.record.last.is_reminder
        assert saga.record.last.due_at is not None
        await saga.later(14 * DAY)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.EXPIRED)
    assert [word.is_reminder for word in saga.record.words].count(True) == 1
    assert saga.given == {}
    assert world.labels_of(saga.run.order_id) == {1: ShipmentStatus.CANCELLED}


# ── What the carrier reports ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_parcel_on_its_way_has_the_same_time_once_more(begin: BeginReturn) -> None:
    async with begin(World(), return_run()) as saga:
        due = (await saga.waits_for(WAITS_FOR_GOODS)).due_at
        await saga.report("DISPATCHED", "IN_TRANSIT", "DISPATCHED", "IN_TRANSIT")
        later = (await saga.waits_for("the carrier to bring")).due_at
        assert due
        assert later
        assert (later - due).days == 21
        await saga.tells("It may take until")
        await saga.later(22 * DAY)
        assert (await saga.state()).status == _S.APPROVED
        await saga.later(21 * DAY)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {"return-1": "23.40"}  # its customer has done what was asked
    assert not any(word.is_reminder for word in saga.record.words)


async def test_what_has_arrived_waits_for_the_warehouse(begin: BeginReturn) -> None:
    async with begin(World(), return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.report("DISPATCHED", "DELIVERED", "IN_TRANSIT", "LOST")  # the last two are late
        await saga.waits_for("the warehouse to look")
        await saga.receive(*everything())
        await saga.report("DELIVERED")
        await ends(saga, *CAME)


async def test_a_parcel_that_the_carrier_lost_is_settled_as_if_all_had_come(begin: BeginReturn) -> None:
    world = World()
    async with begin(world, return_run(terms=FEES)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.report("DISPATCHED", "LOST")
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {"return-1": "19.56"}  # less 10 % and the label
    assert saga.record.last.came is None
    assert "ReceiveReturn" not in world.calls


async def test_a_parcel_that_went_back_to_its_sender_may_still_be_brought(begin: BeginReturn) -> None:
    async with begin(World(), return_run()) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.report("DISPATCHED", "RETURNED")
        await saga.tells("went back to its sender")
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.cancel()
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.CANCELLED)


# ── Claims, exchanges ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_is_refunded_without_goods(begin: BeginReturn) -> None:
    async with begin(World(), return_run(kind=ReturnKind.CLAIM, reason=DAMAGED, terms=FEES)) as saga:
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    assert saga.given == {"return-1": "23.40"}
    assert saga.record.words[0].due_at is None


async def test_a_claim_brings_the_same_once_more(begin: BeginReturn) -> None:
    world, run = World(), return_run(kind=ReturnKind.CLAIM, reason=DAMAGED, resolution=Resolution.RESEND)
    async with begin(world, run) as saga:
        await saga.waits_for("to arrive")
        replacement = replacement_id_for(run.order_id, 1)
        assert (await saga.state()).replacement_id == saga.record.last.replacement_id == replacement
        ended = ReplacementEnded(status=OrderStatus.COMPLETED, credit_back=usd("0.00"))
        await saga.handle.signal("replacement_ended", ended)
        await ends(saga, _S.REQUESTED, _S.APPROVED, _S.SETTLING, _S.COMPLETED)
    asked = world.returns.replacements[replacement]
    assert (asked.lines, asked.units, asked.credit) == ((), run.lines, usd("23.40"))
    assert saga.given == {}


async def test_an_exchange_for_something_cheaper_gives_the_rest_back(begin: BeginReturn) -> None:
    world, run = World(), return_run(resolution=Resolution.EXCHANGE, exchange_for=INSTEAD)
    world.returns.price = usd("18.00")
    async with begin(world, run) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await saga.waits_for("to arrive")
        assert saga.given == {"return-1-rest": "5.40"}
        assert saga.record.last.refunded == usd("5.40")
        # Its order came to nothing: what paid for it goes back, once, whatever it is told then.
        await saga.handle.signal("replacement_ended", ReplacementEnded(status=OrderStatus.CANCELLED, credit_back=usd("18.00")))
        await saga.handle.signal("replacement_ended", ReplacementEnded(status=OrderStatus.COMPLETED, credit_back=usd("1.00")))
        await ends(saga, *CAME)
    assert saga.given == {"return-1-rest": "5.40", "return-1-back": "18.00"}
    assert saga.record.last.refunded == usd("23.40")


@pytest.mark.parametrize("code", [ErrorCode.CONFLICT, ErrorCode.PRODUCT_UNKNOWN])
async def test_what_cannot_be_exchanged_is_refunded(begin: BeginReturn, code: ErrorCode) -> None:
    world = World()
    world.before["PlaceReplacement"] = [refused(code)]
    async with begin(world, return_run(resolution=Resolution.EXCHANGE, exchange_for=INSTEAD)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert saga.given == {"return-1": "23.40"}
    assert saga.record.last.replacement_id is None


async def test_what_was_paid_with_credit_goes_back_from_the_payment_that_holds_it(begin: BeginReturn) -> None:
    """The order replaced another: 20.00 of it were paid with that one's money."""
    world, first, order = World(), place_order(), place_order(priced=True)
    paid(world, first.order_id, first.customer_id)
    lines = tuple(
        line.model_copy(update={"amounts": line.amounts.model_copy(update={"credit": credit})})
        for line, credit in zip(order.lines, (540, 1460), strict=True)
        if line.amounts
    )
    order = order.model_copy(update={"lines": lines})
    async with begin(world, return_run(order=order, credit_order_id=first.order_id)) as saga:
        await saga.waits_for(WAITS_FOR_GOODS)
        await saga.receive(*everything())
        await ends(saga, *CAME)
    assert {(of == first.order_id, key): str(money) for (of, key), money in world.returns.given.items()} == {
        (False, "return-1"): "3.40 USD",
        (True, f"return-1-of-{order.order_id.hex[:8]}"): "20.00 USD",
    }
