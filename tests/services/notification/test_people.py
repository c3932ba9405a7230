"""What a person chooses: rules without a database."""

from datetime import UTC, datetime, time, timedelta
from uuid import uuid4

import pytest

from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind as K
from services.notification.channels import Channel
from services.notification.kinds import Group
from services.notification.model import Person, languages_of, nobody_yet
from services.notification.model.people import CODE_TRIES, MOST_BROWSERS

C = Channel
SECRET = b"secret"


def person(**facts: object) -> Person:
    return Person(person_id=uuid4(), **facts)  # type: ignore[arg-type]


def with_phone() -> Person:
    someone = person()
    someone.want_phone("+4930123456")
    _, code = someone.new_code(SECRET)
    assert someone.prove_phone(code, SECRET)
    return someone


def with_browser() -> Person:
    someone = person()
    someone.add_browser("https://push.example/1", {"endpoint": "https://push.example/1"})
    return someone


def test_who_has_chosen_nothing_gets_mails() -> None:
    assert nobody_yet(uuid4()).routes(K.ORDER_CONFIRMED) == [(C.EMAIL, "")]
    assert with_phone().routes(K.ORDER_CONFIRMED) == [(C.EMAIL, "")]  # an SMS only if it is asked for
    assert [channel for channel, _ in with_browser().routes(K.ORDER_SHIPPED)] == [C.EMAIL, C.PUSH]


def test_each_browser_gets_its_own_message() -> None:
    someone = with_browser()
    for n in range(MOST_BROWSERS):
        someone.add_browser(f"https://push.example/{n}", {})
    targets = [target for channel, target in someone.routes(K.ORDER_SHIPPED) if channel is C.PUSH]
    assert len(set(targets)) == len(targets) == MOST_BROWSERS


def test_what_is_chosen_is_followed() -> None:
    someone = with_phone()
    someone.choose({Group.DELIVERIES: {C.EMAIL: False, C.SMS: True, C.INBOX: False}})
    assert someone.routes(K.ORDER_SHIPPED) == [(C.SMS, "")]
    assert not someone.wants(K.ORDER_SHIPPED, C.INBOX)
    assert someone.wants(K.ORDER_CONFIRMED, C.INBOX)
    someone.choose({Group.DELIVERIES: {C.EMAIL: False, C.PUSH: False}})
    assert someone.routes(K.ORDER_SHIPPED) == []


@pytest.mark.parametrize(
    "wanted",
    [
        {C.EMAIL: False},
        {C.EMAIL: False, C.SMS: True},  # there is no number
        {C.EMAIL: False, C.PUSH: True, C.INBOX: True},  # nor a browser; and nobody looks into the inbox
    ],
)
def test_what_has_to_reach_a_person_cannot_be_switched_off(wanted: dict[C, bool]) -> None:
    with pytest.raises(Refusal) as refused:
        person().choose({Group.ORDERS: wanted})
    assert refused.value.code == ErrorCode.VALIDATION_FAILED
    [error] = refused.value.extra["errors"]
    assert error["field"] == "choices.orders"
    assert "has to reach you" in error["detail"]


def test_it_may_take_another_channel_and_is_mailed_when_that_is_gone() -> None:
    someone = with_phone()
    someone.choose({Group.ORDERS: {C.EMAIL: False, C.SMS: True}})
    assert someone.routes(K.PAYMENT_DUE) == [(C.SMS, "")]
    someone.forget_phone()
    assert someone.routes(K.PAYMENT_DUE) == [(C.EMAIL, "")]


def test_account_mails_are_not_chosen() -> None:
    someone = person(choices={"account": {"email": False}})
    assert someone.routes(K.PASSWORD_CHANGED) == [(C.EMAIL, "")]


BERLIN = {"time_zone": "Europe/Berlin", "quiet_from": time(22), "quiet_until": time(7)}


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-12-01T20:59:00", None),  # 21:59 there
        ("2026-12-01T21:00:00", "2026-12-02T06:00:00"),
        ("2026-12-02T05:59:00", "2026-12-02T06:00:00"),
        ("2026-12-02T06:00:00", None),
        ("2026-03-28T22:30:00", "2026-03-29T05:00:00"),  # the clocks go forward in that night
        ("2026-10-24T21:30:00", "2026-10-25T06:00:00"),  # and back in this
    ],
)
def test_quiet_hours_are_by_the_persons_own_clock(now: str, until: str | None) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    expected = datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None
    assert person(**BERLIN).held_until(K.ORDER_SHIPPED, C.SMS, at) == expected


