"""Each rule over what clients were told of returns, with a history that keeps the promise and one that breaks it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from testing.checker import check
from testing.histories import Call

ORDER = str(uuid5(UUID(int=0), "1"))
PATH = f"/api/v1/orders/{ORDER}"


def usd(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "USD"}


class Story:
    """Calls one after the other, a second each."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def tell(self, method: str, path: str, status: int, answer: Any, *, body: Any = None, key: str | None = None) -> None:
        began = len(self.calls) * 1.0
        self.calls.append(Call("ann", method, path, body, began, began + 0.5, status, answer, key))

    def order(self, refunded: str = "0.00", **more: Any) -> None:
        """Of two units of its only line, for 20.00."""
        told = {"order_id": ORDER, "status": "COMPLETED", "total": usd("20.00"), "refunded": usd(refunded), "code": None}
        self.tell("GET", PATH, 200, told | {"lines": [{"line_id": 1, "quantity": 2, "product_id": "tea"}]} | more)

    def ask(self, number: int, key: str, quantity: int = 1) -> None:
        self.tell("POST", f"{PATH}/returns", 201, self._return(number, "REQUESTED", quantity), key=key)

    def see(self, number: int, status: str, quantity: int = 1, **more: Any) -> None:
        self.tell("GET", f"{PATH}/returns/{number}", 200, self._return(number, status, quantity) | more)

    def _return(self, number: int, status: str, quantity: int) -> dict[str, Any]:
        lines = [{"line_id": 1, "quantity": quantity}]
        told = {"order_id": ORDER, "number": number, "status": status, "lines": lines, "came": None}
        return told | {"refunded": usd("10.00" if status == "COMPLETED" else "0.00")}

    def rules(self) -> set[str]:
        return {violation.rule for violation in check(self.calls)}


def life(*statuses: str) -> Sequence[str]:
    return ("REQUESTED", "APPROVED", "RECEIVED", "SETTLING", "COMPLETED", *statuses)


def test_an_ordinary_return_breaks_no_promise() -> None:
    story = Story()
    story.order()
    story.ask(1, "key")
    story.ask(1, "key")
    for status in life():
        story.see(1, status)
    story.order(refunded="10.00")
    assert story.rules() == set()


def test_two_returns_of_one_key_and_one_of_two_keys() -> None:
    story = Story()
    story.ask(1, "key")
    story.ask(2, "key")
    assert story.rules() == {"one return per key"}
    story = Story()
    story.ask(1, "key")
    story.ask(1, "other")
    assert story.rules() == {"one return per key"}


def test_a_return_that_goes_back() -> None:
    story = Story()
    story.see(1, "APPROVED")
    story.see(1, "REQUESTED")
    assert story.rules() == {"a return goes on"}
    story = Story()
    story.see(1, "EXPIRED")
    story.see(1, "RECEIVED")
    assert story.rules() == {"a return goes on"}


def test_units_that_come_back_twice() -> None:
    story = Story()
    story.order()
    story.ask(1, "one", 2)
    story.see(1, "CANCELLED", 2)
    story.ask(2, "two", 2)
    assert story.rules() == set()
    story.ask(3, "three", 1)
    assert story.rules() == {"units come back once"}


def test_units_that_did_not_come_can_be_returned_again() -> None:
    story = Story()
    story.order()
    story.ask(1, "one", 2)
    story.see(1, "COMPLETED", 2, came=[{"line_id": 1, "quantity": 1}])
    story.ask(2, "two", 1)
    story.order(refunded="10.00")
    assert story.rules() == set()


def test_refunds_that_an_order_does_not_tell_of() -> None:
    story = Story()
    story.see(1, "COMPLETED")
    story.order(refunded="9.99")
    assert story.rules() == {"refunds add up"}
    story = Story()
    wish = {"reason": "one is enough", "lines": [{"line_id": 1, "quantity": 1}]}
    for _ in range(2):  # who repeats it is told the same once more, and nothing more goes back
        told = {"order_id": ORDER, "status": "CONFIRMED", "refunded": usd("10.00")}
        story.tell("POST", f"{PATH}/cancel", 200, told, body=wish)
    story.order(refunded="10.00")
    assert story.rules() == set()
    story.order(refunded="0.00")
    assert story.rules() == {"refunds add up"}


def test_more_money_back_than_the_order_cost() -> None:
    story = Story()
    story.order(refunded="20.01")
    assert story.rules() == {"refunds add up"}
    story = Story()
    story.order(refunded="20.01", charges={"credit": usd("5.00")})
    assert story.rules() == set()
