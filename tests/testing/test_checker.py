"""Each rule over client histories, with one that keeps the promise and one that breaks it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import jwt
import pytest

from cli.client import Reply
from testing.checker import Violation, check, summary
from testing.histories import Call, History, read

ANN, BEN = "ann", "ben"
STORE, TEA = "store-1", "tea"


def order(number: int) -> str:
    return str(uuid5(UUID(int=0), str(number)))


class Story:
    """Calls one after the other, a second each; `at` and `until` let some run at once."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def tell(
        self,
        method: str,
        path: str,
        status: int | None,
        answer: Any = None,
        *,
        who: str = ANN,
        body: Any = None,
        key: str | None = None,
        prefer: str | None = None,
        at: float | None = None,
        until: float | None = None,
    ) -> None:
        began = len(self.calls) * 1.0 if at is None else at
        ended = began + 0.5 if until is None else until
        self.calls.append(Call(who, method, f"/api/v1{path}", body, began, ended, status, answer, key, prefer))

    def place(self, number: int, status: int | None, told: dict[str, Any] | None = None, **rest: Any) -> None:
        body = {"lines": [{"product_id": TEA, "quantity": 1}]}
        named = {"order_id": order(number), **(told or {})} if status is not None else None
        self.tell("POST", "/orders", status, named, body=rest.pop("body", body), key=rest.pop("key", f"key-{number}"), **rest)

    def confirm(self, number: int, quantity: int = 1, **rest: Any) -> None:
        lines = [{"product_id": TEA, "quantity": quantity}]
        self.place(number, 201, {"status": "CONFIRMED", "lines": lines, "warehouse_id": STORE}, **rest)

    def refuse(self, number: int, status: int, code: str, **rest: Any) -> None:
        self.place(number, status, {"code": code}, **rest)

    def pay(self, number: int, status: int, told: dict[str, Any]) -> None:
        self.tell("POST", f"/orders/{order(number)}/payments", status, {"order_id": order(number), **told}, key=f"pay-{number}")

    def see(self, number: int, status: str, code: str | None = None, **rest: Any) -> None:
        seen: dict[str, Any] = {"order_id": order(number), "status": status, "code": code, "warehouse_id": STORE, "lines": []}
        self.tell("GET", f"/orders/{order(number)}", 200, seen, **rest)

    def see_list(self, *numbers: int, more: bool = False, placed_at: str = "2026-01-02T00:00:00Z", **rest: Any) -> None:
        items = [{"order_id": order(n), "status": "PENDING", "code": None, "placed_at": placed_at} for n in numbers]
        self.tell(
            "GET", rest.pop("path", "/orders?limit=50"), 200, {"items": items, "next_cursor": "c" if more else None}, **rest
        )

    def see_timeline(self, number: int, source: str, status: str) -> None:
        told = {"order_id": order(number), "source": source, "entries": [{"status": status}]}
        self.tell("GET", f"/orders/{order(number)}/timeline", 200, told)

    def cancel(self, number: int, status: int, told: dict[str, Any] | None = None, **rest: Any) -> None:
        self.tell("POST", f"/orders/{order(number)}/cancel", status, {"order_id": order(number), **(told or {})}, **rest)

    def receive(self, quantity: int, **rest: Any) -> None:
        body = {"warehouse_id": STORE, "lines": [{"product_id": TEA, "quantity": quantity}]}
        self.tell("POST", "/stock/receipts", 201, [], body=body, key=rest.pop("key", "delivery"), **rest)

    def found(self) -> Sequence[Violation]:
        return check(self.calls)

    def rules(self) -> set[str]:
        return {violation.rule for violation in self.found()}


@pytest.fixture
def story() -> Story:
    return Story()


CANCELLED: dict[str, Any] = {"status": "CANCELLED", "refunded": {"amount": "1.00", "currency": "USD"}}


def test_an_ordinary_life_breaks_no_promise(story: Story) -> None:
    story.receive(5)
    story.place(1, None)
    story.place(1, 202, {"status": "PENDING"})
    story.see_list(1)
    story.see(1, "RESERVED")
    story.confirm(1)
    for status in ("CONFIRMED", "SHIPPED", "UNDELIVERED", "SHIPPED", "DELIVERED", "COMPLETED"):
        story.see(1, status)
    story.confirm(1)
    story.refuse(2, 422, "payment_declined")
    story.refuse(2, 422, "payment_declined")
    story.see(2, "CANCELLED", "payment_declined")
    assert story.found() == []


