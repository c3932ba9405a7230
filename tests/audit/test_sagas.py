"""Sagas: a workflow that is lost, an order that was never begun, and work for no order are seen."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from audit.books import NO_RESULT, Books, ParcelRow, Source, WorkflowRow
from audit.rules import judge, sagas
from audit.world import START_GRACE
from contracts.orders import OrderStatus as S
from contracts.parcels import Trouble
from tests.audit.rules import Tamper, Tamperings, assert_complete, assert_seen, cases
from tests.audit.shop import EARLIER, NOW, Shop, add, change, every_kind, everything, of, remove, the


def an_order_was_deleted(books: Books) -> None:
    remove(books.orders, of(the(books, S.CONFIRMED).order_id))


def reservation_for_nobody(books: Books) -> None:
    change(books.reservations, of(the(books, S.CANCELLED).order_id), order_id=uuid4())


def carrier_has_a_parcel_of_nobody(books: Books) -> None:
    add(books.parcels, ParcelRow(str(uuid4()), "booked", "TRK1", EARLIER))


def nobody_started_it(books: Books) -> None:
    order_id = the(books, S.CANCELLED).order_id
    change(books.orders, of(order_id), status="PENDING", has_placement=True, path=("PENDING",))
    remove(books.workflows, of(order_id))


def workflow_is_gone(books: Books) -> None:
    remove(books.workflows, of(the(books, S.CONFIRMED).order_id))


def workflow_was_terminated(books: Books) -> None:
    change(books.workflows, of(the(books, S.SHIPPED).order_id), status="TERMINATED", closed_at=EARLIER)


def workflow_of_an_ended_order_is_gone(books: Books) -> None:
    remove(books.workflows, of(the(books, S.COMPLETED).order_id))


def workflow_runs_without_an_order(books: Books) -> None:
    add(books.workflows, saga(uuid4()))


def workflow_ended_without_an_order(books: Books) -> None:
    add(books.workflows, saga(uuid4(), "COMPLETED"))


def workflow_id_is_no_orders(books: Books) -> None:
    add(books.workflows, saga(uuid4())._replace(order_id=None, workflow_id="order-7"))


def workflow_runs_on(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), status="RUNNING", closed_at=None)


def nobody_works_on_a_pending_order(books: Books) -> None:
    change(books.orders, of(the(books, S.COMPLETED).order_id), status="PENDING")


def workflow_failed(books: Books) -> None:
    change(books.workflows, of(the(books, S.CANCELLED).order_id), status="FAILED", result=None)


def workflow_returned_something_else(books: Books) -> None:
    change(books.workflows, of(the(books, S.COMPLETED).order_id), result=NO_RESULT)


def workflow_completed_too_early(books: Books) -> None:
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), status="COMPLETED", closed_at=EARLIER)


def order_went_a_way_that_there_is_not(books: Books) -> None:
    change(books.orders, of(the(books, S.SHIPPED).order_id), path=("PENDING", "RESERVED", "SHIPPED"))


def order_forgot_where_it_was(books: Books) -> None:
    change(books.orders, of(the(books, S.SHIPPED).order_id), path=("PENDING",))


def orders_path_is_in_no_language(books: Books) -> None:
    change(books.orders, of(the(books, S.SHIPPED).order_id), path=("PENDING", "LOST", "SHIPPED"))


TAMPERINGS: Tamperings = {
    "nothing_without_an_order": [an_order_was_deleted, reservation_for_nobody, carrier_has_a_parcel_of_nobody],
    "accepted_order_starts": [nobody_started_it],
    "workflow_is_not_lost": [workflow_is_gone, workflow_was_terminated],
    "ended_order_had_saga": [workflow_of_an_ended_order_is_gone],
    "saga_has_order": [workflow_ended_without_an_order, workflow_runs_without_an_order, workflow_id_is_no_orders],
    "ends_together": [workflow_runs_on, workflow_completed_too_early],
    "saga_completes": [workflow_failed, workflow_returned_something_else],
    "path_is_allowed": [
        order_went_a_way_that_there_is_not,
        order_forgot_where_it_was,
        orders_path_is_in_no_language,
    ],
}


@pytest.mark.parametrize(("rule", "tamper"), cases(TAMPERINGS))
def test_a_rule_sees_tampering(rule: str, tamper: Tamper) -> None:
    assert_seen(rule, tamper)


def test_every_rule_has_been_seen_to_speak_up() -> None:
    assert_complete(sagas, TAMPERINGS)


def lose(books: Books, order_id: UUID) -> None:
    change(books.workflows, of(order_id), status="TERMINATED", closed_at=EARLIER)


def test_lost_workflow_is_told_once_with_all_that_it_leaves_behind() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    lose(books, order_id)
    (violation,) = judge(books).violations
    assert (violation.rule, violation.order_id) == ("workflow_is_not_lost", order_id)
    assert violation.what == "CONFIRMED: workflow"
    assert violation.found == (
        "one that is TERMINATED; left behind: the reservation of parcel 1 (milk x 2), "
        f"parcel 1 (BOOKED, the carrier says booked), 12.50 USD taken under {order_id}-1; see `commerce orders repair {order_id}`"
    )


def test_lost_workflow_in_the_middle_of_placing_is_one_violation_too() -> None:
    """Money is held and goods are promised to an order whose row says that neither is."""
    books = every_kind()
    order_id = the(books, S.IN_REVIEW).order_id
    change(books.orders, of(order_id), status="PENDING", path=("PENDING",))
    remove(books.workflows, of(order_id))
    (violation,) = judge(books).violations
    assert violation.rule == "workflow_is_not_lost"
    assert violation.found.startswith("none; left behind: the reservation of parcel 1 (milk x 2), 12.50 USD held under ")


def test_lost_workflow_of_a_parcel_in_trouble_leaves_the_parcel_behind() -> None:
    books = every_kind()
    order_id = the(books, S.UNDELIVERED, trouble=Trouble.RETURNED).order_id
    lose(books, order_id)
    (violation,) = judge(books).violations
    assert "parcel 1 (RETURNED, the carrier says returned), 12.50 USD taken" in violation.found


def test_lost_workflow_says_what_it_can_where_the_outside_ledgers_cannot_be_read() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    lose(books, order_id)
    books.charges, books.parcels = [], []
    books.unreadable[Source.PROVIDER] = books.unreadable[Source.CARRIER] = "ClientConnectorError"
    (violation,) = judge(books).violations
    assert "parcel 1 (BOOKED, the carrier has none), payment 1 (CAPTURED 12.50 USD)" in violation.found


@pytest.mark.parametrize("status", ["CONTINUED_AS_NEW", "PAUSED"])
def test_a_workflow_that_goes_on_is_not_lost(status: str) -> None:
    books = every_kind()
    change(books.workflows, of(the(books, S.CONFIRMED).order_id), status=status)
    assert not judge(books).violations


def test_an_accepted_order_may_wait_for_a_while_until_its_saga_is_started() -> None:
    shop = Shop()
    order_id = shop.place(S.PENDING, at=NOW - START_GRACE / 2)
    books = shop.books()
    change(books.orders, everything, has_placement=True)
    remove(books.workflows, everything)
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_temporal_forgets_old_workflows_but_not_those_that_run() -> None:
    shop = Shop()
    long_ago = NOW - timedelta(days=2)
    shop.place(S.COMPLETED, at=long_ago)
    confirmed = shop.place(S.CONFIRMED, at=long_ago)
    books = shop.books()
    remove(books.workflows, everything)
    assert {violation.order_id for violation in judge(books).violations} == {confirmed}


def test_a_reset_workflow_is_judged_by_its_newest_run() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    before = next(row for row in books.workflows if row.order_id == order_id)
    change(books.workflows, of(order_id), status="TERMINATED", closed_at=EARLIER)
    add(books.workflows, before._replace(run_id=str(uuid4()), started_at=EARLIER + timedelta(seconds=1)))
    assert not judge(books).violations


def saga(order_id: UUID, status: str = "RUNNING") -> WorkflowRow:
    closed_at = None if status == "RUNNING" else EARLIER
    return WorkflowRow(order_id, f"order-{order_id}", str(uuid4()), status, EARLIER, closed_at, "PENDING", None, None, None)
