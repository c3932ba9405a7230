"""Why an order is where it is, of what its record, its saga and Temporal know: each status, each trouble, each fault; and what
its customer is told of that."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow

from activities import all_activities
from contracts.errors import ErrorCode
from contracts.ids import order_workflow_id
from contracts.orders import (
    FINAL_STATUSES,
    Actor,
    AdvanceOrder,
    CancelRequest,
    OrderState,
    OrderStatus,
    Outcome,
    Wait,
)
from contracts.parcels import CHOICES, OrderParcel, ParcelLine, ParcelStatus, Trouble
from contracts.payment_actions import ActionDue, ActionKind
from services.order.explaining import (
    ACTIVITIES,
    EXPLAIN_EXAMPLES,
    UPDATES,
    USUALLY,
    Cause,
    Explanation,
    StaffExplanation,
    explained,
    explained_to_customer,
)
from services.order.model import Order
from temporal.explaining import PendingStep, PendingTask, SagaSeen, WorkerSeen
from temporal.names import ASKING_UPDATES
from testing.model import World
from testing.model.payment import ACTIONS
from tests.conftest import ROOT
from tests.services.order.conftest import new_order
from workflows.order import OrderWorkflow

S, A = OrderStatus, Actor
NOW = datetime(2026, 11, 27, 8, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SECRET = "http://shipping:8000 says no to ann"
TO_CONFIRMED = (S.RESERVED, S.PAID, S.CONFIRMED)
PATHS: dict[OrderStatus, tuple[OrderStatus, ...]] = {
    S.PENDING: (),
    S.RESERVED: (S.RESERVED,),
    S.PAYMENT_DUE: (S.RESERVED, S.PAYMENT_DUE),
    S.ACTION_REQUIRED: (S.RESERVED, S.ACTION_REQUIRED),
    S.IN_REVIEW: (S.RESERVED, S.IN_REVIEW),
    S.PAID: (S.RESERVED, S.PAID),
    S.CONFIRMED: TO_CONFIRMED,
    S.PARTIALLY_SHIPPED: (*TO_CONFIRMED, S.PARTIALLY_SHIPPED),
    S.SHIPPED: (*TO_CONFIRMED, S.SHIPPED),
    S.UNDELIVERED: (*TO_CONFIRMED, S.SHIPPED, S.UNDELIVERED),
    S.DELIVERED: (*TO_CONFIRMED, S.SHIPPED, S.DELIVERED),
    S.COMPLETED: (*TO_CONFIRMED, S.SHIPPED, S.DELIVERED, S.COMPLETED),
    S.REFUNDED: (*TO_CONFIRMED, S.SHIPPED, S.UNDELIVERED, S.REFUNDED),
    S.CANCELLING: (S.CANCELLING,),
    S.CANCELLED: (S.CANCELLING, S.CANCELLED),
}
"""How an order gets to each status."""


def an_order(status: OrderStatus, trouble: Trouble | None = None, **facts: Any) -> Order:
    """Whose saga has told that it is there."""
    order = Order.placed(new_order())
    if status in (S.UNDELIVERED, S.REFUNDED):
        trouble = trouble or Trouble.LOST
    command = AdvanceOrder(order_id=order.order_id, after=1, path=PATHS[status], trouble=trouble, **facts)
    if command.path:
        order.advance(command)
    return order


def running(state: OrderState | None = None, **more: Any) -> SagaSeen:
    return SagaSeen(
        **{"exists": True, "runs": True, "build": "1.0.0", "workers": (WorkerSeen("w1", NOW),), "state": state, **more}
    )


def state_of(order: Order, **facts: Any) -> OrderState:
    return OrderState(**{"order_id": order.order_id, "status": order.status, "waiting_for": f"it ({SECRET})", **facts})


def failing(activity: str, step: str, **more: Any) -> PendingStep:
    """A step that failed six times."""
    facts = {"attempt": 7, "runs": False, "paused": False, "last_error": SECRET, "last_worker": "w1", "until": None}
    return PendingStep(**{"step": step, "activity": activity, "since": NOW, "next_try": LATER, **facts, **more})


def both(order: Order, seen: SagaSeen | None, fault: str | None = None) -> tuple[StaffExplanation, Explanation]:
    """What staff are told, and its customer; who never reads an error or a command."""
    staff, customer = explained(order, seen, fault), explained_to_customer(order, seen)
    told = customer.model_dump_json()
    for word in (SECRET, "command", "temporal", "commerce ", "build", "worker", "w1", "attempt", "operator", "saga", "undo "):
        assert word not in told, f"{word} in {told}"
    assert all(A.CUSTOMER in call.who for part in customer.parts for call in part.calls)
    return staff, customer


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_an_order_that_is_over_says_what_ended_it_and_when(status: OrderStatus) -> None:
    code = ErrorCode.OUT_OF_STOCK if status == S.CANCELLED else None
    order = an_order(status, code=code, detail="No milk." if code else None)
    staff, customer = both(order, None)
    assert (staff.cause, staff.source, staff.parts, staff.calls) == (Cause.OVER, "record", (), ())
    assert staff.headline == customer.headline
    assert f"{order.since:%Y-%m-%d %H:%M}" in staff.headline
    assert ("No milk." in staff.headline) == (status == S.CANCELLED)
    assert (customer.code, customer.calls) == (code, ())


@pytest.mark.parametrize("status", sorted(USUALLY))
@pytest.mark.parametrize("knows", ["an older build's saga", "the record"])
def test_every_status_says_what_it_waits_for_and_who_may_act(status: OrderStatus, knows: str) -> None:
    """Also where nobody knows its parts: a saga of 0.9.0 does not, and neither does the record."""
    order = an_order(status)
    trouble = Trouble(order.trouble) if order.trouble else None
    choices = CHOICES[trouble] if trouble else ()
    state = state_of(order, trouble=trouble, choices=choices) if knows != "the record" else None
    staff, customer = both(order, running(state))
    usual = USUALLY[status]
    part = next(part for part in staff.parts if part.who == usual.who)
    assert (part.part, part.since) == (usual.part, order.since)
    assert customer.status == staff.status == status
    assert customer.parts[-1].waiting_for.startswith(usual.waiting_for)
    if A.CUSTOMER not in usual.who:
        assert [call.path for call in part.calls if call.method == "POST" and "/orders/" in (call.path or "")] == [
            f"/api/v1/orders/{order.order_id}/{UPDATES[name].under}" for name in usual.updates
        ]
    assert staff.source == ("workflow" if state else "temporal")
    assert staff.cause == (
        Cause.NO_ANSWER
        if state is None
        else Cause.SOMEBODY
        if status in (S.PAYMENT_DUE, S.ACTION_REQUIRED, S.IN_REVIEW, S.UNDELIVERED)
        else Cause.WORLD
        if status in (S.CONFIRMED, S.SHIPPED, S.PARTIALLY_SHIPPED)
        else Cause.STEP_RUNS
    )
    may_cancel = status in (*(S.PENDING, S.RESERVED, S.PAYMENT_DUE, S.ACTION_REQUIRED, S.IN_REVIEW, S.PAID, S.CONFIRMED),)
    for calls in (staff.calls, customer.calls):
        assert [call.path for call in calls] == [f"/api/v1/orders/{order.order_id}/cancel"] * may_cancel


@pytest.mark.parametrize("trouble", Trouble)
def test_a_parcel_in_trouble_says_what_may_be_decided_and_what_happens_otherwise(trouble: Trouble) -> None:
    order = an_order(S.UNDELIVERED, trouble)
    staff, customer = both(order, running(state_of(order, trouble=trouble, choices=CHOICES[trouble])))
    [part] = staff.parts
    [decide] = part.calls
    assert decide.choices == tuple(CHOICES[trouble])
    assert decide.body == {"choice": CHOICES[trouble][0], "reason": "WHY"}
    assert decide.command
    assert f"--workflow-id {order_workflow_id(order.order_id)} --name decide_parcel" in decide.command
    assert (part.then, customer.parts[0].then) == (part.then, part.then)
    assert part.then
    assert customer.parts[0].calls == ()
    assert bool(customer.calls) == (trouble == Trouble.NOT_PICKED_UP)


def test_each_parcel_is_told_by_itself() -> None:
    order = an_order(S.UNDELIVERED)
    parcels = [
        OrderParcel(parcel=1, status=ParcelStatus.BOOKED, lines=(ParcelLine(line_id=1, product_id="milk", quantity=2),)),
        OrderParcel(parcel=2, status=ParcelStatus.UNDELIVERED, trouble=Trouble.RETURNED),
        OrderParcel(parcel=3, status=ParcelStatus.AWAITED),
    ]
    waits = [
        Wait(
            part="parcel 1",
            waiting_for="the warehouse",
            since=NOW,
            until=LATER,
            then="x",
            who=(A.WAREHOUSE,),
            updates=("cancel",),
        ),
        Wait(part="parcel 2", waiting_for="a decision", since=NOW, until=LATER, who=(A.SUPPORT,), updates=("decide_parcel",)),
        Wait(
            part="parcel 3",
            waiting_for="goods to arrive",
            since=NOW,
            who=(A.WAREHOUSE, A.CUSTOMER),
            updates=("answer_shortage", "cancel"),
        ),
    ]
    staff, customer = both(order, running(state_of(order, parcels=parcels, waits=waits)))
    assert [(part.part, part.waiting_for, part.until) for part in staff.parts] == [
        (wait.part, wait.waiting_for, wait.until) for wait in waits
    ]
    assert [part.waiting_for for part in customer.parts] == [wait.waiting_for for wait in waits]
    booked, undelivered, awaited = staff.parts
    find, dispatch, split = booked.calls
    assert find.path == f"/api/v1/shipments?order_id={order.order_id}"
    assert dispatch.path == "/api/v1/shipments/{shipment_id}/dispatch"
    assert split.command
    assert '"parcel": 1, "lines": [{"line_id": 1, "quantity": 1}]' in split.command
    assert undelivered.calls[0].body == {"choice": "refund_and_restock", "parcel": 2, "reason": "WHY"}
    assert [call.path for call in awaited.calls] == [
        f"/api/v1/orders/{order.order_id}/shortage",
        "/api/v1/stock/receipts",
    ]
    assert [call.path for call in customer.parts[2].calls] == [f"/api/v1/orders/{order.order_id}/shortage"]
    assert customer.calls[0].path == f"/api/v1/orders/{order.order_id}/cancel"


def test_the_record_tells_of_each_parcel_too() -> None:
    parcels = (
        OrderParcel(parcel=1, status=ParcelStatus.DELIVERED),
        OrderParcel(parcel=2, status=ParcelStatus.UNDELIVERED, trouble=Trouble.LOST),
        OrderParcel(parcel=3, status=ParcelStatus.BOOKED),
    )
    order = an_order(S.UNDELIVERED, parcels=parcels)
    staff, customer = both(order, None, "away")
    assert [(part.part, part.waiting_for, part.since, part.then) for part in staff.parts[1:]] == [
        ("parcel 2", "somebody of the shop to decide about the parcel (lost)", None, "its price goes back"),
        ("parcel 3", "the warehouse to hand the parcel over to the carrier", None, None),
    ]
    assert staff.parts[1].calls[0].body == {"choice": "refund", "parcel": 2, "reason": "WHY"}
    assert len(customer.parts) == 3


def test_another_card_may_be_tried_until_the_record_says() -> None:
    declined = Outcome(
        order_id=uuid4(), status=S.PAYMENT_DUE, code=ErrorCode.PAYMENT_DECLINED, detail="The bank said no.", pay_until=LATER
    )
    order = an_order(S.PAYMENT_DUE, outcome=declined)
    staff, customer = both(order, None, "away")
    for told in (staff.parts[1], customer.parts[1]):
        [pay] = told.calls
        assert (told.until, told.then, pay.headers) == (LATER, "the order is cancelled", {"Idempotency-Key": "A NEW ONE"})
        assert pay.path == f"/api/v1/orders/{order.order_id}/payments"


@pytest.mark.parametrize("kind", ActionKind)
@pytest.mark.parametrize("knows", ["the saga", "the record"])
def test_what_a_customer_has_to_do_to_pay_is_named_with_where_and_until_when(kind: ActionKind, knows: str) -> None:
    order = an_order(S.ACTION_REQUIRED, action=ActionDue(**dict(ACTIONS[kind]), until=LATER))
    wait = Wait(
        part="payment", waiting_for="the payment", since=NOW, until=LATER, then="x", who=(A.CUSTOMER,), updates=("cancel",)
    )
    state = state_of(order, waits=[wait]) if knows == "the saga" else None
    staff, customer = both(order, running(state) if state else None, "away")
    for told in (staff.parts[-1], customer.parts[-1]):
        [call] = told.calls
        assert (told.part, told.until, call.who) == ("payment", LATER, (A.CUSTOMER,))
        assert call.url == ACTIONS[kind].url
        assert ("RF18539007547034" in call.does) == (kind == ActionKind.TRANSFER)
    assert [call.path for call in customer.calls] == [f"/api/v1/orders/{order.order_id}/cancel"]


@pytest.mark.parametrize("command", sorted(ACTIVITIES))
def test_a_step_that_fails_is_named_with_its_service(command: str) -> None:
    order = an_order(S.PAID)
    working = Wait(part="order", waiting_for=f"the step ({SECRET})", since=NOW, who=(A.PLATFORM,))
    step = failing(command, "the-step", until=LATER)
    staff, _ = both(order, running(state_of(order, waits=[working]), steps=(step,)))
    about = ACTIVITIES[command]
    part = next(part for part in staff.parts if part.step)
    assert (part.service, part.attempt, part.last_error, part.next_try) == (about.service, 7, SECRET, LATER)
    assert part.calls[-1].command == f"commerce undo retry {order.order_id} the-step"
    if about.is_undo:
        assert (staff.cause, part.part) == (Cause.UNDO_FAILS, "undo the-step")
    elif about.blocks:
        assert staff.cause == Cause.STEP_FAILS
        assert len(staff.parts) == 1
        assert part.then == "the order is undone"
        assert f"service {about.service}" in staff.headline
        assert "failed 6 times" in staff.headline
    else:
        assert staff.cause == Cause.STEP_RUNS


def test_a_stuck_undo_may_be_tried_now_or_ended_by_hand() -> None:
    order = an_order(S.CANCELLING)
    name = "undo refund-payment"
    waits = [
        Wait(part="order", waiting_for=SECRET, since=NOW, who=(A.PLATFORM,)),
        Wait(part=name, waiting_for="its service", since=NOW, who=(A.PLATFORM, A.SUPPORT), updates=("settle_undo",)),
    ]
    step = failing("RefundPayment", "refund-payment")
    for facts in ({"waits": waits}, {}):  # also as an older build tells it
        staff, customer = both(order, running(state_of(order, stuck_undos=("refund-payment",), **facts), steps=(step,)))
        assert staff.cause == Cause.UNDO_FAILS
        part = next(part for part in staff.parts if part.part == name)
        assert (part.step, part.attempt, part.last_error, part.next_try) == ("refund-payment", 7, SECRET, LATER)
        assert part.then == "it is tried until it succeeds"
        assert A.SUPPORT in part.who
        settle, retry = part.calls
        assert settle.command
        assert f"commerce undo settle {order.order_id} refund-payment" in settle.command
        assert retry.command == f"commerce undo retry {order.order_id} refund-payment"
        assert [(each.part, each.waiting_for) for each in customer.parts] == [("payment", "the money to go back")]


def test_a_step_that_somebody_paused_says_so() -> None:
    order = an_order(S.PAID)
    step = failing("CreateShipment", "create-shipment", paused=True)
    staff, _ = both(order, running(state_of(order), steps=(step,)))
    assert "paused" in staff.headline
    assert staff.parts[0].calls[0].command == (
        f"temporal activity unpause --workflow-id {order_workflow_id(order.order_id)} --activity-id create-shipment"
    )


def test_an_order_without_a_worker_names_the_build_that_lacks_one() -> None:
    order, task = an_order(S.CONFIRMED), PendingTask(NOW, 1, runs=False)
    staff, customer = both(order, running(None, workers=(), task=task, silence="no poller"))
    assert (staff.cause, staff.source) == (Cause.NO_WORKER, "temporal")
    assert "build 1.0.0" in staff.headline
    assert staff.parts[0].since == NOW
    assert staff.parts[0].calls[0].command == "commerce release status"
    assert staff.parts[1].who == (A.WAREHOUSE,)
    assert [part.waiting_for for part in customer.parts] == [
        "the shop to go on with it",
        "the warehouse to hand the parcel over to the carrier",
    ]


def test_a_saga_whose_tasks_fail_says_that_its_workers_cannot_go_on() -> None:
    order, problems = an_order(S.CONFIRMED), ("cause=WorkflowTaskFailedCauseNonDeterminismError",)
    staff, _ = both(order, running(None, task=PendingTask(NOW, 9, runs=False), problems=problems, silence="x"))
    assert staff.cause == Cause.WORKER_FAILS
    assert "NonDeterminism" in staff.headline
    assert staff.parts[0].attempt == 9


def test_an_order_whose_saga_is_not_started_says_when_that_is_tried() -> None:
    order = an_order(S.PENDING)
    staff, customer = both(order, SagaSeen())
    assert (staff.cause, staff.source) == (Cause.NOT_STARTED, "record")
    assert (staff.parts[0].since, staff.parts[0].next_try) == (order.placed_at, order.hand_over_at)
    assert customer.calls
    away, _ = both(order, None, "Temporal: UNAVAILABLE")
    assert (away.cause, away.saga) == (Cause.TEMPORAL_AWAY, None)
    assert (away.parts[0].last_error, away.parts[0].next_try) == ("Temporal: UNAVAILABLE", order.hand_over_at)
    assert "so that its saga can be started" in away.headline


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (SagaSeen(), "unknown to Temporal"),
        (SagaSeen(exists=True, ended_as="terminated", ended_at=NOW), "terminated"),
    ],
)
def test_an_order_whose_workflow_is_lost_says_how_it_is_repaired(seen: SagaSeen, words: str) -> None:
    order = an_order(S.CONFIRMED)
    staff, customer = both(order, seen)
    assert (staff.cause, staff.parts[0].since) == (Cause.LOST, seen.ended_at)
    assert words in staff.headline
    assert staff.parts[0].calls[0].command
    assert staff.parts[0].calls[0].command.startswith(f"commerce orders repair {order.order_id}")
    assert (customer.calls, [part.waiting_for for part in customer.parts]) == ((), ["the shop to go on with it"])


def test_a_wish_to_cancel_that_is_kept_says_when_it_is_passed_on() -> None:
    order = an_order(S.CONFIRMED)
    order.keep_wish_to_cancel(CancelRequest(reason="mistake", requested_by="customer"))
    staff, _ = both(order, None, "away")
    assert ("the wish to cancel to reach its saga", order.hand_over_at) in [
        (part.waiting_for, part.next_try) for part in staff.parts
    ]
    assert staff.calls == ()


def test_every_cause_is_in_the_operators_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    told = re.findall(r"^\| `(\w+)` \|", page[page.index("## Where is this order") :].partition("\n## ")[0], re.MULTILINE)
    assert sorted(told) == sorted([*Cause, "cause"])  # with the head of the table


def test_the_examples_in_the_document_are_explanations() -> None:
    to_staff, to_customer = (example["value"] for example in EXPLAIN_EXAMPLES.values())
    assert StaffExplanation.model_validate(to_staff).parts[0].attempt == 8
    assert Explanation.model_validate(to_customer).parts[0].calls[0].headers == {"Idempotency-Key": "A NEW ONE"}


def test_everything_that_a_saga_tries_and_takes_is_explained() -> None:
    tried = {activity._Definition.must_from_callable(each).name for each in all_activities(lambda _: World())}
    assert tried == set(ACTIVITIES)
    taken = workflow._Definition.must_from_class(OrderWorkflow).updates
    assert {str(name) for name in taken} - ASKING_UPDATES <= set(UPDATES)