def test_two_orders_of_one_key(story: Story) -> None:
    story.place(1, 202, key="one")
    story.place(1, 202, key="one")
    story.place(1, None, key="one")
    assert story.found() == []
    story.place(2, 202, key="one")
    assert story.rules() == {"one order per key"}


def test_one_order_of_two_keys_or_two_customers(story: Story) -> None:
    story.place(1, 202, key="one")
    story.place(2, 202, key="one", who=BEN)
    assert story.found() == []
    story.place(1, 202, key="two")
    assert story.rules() == {"one order per key"}


def test_a_confirmed_order_that_is_refused_afterwards(story: Story) -> None:
    story.place(1, 503, {"order_id": None, "code": "service_unavailable"})
    story.place(1, 202)
    story.confirm(1)
    story.refuse(1, 429, "rate_limited")
    story.calls[-1].answer.pop("order_id")
    assert story.found() == []
    story.refuse(1, 409, "out_of_stock")
    assert story.rules() == {"one outcome per order"}


def test_a_refusal_whose_code_changes(story: Story) -> None:
    story.refuse(1, 422, "payment_declined")
    story.refuse(1, 409, "idempotency_key_reused", body="another")
    story.calls[-1].answer.pop("order_id")
    story.refuse(1, 422, "payment_declined")
    assert story.found() == []
    story.refuse(1, 409, "out_of_stock")
    assert {"one outcome per order", "one reason per order"} == story.rules()


def test_i10_a_declined_card_is_not_the_last_word(story: Story) -> None:
    due = {"code": "payment_declined", "pay_until": "2026-01-02T00:15:00Z"}
    lines = {"status": "CONFIRMED", "lines": [{"product_id": TEA, "quantity": 1}], "warehouse_id": STORE}
    for number in (1, 2):
        story.place(number, 402, due)
        story.place(number, 402, due)
        story.see(number, "PAYMENT_DUE")
    story.pay(1, 402, due)
    story.pay(1, 201, lines)
    story.pay(1, 409, {"code": "payment_not_due"})
    story.confirm(1)
    story.refuse(2, 422, "payment_declined")
    assert story.found() == []
    story.place(2, 402, due)
    assert story.rules() == {"one outcome per order"}


def test_i10_an_order_that_was_paid_again_is_confirmed_in_the_same_words(story: Story) -> None:
    story.place(1, 402, {"code": "payment_declined", "pay_until": "2026-01-02T00:15:00Z"})
    story.confirm(1)
    story.pay(1, 201, {**story.calls[-1].answer, "warehouse_id": "another"})
    assert story.rules() == {"one outcome per order"}


def test_i10_an_order_in_parts_is_cancelled_in_part_and_no_promise_of_one_warehouse(story: Story) -> None:
    story.receive(1)
    story.confirm(1)
    story.confirm(2)
    assert story.rules() == {"never oversold"}
    story.see(2, "CONFIRMED")
    story.calls[-1].answer["parcels"] = [{"parcel": 1}, {"parcel": 2}]
    story.cancel(2, 200, {**CANCELLED, "status": "PARTIALLY_SHIPPED"})
    story.see(2, "SHIPPED")
    assert story.found() == []


def test_a_confirmation_that_is_repeated_in_other_words(story: Story) -> None:
    story.confirm(1)
    story.confirm(1)
    assert story.found() == []
    story.place(1, 201, {"status": "SHIPPED"})
    [violation] = story.found()
    assert "status 'CONFIRMED', then 'SHIPPED'" in violation.what


def test_an_outcome_that_is_open_again(story: Story) -> None:
    story.place(1, 202, at=0, until=9)  # they ran at once: which answer was made first is unknown
    story.confirm(1, at=1, until=2)
    story.place(1, 202, prefer="respond-async", at=10)
    assert story.found() == []
    story.place(1, 202, at=12)
    assert story.rules() == {"one outcome per order"}


