"""Text messages: the adapter and the simulated messenger, over real sockets."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr, ValidationError

from chassis.clients import HttpSession, Unavailable
from services.notification.adapters.twilio import TwilioSender, TwilioSettings
from services.notification.channels import Deferred, ProviderAway, Refused
from tests.services.notification.channels.conftest import ACCOUNT, OLD_TOKEN, TOKEN, Twilio, sms

STATUS_URL = "http://shop.example/api/v1/notifications/webhooks/twilio"
Made = Callable[..., TwilioSender]


@pytest.fixture
def sender(twilio: Twilio, http: HttpSession) -> Made:
    def make(**changes: object) -> TwilioSender:
        given = {"twilio_url": twilio.url, "twilio_account_sid": ACCOUNT, "twilio_from": "+15005550006"}
        settings = TwilioSettings.model_validate(given | {"twilio_auth_token": SecretStr(TOKEN)} | changes)
        return TwilioSender(http, settings, STATUS_URL)

    return make


async def test_a_message_is_taken(sender: Made, twilio: Twilio) -> None:
    message = sms(text="Grüße: 50 % & mehr + 1 €")
    receipt = await sender().send(message)
    [taken] = await twilio.messages(To=message.to)
    assert receipt.provider_id == taken["sid"]
    assert (taken["from"], taken["body"]) == ("+15005550006", message.text)


async def test_a_messaging_service_may_send_and_the_token_before_still_counts(sender: Made, twilio: Twilio) -> None:
    service = "MG" + "a" * 32
    await sender(twilio_from=service, twilio_auth_token=SecretStr(f"{OLD_TOKEN}, {TOKEN}")).send(sms())
    [taken] = await twilio.messages()
    assert (taken["from"], taken["messaging_service_sid"]) == (None, service)


@pytest.mark.parametrize(
    ("to", "code", "gone"),
    [
        ("+15005550001", "21211", True),
        ("+15005550002", "21612", False),
        ("+15005550003", "21408", False),
        ("+15005550004", "21610", True),
        ("+15005550009", "21614", True),
    ],
)
async def test_what_twilio_refuses(sender: Made, to: str, code: str, gone: bool) -> None:
    with pytest.raises(Refused, match=code) as refused:
        await sender().send(sms(to))
    assert refused.value.gone is gone
    assert to not in str(refused.value)


async def test_who_answered_stop_gets_nothing(sender: Made, twilio: Twilio) -> None:
    message = sms()
    (await twilio.http.post("/_control/opt-outs", json={"number": message.to})).raise_for_status()
    with pytest.raises(Refused, match="21610") as refused:
        await sender().send(message)
    assert refused.value.gone


@pytest.mark.parametrize("to", ["", "0170123456", "+0170", "+49170x", "zoe@example.org", "+491701234567\n"])
async def test_what_is_no_number_is_not_asked_about(sender: Made, twilio: Twilio, to: str) -> None:
    with pytest.raises(Refused) as refused:
        await sender(twilio_url="http://127.0.0.1:9").send(sms(to))
    assert refused.value.gone


async def test_a_text_has_its_bounds(sender: Made, twilio: Twilio) -> None:
    for text in ("", "a" * 1531, "ж" * 671):
        with pytest.raises(Refused, match="parts"):
            await sender().send(sms(text=text))
    await sender().send(sms(text="a" * 1530))


async def test_refusals_are_answers_and_keep_nobody_else_waiting(sender: Made) -> None:
    own = sender()
    for _ in range(10):
        with pytest.raises(Refused):
            await own.send(sms("+15005550001"))
    await own.send(sms())


async def test_an_account_that_is_not_accepted_is_no_fault_of_a_message(sender: Made) -> None:
    for changes in (
        {"twilio_auth_token": SecretStr("wrong")},
        {"twilio_from": "+15005550007"},
        {"twilio_from": "+15005550008"},
        {"twilio_url": "http://127.0.0.1:9"},
    ):
        with pytest.raises(ProviderAway) as away:
            await sender(**changes).send(sms())
        assert "wrong" not in str(away.value)


async def test_too_many_are_not_one_messages_fault(sender: Made, twilio: Twilio) -> None:
    await twilio.faults(too_many_next=1)
    own, message = sender(), sms()
    with pytest.raises(ProviderAway, match="20429"):
        await own.send(message)
    await own.send(message)
    assert len(await twilio.messages()) == 1


async def test_a_lost_answer_is_found_in_the_list(sender: Made, twilio: Twilio) -> None:
    message = sms("+15005550016")
    receipt = await sender().send(message)
    [taken] = await twilio.messages()
    assert receipt.provider_id == taken["sid"]


async def test_after_a_lost_answer_the_list_is_asked_before_a_message_is_sent_again(sender: Made, twilio: Twilio) -> None:
    """While the list cannot be asked either, the message waits; then it is found, and not sent a second time."""
    own, message = sender(), sms("+15005550016")
    url, own._client._base_url = own._client._base_url, "http://127.0.0.1:9"
    with pytest.raises(ProviderAway):
        await own.send(message)
    own._client._base_url = url
    receipt = await own.send(message)
    assert (await own.send(sms("+15005550016"))).provider_id != receipt.provider_id
    assert len(await twilio.messages()) == 2


async def test_what_was_never_taken_is_sent_again(sender: Made, twilio: Twilio) -> None:
    own, message = sender(), sms()
    await own.send(sms(text="Another text to the same number."))
    await twilio.faults(fail_next=1)
    with pytest.raises(Deferred):
        await own.send(message)
    await own.send(message)
    assert [taken["body"] for taken in await twilio.messages()] == [message.text, "Another text to the same number."]


async def test_a_messenger_that_is_down_is_asked_seldom(sender: Made, twilio: Twilio) -> None:
    await twilio.faults(down=True)
    own = sender()
    for _ in range(8):
        with pytest.raises(Unavailable):
            await own.send(sms())
    await twilio.faults(down=False)
    with pytest.raises(ProviderAway):  # its breaker is open
        await own.send(sms())
    assert await twilio.messages() == []


def test_settings_are_whole_or_absent() -> None:
    assert TwilioSettings().twilio_from is None
    assert TwilioSettings().twilio_url == "https://api.twilio.com"
    for wrong in (
        {"twilio_from": "+15005550006"},
        {"twilio_from": "+15005550006", "twilio_account_sid": ACCOUNT},
        {"twilio_from": "+15005550006", "twilio_account_sid": ACCOUNT, "twilio_auth_token": " , "},
        {"twilio_account_sid": "AC1"},
        {"twilio_from": "a name that is too long"},
        {"twilio_status_url": "https://shop.example/?a=b"},
    ):
        with pytest.raises(ValidationError):
            TwilioSettings.model_validate(wrong)
