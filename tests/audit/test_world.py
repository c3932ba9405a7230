"""What is at rest and what moves, what cannot be read, and whether anything at all can be changed unseen."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.books import Books, ChargeRow, PaymentRow, Source
from audit.rules import judge, unsettled
from audit.verdict import InFlight
from contracts.orders import FINAL_STATUSES
from contracts.orders import OrderStatus as S
from contracts.parcels import Trouble
from tests.audit.shop import NOW, PATHS, TOTAL, Shop, by_reference, change, every_kind, of, remove, the

# ── What moves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [S.PENDING, S.RESERVED, S.PAID, S.DELIVERED, S.CANCELLING])
def test_an_order_that_moves_is_in_flight(status: S) -> None:
    books = every_kind()
    order_id = the(books, S.COMPLETED).order_id
    change(books.orders, of(order_id), status=status, path=(S.PENDING, *PATHS[status]))
    change(books.workflows, of(order_id), status="RUNNING", closed_at=None, result=None)
    judgement = judge(books)
    assert not judgement.violations
    assert [(item.order_id, item.why) for item in judgement.in_flight] == [(order_id, status)]


def test_an_order_that_changed_a_moment_ago_is_in_flight() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.orders, of(order_id), updated_at=NOW - timedelta(milliseconds=300))
    remove(books.shipments, of(order_id))
    remove(books.parcels, by_reference(order_id))
    judgement = judge(books)
    assert not judgement.violations
    assert [item.order_id for item in judgement.in_flight] == [order_id]


def test_an_order_whose_saga_is_at_work_is_in_flight() -> None:
    """A cancellation is told to the order when all undos have landed, so that its money may be back while it is CONFIRMED."""
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.payments, of(order_id), status="REFUNDED", refunded=TOTAL, refunded_moved=TOTAL, ledger_provider=0)
    change(books.charges, by_reference(order_id), status="refunded", refunded=TOTAL)
    assert {violation.order_id for violation in judge(books).violations} == {order_id}
    books.busy = frozenset({order_id})
    assert not judge(books).violations


def test_undos_that_do_not_land_are_in_flight() -> None:
    books = every_kind()
    order_id = the(books, S.CONFIRMED).order_id
    change(books.workflows, of(order_id), listed_as="CANCELLING", stuck_undo="Refund payment")
    remove(books.shipments, of(order_id))
    remove(books.parcels, by_reference(order_id))
    judgement = judge(books)
    assert not judgement.violations
    assert "Refund payment" in judgement.in_flight[0].why


# ── What cannot be read ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_are_left_out_where_their_books_cannot_be_read() -> None:
    books = every_kind()
    books.charges = []
    books.unreadable[Source.PROVIDER] = "ClientConnectorError"
    judgement = judge(books)
    assert not judgement.violations
    skipped = {result.code for result in judgement.results if result.skipped}
    at_the_provider = {"money_at_the_provider", "charge_has_order", "one_charge", "ledgers_agree"}
    assert skipped == at_the_provider | {"disputes_agree", "refunds_agree"}


def test_without_temporal_nobody_knows_what_moves() -> None:
    books = every_kind()
    books.workflows = []
    books.unreadable[Source.TEMPORAL] = "RPCError"
    remove(books.shipments, of(the(books, S.CONFIRMED).order_id))
    judgement = judge(books)
    assert {violation.rule for violation in judgement.violations} == {"parcels_agree"}
    assert {item.order_id for item in judgement.in_flight} == {
        order.order_id for order in books.orders if order.status not in FINAL_STATUSES
    }


def test_without_the_order_service_nobody_knows_which_order_is_missing() -> None:
    books = every_kind()
    books.orders = []
    books.unreadable[Source.ORDER] = "ConnectionRefusedError"
    judgement = judge(books)
    assert not judgement.violations
    assert not judgement.in_flight


# ── The wait ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_moves_all_the_time_and_gets_nowhere_is_a_violation() -> None:
    began = NOW
    stuck = InFlight("a", "PENDING", began - timedelta(seconds=5), uuid4())
    nobody_knows = InFlight("b", "on its way")
    moved_meanwhile = InFlight("c", "PAID", began + timedelta(seconds=5))
    new = InFlight("d", "PENDING", began - timedelta(seconds=5))
    result = unsettled([[stuck, nobody_knows, moved_meanwhile], [stuck, nobody_knows, moved_meanwhile, new]], began)
    assert [violation.subject for violation in result.violations] == ["a", "b"]
    assert result.violations[0].order_id == stuck.order_id
    assert result.compared == 4


# ── In general ───────────────────────────────────────────────────────────────────────────────────────────────────────────

resting = st.one_of(
    st.tuples(st.sampled_from([S.IN_REVIEW, S.CONFIRMED, S.SHIPPED, S.COMPLETED, S.CANCELLED]), st.none()),
    st.tuples(st.just(S.UNDELIVERED), st.sampled_from(list(Trouble))),
    st.tuples(st.just(S.REFUNDED), st.sampled_from([Trouble.LOST, Trouble.RETURNED])),
)
orders = st.lists(st.tuples(resting, st.booleans(), st.integers(1, 10_000)), min_size=1, max_size=8)
Placed = list[tuple[tuple[S, Trouble | None], bool, int]]


def shop_of(placed: Placed) -> Books:
    shop = Shop()
    for (status, trouble), flag, total in placed:
        shop.place(status, trouble=trouble, was_confirmed=flag and status == S.CANCELLED, total=total)
    return shop.books()


@given(orders)
def test_right_books_are_right_whatever_was_ordered(placed: Placed) -> None:
    judgement = judge(shop_of(placed))
    assert not judgement.violations
    assert not judgement.in_flight


@given(orders, st.data())
def test_no_amount_in_a_ledger_can_be_changed_unseen(placed: Placed, data: st.DataObject) -> None:
    books = shop_of([*placed, ((S.CONFIRMED, None), False, TOTAL)])
    rows: Any = data.draw(st.sampled_from([books.payments, books.charges, books.stock]))
    position = data.draw(st.integers(0, len(rows) - 1))
    amounts = {
        PaymentRow: ("amount", "refunded", "captured_moved", "refunded_moved"),
        ChargeRow: ("amount", "captured", "refunded"),
    }
    of_stock = ("on_hand", "reserved", "moved", "received", "corrected", "transferred", "promised", "shipped", "restocked")
    name = data.draw(st.sampled_from(amounts.get(type(rows[0]), of_stock)))
    by = data.draw(st.integers(-3, 3).filter(bool))
    rows[position] = rows[position]._replace(**{name: getattr(rows[position], name) + by})
    assert judge(books).violations