def test_s9_an_accepted_order_that_is_refused_as_if_it_had_never_been(story: Story) -> None:
    story.place(1, 422, {"order_id": None, "code": "product_unknown"}, key="never")
    story.place(1, 202)
    assert story.found() == []
    story.place(1, 422, {"order_id": None, "code": "product_unknown"})
    assert story.rules() == {"one outcome per order"}


def test_s1_a_reason_that_undoing_left_behind(story: Story) -> None:
    story.refuse(1, 422, "payment_declined")
    assert story.found() == []
    story.refuse(2, 409, "reservation_released")
    story.see(3, "CANCELLED", "payment_reversed")
    assert [violation.rule for violation in story.found()] == ["one reason per order"] * 2


def test_a_reason_that_the_record_tells_otherwise(story: Story) -> None:
    story.refuse(1, 422, "payment_declined")
    story.confirm(2)
    story.see(2, "CANCELLED", "cancelled_by_request")
    assert story.found() == []
    story.see(1, "CANCELLED", "out_of_stock")
    assert story.rules() == {"one reason per order"}


@pytest.mark.parametrize("answer", [201, 202, 422])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")])
def test_s8_an_accepted_order_that_is_not_found(story: Story, answer: int, method: str, rest: str) -> None:
    missing = (method, f"/orders/{order(1)}{rest}", 404, {"code": "not_found"})
    story.tell(*missing)
    story.place(1, answer, {"code": "payment_declined"} if answer > 400 else {}, until=3)
    story.tell(*missing, at=2)  # asked before the order was answered
    story.tell(*missing, who=BEN, at=5)
    assert story.found() == []
    story.tell(*missing, at=6)
    assert story.rules() == {"read your writes"}


def test_s8_an_accepted_order_that_is_not_in_the_list(story: Story) -> None:
    story.see_list()
    story.place(1, 202, {"placed_at": "2026-01-01T00:00:00Z"})
    story.see_list(1)
    story.see_list(who=BEN)
    story.see_list(2, 3, more=True)  # the second page has it
    story.see_list(path="/orders?status=COMPLETED")
    assert story.found() == []
    story.see_list(2, 3)
    assert story.rules() == {"read your writes"}


def test_an_accepted_order_that_is_missing_on_the_first_page(story: Story) -> None:
    story.place(1, 202, {"placed_at": "2026-01-02T00:00:00.5+00:00"})
    story.see_list(2, 3, more=True)
    assert story.rules() == {"read your writes"}


@pytest.mark.parametrize(
    ("earlier", "later", "good"),
    [
        ("PENDING", "CONFIRMED", True),
        ("UNDELIVERED", "SHIPPED", True),
        ("SHIPPED", "UNDELIVERED", True),
        ("UNDELIVERED", "CANCELLED", True),
        ("CONFIRMED", "CONFIRMED", True),
        ("CONFIRMED", "RESERVED", False),
        ("DELIVERED", "SHIPPED", False),
        ("SHIPPED", "CANCELLED", True),  # by way of UNDELIVERED
        ("CANCELLED", "CONFIRMED", False),
        ("REFUNDED", "UNDELIVERED", False),
    ],
)
def test_a_status_that_goes_back(story: Story, earlier: str, later: str, good: bool) -> None:
    story.see(1, earlier, who=BEN, at=0, until=5)
    story.see(1, later, at=4, until=5)  # at once: both orders are possible
    assert story.found() == []
    story.see(1, later, at=6)
    assert story.rules() == (set() if good else {"monotonic status"})


def test_a_status_that_goes_back_in_list_or_timeline_or_behind_the_answer(story: Story) -> None:
    story.confirm(1)
    story.see_list(1)
    story.see_timeline(1, "history", "PAID")
    assert [violation.rule for violation in story.found()] == ["monotonic status"] * 2


def test_a_saga_may_tell_more_than_the_record_and_never_less(story: Story) -> None:
    story.see(1, "PENDING")
    story.see_timeline(1, "workflow", "RESERVED")
    story.see(1, "PENDING")
    story.see_timeline(1, "history", "PENDING")
    assert story.found() == []
    story.see_timeline(1, "workflow", "PENDING")
    story.see(1, "DELIVERED")
    story.see_timeline(1, "workflow", "CONFIRMED")
    assert [violation.rule for violation in story.found()] == ["monotonic status"] * 2


