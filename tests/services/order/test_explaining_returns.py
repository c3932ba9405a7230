"""Where the returns of an order are and why: parts of its explanation, from their records and from Temporal."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from chassis.clock import utc_now
from chassis.database import Database
from contracts.identity import Role
from contracts.orders import PlaceOrder
from contracts.returns import Resolution, ReturnKind, ReturnState, ReturnStatus
from services.order.explaining import explained
from services.order.model import Order, Return
from services.order.model.returns import planned
from services.order.returns_explaining import ReturnSeen, with_returns_for_staff
from temporal.explaining import PendingStep, SagaSeen
from tests.conftest import TokenMint
from tests.services.order.test_returns import NOW, RULES, asked, asking, delivered, in_parcels, parcel, tell

R = ReturnStatus
DUE = NOW + timedelta(days=3)


def requested(**facts: Any) -> tuple[Order, Return]:
    order = in_parcels(parcel(1, 0, 6, days_ago=1))
    return order, Return.requested(planned(order, [], asking(**facts), RULES, NOW))


def part_of(order: Order, seen: ReturnSeen) -> Any:
    told = with_returns_for_staff(explained(order, None), [seen])
    return next(part for part in told.parts if part.part == "return 1")


@pytest.mark.parametrize(
    ("status", "facts", "words", "calls"),
    [
        (R.REQUESTED, {}, "the shop to go on with it", ["cancel"]),
        (R.REQUESTED, {"kind": ReturnKind.CLAIM}, "somebody of the shop to look at it", ["approve", "reject", "cancel"]),
        (R.APPROVED, {}, "the goods to come back", ["receive", "cancel"]),
        (R.APPROVED, {"kind": ReturnKind.CLAIM}, "the money to go back", []),
        (R.SETTLING, {"kind": ReturnKind.CLAIM, "resolution": Resolution.RESEND}, "the order that it brings to be placed", []),
    ],
)
def test_each_status_says_what_it_waits_for_and_who_may_act(
    status: ReturnStatus, facts: dict[str, Any], words: str, calls: list[str]
) -> None:
    order, found = requested(**facts)
    found.handed_over()
    found.status, found.due_at = status, DUE
    part = part_of(order, ReturnSeen(found))
    assert (part.waiting_for, part.until) == (words, DUE)
    assert [call.path.rpartition("/")[2] for call in part.calls] == calls
    assert all(
        call.command.startswith(f"commerce returns {name} {order.order_id} 1")
        for call, name in zip(part.calls, calls, strict=True)
    )


def test_staff_are_told_what_its_saga_says_and_which_step_fails() -> None:
    order, found = requested()
    found.handed_over()
    words = "the carrier to bring the goods"
    state = ReturnState(order_id=order.order_id, number=1, status=R.APPROVED, waiting_for=words, due_at=DUE, then="it expires")
    step = PendingStep(
        step="create-return-label",
        activity="CreateReturnLabel",
        since=NOW,
        attempt=3,
        runs=False,
        paused=False,
        last_error="carrier: 503",
        last_worker="w",
        next_try=NOW,
        until=None,
    )
    told = with_returns_for_staff(
        explained(order, None), [ReturnSeen(found, SagaSeen(exists=True, runs=True, steps=(step,), state=state))]
    )
    part, failing = told.parts[-2:]
    assert (part.waiting_for, part.then, part.until) == (words, "it expires", DUE)
    assert (failing.service, failing.attempt, failing.last_error) == ("shipping", 3, "carrier: 503")
    assert "temporal activity reset" in (failing.calls[0].command or "")
    assert told.headline.endswith(f"Return 1 waits for {words}; and 1 more.")


def test_a_return_whose_saga_does_not_run_is_the_operators() -> None:
    order, found = requested()
    waits = part_of(order, ReturnSeen(found, fault="Temporal: UNAVAILABLE"))
    assert (waits.next_try, waits.last_error) == (found.hand_over_at, "Temporal: UNAVAILABLE")
    assert part_of(order, ReturnSeen(found, SagaSeen())).waiting_for == "its saga to be started"
    found.handed_over()
    lost = part_of(order, ReturnSeen(found, SagaSeen(exists=True, ended_as="terminated")))
    assert "has terminated, and the return is not over" in lost.waiting_for
    assert lost.who == ("operator",)


async def explanation(client: httpx2.AsyncClient, order: PlaceOrder, who: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get(f"/api/v1/orders/{order.order_id}/explain", headers=who)).json()
    return answer


async def test_an_order_that_is_over_still_tells_of_its_open_returns(
    lonely_client: httpx2.AsyncClient, mint: TokenMint, database: Database
) -> None:
    order = await delivered(database)
    customer = mint.headers(Role.CUSTOMER, subject=order.customer_id)
    assert (await explanation(lonely_client, order, customer))["parts"] == []
    number = await asked(database, order)
    await tell(database, order, number, R.APPROVED, due_at=utc_now() + timedelta(days=21), for_staff="Nobody looked")
    [part] = (await explanation(lonely_client, order, customer))["parts"]
    assert (part["part"], part["waiting_for"], part["then"]) == ("return 1", "the goods to come back", "it expires")
    assert [call["does"] for call in part["calls"]] == ["Call it off"]
    told = await explanation(lonely_client, order, mint.headers(Role.SUPPORT))
    assert told["parts"][0]["last_error"]  # Temporal is away
    assert told["headline"].startswith("Completed on")
    await tell(database, order, number, R.EXPIRED)
    assert (await explanation(lonely_client, order, customer))["parts"] == []
