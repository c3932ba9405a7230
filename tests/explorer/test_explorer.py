"""The saga against the adversary: every run keeps what design.md, section 7, promises; and a run is repeated exactly."""

import pytest

from contracts.orders import OrderStatus
from testing.explorer.adversary import Choices, Story
from testing.explorer.explore import explore, play_order, play_seed, play_story, violations
from testing.explorer.shrink import shrink


def status_of(story: Story) -> OrderStatus:
    played = play_order(Choices(story=story))
    assert violations(played) == []
    return played.world.orders.records[played.order.order_id].status


@pytest.mark.timeout(1200)
def test_no_seed_breaks_a_promise(request: pytest.FixtureRequest) -> None:
    """Short, because it runs in every `make test`; `make explore SEEDS=…` is for long."""
    first = int(request.config.getoption("--explore-first"))
    seeds = range(first, first + int(request.config.getoption("--explore-seeds")))
    findings = [str(finding) for finding in explore(seeds)]
    assert not findings, "\n\n".join(findings)


def test_an_order_without_trouble_is_completed() -> None:
    assert status_of({}) == OrderStatus.COMPLETED


@pytest.mark.parametrize(
    ("does", "ends"),
    [
        ("confirms at once", OrderStatus.COMPLETED),
        ("confirms at the very last moment", OrderStatus.COMPLETED),
        ("confirms too late", OrderStatus.CANCELLED),
        ("refuses", OrderStatus.CANCELLED),
        ("does nothing", OrderStatus.CANCELLED),
        ("does nothing, until it is undone", OrderStatus.CANCELLED),
    ],
)
@pytest.mark.parametrize("news", ["usual", "at once", "twice", "lost"])
def test_who_has_to_confirm_the_payment_does_it_or_not(does: str, ends: OrderStatus, news: str) -> None:
    story = {"the customer is there": "to confirm", "the bank asks": "about all cards", "news 1 of payment": news}
    assert status_of(story | {"customer at the bank 1": does}) == ends


@pytest.mark.parametrize(
    ("decides", "went_back", "given_up"),
    [
        ("usual", 1.0, ()),
        ("for the shop, at once", 1.0, ()),
        ("for the customer", 0.0, ("refund-payment: by operator: the bank gave it back",)),
        ("for the customer, at once", 0.0, ("refund-payment: by operator: the bank gave it back",)),
    ],
)
def test_an_order_that_is_cancelled_while_its_payment_is_disputed_ends_as_the_bank_decides(
    decides: str, went_back: float, given_up: tuple[str, ...]
) -> None:
    story = {"carrier of parcel 1": "picks up after 20 days", "message 1": "cancel, after 30 s"}
    dispute = {"the customer disputes the payment": "as soon as it is paid", "the bank decides the dispute": decides}
    played = play_order(Choices(story=story | dispute))
    assert violations(played) == []
    assert played.result
    assert (played.result.status, played.result.given_up) == (OrderStatus.CANCELLED, given_up)
    [paid] = played.world.payments.payments.values()
    assert paid.refunded_minor == went_back * paid.captured_minor


def test_an_order_whose_payment_is_disputed_takes_its_course() -> None:
    assert status_of({"the customer disputes the payment": "a minute later"}) == OrderStatus.COMPLETED


def test_a_story_repeats_its_seed_exactly() -> None:
    for seed in range(20):
        played = play_seed(seed)
        assert play_story(played.story).log == played.log


def test_a_story_is_shortened_to_what_matters() -> None:
    story = {f"choice {number}": "made" for number in range(40)}
    assert shrink(story, lambda fewer: {"choice 7", "choice 31"} <= fewer.keys()) == {"choice 7": "made", "choice 31": "made"}