def test_a_cancel_that_does_not_stay(story: Story) -> None:
    story.cancel(1, 202, {"status": "CANCELLING"})
    story.cancel(1, 409, {"code": "already_dispatched"})  # 202 promised to settle it, not how
    story.cancel(2, 200, CANCELLED)
    story.cancel(2, 200, CANCELLED)
    story.see(2, "CANCELLED")
    story.cancel(2, 401, {"code": "unauthenticated"})
    story.cancel(2, 503, {"code": "service_unavailable"})
    assert story.found() == []
    story.cancel(2, 409, {"code": "already_dispatched"})
    story.see(2, "SHIPPED")
    story.tell("POST", f"/shipments/{order(9)}/dispatch", 200, {"order_id": order(2), "status": "DISPATCHED"})
    story.cancel(2, 200, {**CANCELLED, "refunded": {"amount": "0.00", "currency": "USD"}})
    assert [violation.rule for violation in story.found()].count("a cancel stays") == 4


def test_more_is_promised_than_was_received(story: Story) -> None:
    story.receive(3)
    story.receive(3)  # the same delivery, told again
    story.confirm(1, 2)
    story.confirm(1, 2)
    story.confirm(2, 1)
    story.refuse(3, 409, "out_of_stock")
    assert story.found() == []
    story.confirm(4, 1)
    [violation] = story.found()
    assert violation.what == "warehouse store-1 promised 1 more of product tea than the 3 it received"


def test_what_is_cancelled_can_be_promised_again_and_what_left_cannot(story: Story) -> None:
    story.receive(1)
    story.confirm(1)
    story.cancel(1, 200, CANCELLED)
    story.confirm(2)
    assert story.found() == []
    story.see(2, "SHIPPED")
    story.cancel(2, 409, {"code": "already_dispatched"})
    story.confirm(3)
    assert story.rules() == {"never oversold"}


def test_stock_of_which_no_delivery_was_seen_is_not_judged(story: Story) -> None:
    story.confirm(1, 100)
    assert story.found() == []


def test_a_violation_and_the_summary_are_told_in_plain_words(story: Story) -> None:
    story.place(1, None)
    story.place(1, 202, {"status": "PENDING"})
    story.tell("GET", f"/orders/{order(1)}", 404, {"code": "not_found"})
    [violation] = story.found()
    assert str(violation) == (
        f"read your writes: order {order(1)} was accepted, and then not found by its customer\n"
        "    1.000-1.500 s  ann POST /api/v1/orders, key key-1 → 202 PENDING\n"
        f"    2.000-2.500 s  ann GET /api/v1/orders/{order(1)} → 404 not_found"
    )
    told = summary(story.calls, story.found())
    assert told == "What clients saw: 3 calls (1 without an answer) about 1 orders; 1 promises broken."


def test_a_history_keeps_order_calls_with_their_caller_and_nothing_secret(tmp_path: Path) -> None:
    history = History()
    token = jwt.encode({"sub": "a-customer"}, "not the platform's key, which nobody asks for here")
    headers = {"idempotency-key": "k", "Prefer": "respond-async", "Authorization": "Bearer secret"}
    history("POST", "/api/v1/orders", {"lines": []}, token, headers, 0.0, Reply(202, {"order_id": order(1)}))
    history("GET", f"/api/v1/orders/{order(1)}", None, token, {}, 0.0, None)
    history("POST", "/api/v1/auth/login", {"password": "secret"}, None, {}, 0.0, Reply(200, {"access_token": "secret"}))
    file = tmp_path / "history.jsonl"
    history.write(file)
    assert read(file) == history.calls
    assert "secret" not in file.read_text()
    assert token not in file.read_text()
    placed, asked = history.calls
    assert (placed.who, placed.key, placed.prefer, placed.status, placed.order_id) == (
        "a-customer", "k", "respond-async", 202, order(1),
    )  # fmt: skip
    assert (asked.status, asked.answer) == (None, None)
