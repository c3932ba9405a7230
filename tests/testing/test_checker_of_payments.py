"""The rule over what was told of how to pay, with histories that keep the promise and such that break it."""

from typing import Any

import pytest

from tests.testing.test_checker import Story, order

REFERENCE, OTHER = "RF18539007547034", "RF712348231"


@pytest.fixture
def story() -> Story:
    return Story()


def redirect() -> dict[str, Any]:
    return {"kind": "redirect", "url": "https://bank.example/1", "transfer": None, "until": "2026-01-02T00:00:00Z"}


def transfer(reference: str = REFERENCE, received: str | None = None, iban: str = "DE89370400440532013000") -> dict[str, Any]:
    details: dict[str, Any] = {"recipient": "The Shop", "iban": iban, "reference": reference}
    if received:
        details["received"] = {"amount": received, "currency": "USD"}
    return {"kind": "transfer", "url": None, "transfer": details, "until": "2026-01-02T00:00:00Z"}


def see(story: Story, number: int, status: str, action: dict[str, Any] | None, **times: Any) -> None:
    seen: dict[str, Any] = {"order_id": order(number), "status": status, "code": None, "lines": [], "payment_action": action}
    story.tell("GET", f"/orders/{order(number)}", 200, seen, **times)


def test_orders_that_are_paid_as_they_were_told_break_no_promise(story: Story) -> None:
    see(story, 1, "RESERVED", None)
    see(story, 1, "ACTION_REQUIRED", transfer())
    see(story, 1, "ACTION_REQUIRED", transfer(received="1.00"))
    see(story, 1, "CONFIRMED", None)
    see(story, 2, "ACTION_REQUIRED", redirect())
    see(story, 2, "PAYMENT_DUE", None)
    see(story, 3, "ACTION_REQUIRED", transfer(OTHER))
    assert story.found() == []


@pytest.mark.parametrize(("status", "action"), [("ACTION_REQUIRED", None), ("CONFIRMED", redirect())])
def test_something_is_to_be_done_just_while_the_order_waits_for_it(
    story: Story, status: str, action: dict[str, Any] | None
) -> None:
    see(story, 1, status, action)
    assert story.rules() == {"one way to pay"}


@pytest.mark.parametrize("later", [transfer(OTHER), transfer(iban="DE02120300000000202051")])
def test_a_transfer_that_is_to_go_elsewhere_later(story: Story, later: dict[str, Any]) -> None:
    see(story, 1, "ACTION_REQUIRED", transfer())
    see(story, 1, "ACTION_REQUIRED", later)
    assert story.rules() == {"one way to pay"}


def test_two_orders_of_one_reference(story: Story) -> None:
    see(story, 1, "ACTION_REQUIRED", transfer())
    see(story, 2, "ACTION_REQUIRED", transfer())
    assert story.rules() == {"one way to pay"}


def test_what_had_come_in_is_less_later(story: Story) -> None:
    see(story, 1, "ACTION_REQUIRED", transfer(received="2.00"))
    see(story, 1, "ACTION_REQUIRED", transfer(received="1.00"), at=0.2, until=0.9)
    assert story.found() == []  # they ran at once
    see(story, 1, "ACTION_REQUIRED", transfer(received="1.00"))
    assert story.rules() == {"one way to pay"}