FOUND: dict[str, Story] = {
    "f1_a_lost_task_had_gone_further_than_the_one_that_cancels": {
        "message 2": "cancel, with task 1",
        "message 6": "kill the worker, after call ProcessPayment 1",
    },
    "f1_a_lost_charge_arrives_late": {
        "review": "asked for by us",
        "message 4": "cancel, after call ProcessPayment 1",
        "task 1 is lost": "after 2 local activities",
        "ProcessPayment 1": "arrives after 1 s",
    },
    "f2_a_lost_task_had_told_the_record": {
        "message 5": "cancel the workflow, after call ProcessPayment 1",
        "task 1 is lost": "after 4 local activities",
    },
    "f3_a_cancel_interrupts_the_confirmation_and_comes_too_late": {
        "message 2": "cancel, after 0.02 s",
        "AdvanceOrder 1": "no answer",
        "CancelShipment 1": "outage of 700 s",
        "CancelShipment 20": "outage of 7200 s",
    },
    "f4_a_cancel_in_a_long_review": {
        "review": "asked for by us",
        "message 4": "cancel, with call AdvanceOrder 1",
        "task 2 finds the history long": "yes",
    },
    "f5_a_lost_task_had_told_the_record_an_outcome": {
        "task 1 is lost": "after 3 local activities",
        "ReserveInventory 2": "outage of 3600 s",
    },
    "f6_an_order_that_was_approved_and_has_a_long_history": {
        "review": "asked for by us",
        "message 3": "approve by signal, after 5 s",
        "task 5 finds the history long": "yes",
    },
    "s2_an_undeliverable_address_and_an_undo_that_is_not_found": {
        "CreateShipment 1": "refused: address_undeliverable",
        "CancelShipment 1": "refused by mistake: not_found",
    },
    "s3_shipping_is_away_while_the_parcel_leaves": {
        "message 1": "cancel, after 3000 s",
        "CancelShipment 1": "outage of 7200 s",
    },
    "f7_a_client_asks_again_while_an_order_is_held_and_its_history_long": {
        "review": "asked for by us",
        "message 2": "place under another id, after call AdvanceOrder 1",
        "task 1 finds the history long": "yes",
        "task 2 finds the history long": "yes",
    },
    "f8_an_update_is_rejected_in_the_task_that_goes_on_in_another_run": {
        "message 5": "approve, with task 9",
        "carrier of parcel 1": "picks up after 20 days",
        "task 7 finds the history long": "yes",
        "task 9 finds the history long": "yes",
        "task 10 finds the history long": "yes",
    },
    "f9_old_reports_of_a_parcel_that_came_back": {
        "message 3": "report all backwards, after call AdvanceOrder 3",
        "carrier of parcel 1": "brings it back",
    },
    "f10_a_lost_parcel_comes_back_after_another_was_sent": {
        "message 5": "decide resend, after 179987 s",
        "carrier of parcel 1": "loses it, and brings it back",
        "carrier of parcel 2": "loses it",
    },
    "f11_what_waited_for_goods_that_are_left_out": {
        "shelves": "no cheese",
        "when short": "ask",
        "delivery": "all together",
    },
    "f12_a_cancel_when_a_part_has_left_and_the_rest_is_awaited": {
        "shelves": "no cheese",
        "when short": "wait",
        "message 2": "cancel, with task 4",
    },
    "f13_a_free_parcel_is_called_off": {
        "shelves": "no cheese",
        "charges": "the cheese is free",
        "when short": "ask",
    },
    "f14_a_parcel_comes_back_while_the_order_ends": {
        "shelves": "a warehouse for each line",
        "carrier of parcel 1": "brings it back",
        "carrier of parcel 2": "loses it, and brings it back",
    },
    "f15_a_lost_task_had_told_the_record_of_a_plan": {
        "shelves": "too little in two warehouses",
        "when short": "ask",
        "review": "asked for by us",
        "task 1 is lost": "after 2 local activities",
        "ReserveInventory 2": "outage of 50 s",
        "ReserveInventory 9": "outage of 3600 s",
    },
    "f16_a_cancel_when_the_rest_has_arrived": {
        "shelves": "no cheese",
        "when short": "ask",
        "message 1": "cancel the workflow, after 5 s",
        "carrier of parcel 1": "is quick",
    },
    "f17_goods_arrive_after_a_lost_task_had_told_that_they_are_awaited": {
        "shelves": "nothing at all",
        "when short": "ask",
        "goods arrive": "at once",
        "task 1 is lost": "after 2 local activities",
    },
    "f18_a_cancel_of_a_part_in_trouble_when_the_rest_has_arrived": {
        "shelves": "a warehouse for each line",
        "message 6": "cancel, after 899975 s",
        "carrier of parcel 2": "picks up after 20 days",
    },
    "f19_a_cancel_while_the_record_says_what_a_lost_task_had_told": {
        "message 6": "cancel the workflow, after 30 s",
        "task 1 is lost": "at the end, at once",
        "carrier of parcel 1": "comes within a minute",
        "AdvanceOrder 2": "outage of 700 s",
    },
    "f20_some_of_what_the_customer_is_asked_about_is_cancelled": {
        "shelves": "no cheese",
        "when short": "ask",
        "message 1": "cancel 1 milk and 1 cheese, after 5 s",
    },
    "f21_a_cancel_of_what_the_customer_is_asked_about_when_the_rest_has_left": {
        "shelves": "no cheese",
        "when short": "ask",
        "message 1": "cancel, after 7200 s",
        "carrier of parcel 1": "picks up after 20 days",
        "carrier of parcel 2": "picks up after 20 days",
        "CancelShipment 1": "refused: already_dispatched",
    },
    "f22_goods_that_are_held_for_longer_than_there_are_attempts_to_pay": {
        "shelves": "no cheese",
        "when short": "wait",
        "delivery": "all together",
        "money is taken": "as parcels leave",
        "the bank holds it": "for an hour",
    },
    "f23_other_cards_are_declined_for_an_order_that_is_confirmed": {
        "shelves": "nothing at all",
        "when short": "wait",
        "money is taken": "as parcels leave",
        "the bank holds it": "for a day",
        "the customer is there": "to confirm",
        "the bank asks": "about all cards",
    },
    "f24_nobody_brings_another_card_for_an_order_that_is_confirmed": {
        "money is taken": "as parcels leave",
        "the bank holds it": "for a day",
        "the first card expires": "after an hour",
        "carrier of parcel 1": "picks up after 20 days",
        "customer after decline 1": "does nothing",
    },
    "s1_a_declined_order_whose_task_is_lost": {
        "ProcessPayment 1": "refused: payment_declined",
        "task 1 is lost": "at the end",
    },
    "s4_a_cancel_in_another_currency_before_the_money_is_taken": {
        "currency": "EUR",
        "ProcessPayment 1": "no answer",
        "ProcessPayment 2": "no answer",
        "ProcessPayment 3": "no answer",
        "message 1": "cancel, after 30 s",
    },
}
"""Stories of what was found once: in this workflow (f), and in the first version of it (s)."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_holds(name: str) -> None:
    assert violations(play_story(FOUND[name])) == []