def test_quiet_hours_within_a_day() -> None:
    someone = person(quiet_from=time(12), quiet_until=time(14))
    noon = datetime(2026, 12, 1, 13, tzinfo=UTC)
    assert someone.held_until(K.ORDER_SHIPPED, C.PUSH, noon) == noon + timedelta(hours=1)
    assert someone.held_until(K.ORDER_SHIPPED, C.PUSH, noon + timedelta(hours=1)) is None


def test_mails_and_what_is_urgent_do_not_wait() -> None:
    night = datetime(2026, 12, 1, 23, tzinfo=UTC)
    someone = person(**BERLIN)
    assert someone.held_until(K.ORDER_SHIPPED, C.PUSH, night)
    assert someone.held_until(K.ORDER_SHIPPED, C.EMAIL, night) is None
    assert someone.held_until(K.PAYMENT_DUE, C.SMS, night) is None


def test_a_number_is_proven_by_the_code_that_was_sent_last() -> None:
    someone = person()
    someone.want_phone("+4930123456")
    _, first = someone.new_code(SECRET)
    number, second = someone.new_code(SECRET)
    assert (number, someone.phone) == ("+4930123456", None)
    assert first == second or not someone.prove_phone(first, SECRET)
    assert not someone.prove_phone(second, b"another secret")
    assert someone.prove_phone(second, SECRET)
    assert (someone.phone, someone.wanted_phone, someone.code_digest) == ("+4930123456", None, None)
    assert not someone.prove_phone(second, SECRET)


def test_a_code_cannot_be_guessed_nor_kept() -> None:
    someone = person()
    someone.want_phone("+4930123456")
    _, code = someone.new_code(SECRET)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    guesses = [someone.prove_phone(wrong, SECRET) for _ in range(CODE_TRIES)]
    assert not any(guesses)
    assert not someone.prove_phone(code, SECRET)
    someone.want_phone("+4930123456")
    _, code = someone.new_code(SECRET)
    someone.code_expires_at = datetime.now(UTC)
    assert not someone.prove_phone(code, SECRET)


def test_start_takes_back_stop_and_nothing_else() -> None:
    someone = with_phone()
    someone.address_is_dead(C.SMS, "", "21610: STOP", None)
    someone.address_is_dead(C.EMAIL, "", "5.1.1", None)
    someone.wants_sms_again("21610: STOP")
    assert someone.suppressed == {"email": "5.1.1"}
    someone.address_is_dead(C.SMS, "", "30005: not in service", None)
    someone.wants_sms_again("21610: STOP")
    assert "sms" in someone.suppressed


def test_the_old_number_stays_until_the_new_one_is_proven() -> None:
    someone = with_phone()
    someone.want_phone("+4930999999")
    assert someone.targets(C.SMS, K.ORDER_SHIPPED) == [(C.SMS, "")]
    assert someone.phone == "+4930123456"


def test_a_dead_address_gets_nothing_until_it_is_proven_again() -> None:
    someone = with_phone()
    someone.address_is_dead(C.SMS, "", "21610", None)
    assert someone.targets(C.SMS, K.PAYMENT_DUE) == []
    someone.want_phone("+4930123456")
    _, code = someone.new_code(SECRET)
    someone.prove_phone(code, SECRET)
    assert someone.targets(C.SMS, K.PAYMENT_DUE) == [(C.SMS, "")]

    someone.address_is_dead(C.EMAIL, "", "5.1.1", datetime.now(UTC))
    assert someone.suppressed == {"email": "5.1.1"}
    proven = datetime.now(UTC)
    someone.email_verified(proven)
    someone.address_is_dead(C.EMAIL, "", "5.1.1", proven - timedelta(minutes=1))  # of the address before
    assert someone.suppressed == {}


def test_a_browser_that_is_gone_is_forgotten() -> None:
    someone = with_browser()
    [(_, browser_id)] = someone.targets(C.PUSH, K.ORDER_SHIPPED)
    someone.address_is_dead(C.PUSH, browser_id, "410", None)
    assert (someone.browsers, someone.suppressed) == ([], {})


def test_what_may_not_be_asked_for_often_is_counted() -> None:
    someone = person()
    for _ in range(3):
        someone.take("codes", 3, timedelta(hours=1))
    someone.take("others", 3, timedelta(hours=1))
    with pytest.raises(Refusal) as refused:
        someone.take("codes", 3, timedelta(hours=1))
    assert refused.value.code == ErrorCode.RATE_LIMITED
    assert 3500 < refused.value.extra["retry_after"] <= 3600
    someone.allowances["codes"]["since"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    someone.take("codes", 3, timedelta(hours=1))


def test_a_language_falls_back_to_its_base_and_then_to_the_shops() -> None:
    assert languages_of("de-AT") == ["de-AT", "de", "en"]
    assert languages_of("en") == ["en"]
    assert languages_of(None) == ["en"]
