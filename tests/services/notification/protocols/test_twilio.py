"""Twilio's signatures, statuses and errors."""

import json
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from contracts.errors import ErrorCode, Refusal
from services.notification.channels import DeliveryState, ProviderAway, Refused
from services.notification.protocols.twilio import Incoming, StatusCallback, callback_in, failure, signature, verify_signature

# The example of Twilio's own documentation and of the tests of its libraries.
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
SID = "SM" + "0123456789abcdef" * 2
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def test_the_signature_is_the_one_that_twilio_publishes() -> None:
    assert signature(URL, FIELDS, "12345") == SIGNATURE
    assert signature(URL, [*reversed(FIELDS), FIELDS[0]], "12345") == SIGNATURE


def test_a_signature_of_any_of_our_tokens_counts_and_no_other() -> None:
    verify_signature(SIGNATURE, URL, FIELDS, ["new token", "12345"])
    for given, url, fields, tokens in [
        (SIGNATURE, URL, FIELDS, ["new token"]),
        (SIGNATURE, URL, FIELDS, []),
        (SIGNATURE, URL + "3", FIELDS, ["12345"]),
        (SIGNATURE, URL, FIELDS[1:], ["12345"]),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B9=", URL, FIELDS, ["12345"]),
        ("é", URL, FIELDS, ["12345"]),
        (None, URL, FIELDS, ["12345"]),
    ]:
        with pytest.raises(Refusal) as refused:
            verify_signature(given, url, fields, tokens)
        assert refused.value.code == ErrorCode.INVALID_SIGNATURE


@pytest.mark.parametrize("url", ["https://shop.example/hook?a=1", "https://shop.example:443/hook?a=1"])
def test_the_port_may_be_left_out_of_what_is_signed(url: str) -> None:
    for signed in ("https://shop.example/hook?a=1", "https://shop.example:443/hook?a=1"):
        verify_signature(signature(signed, FIELDS, "12345"), url, FIELDS, ["12345"])


@pytest.mark.parametrize(
    ("status", "code", "state", "permanent"),
    [
        ("delivered", None, DeliveryState.DELIVERED, False),
        ("undelivered", 30003, DeliveryState.BOUNCED, False),
        ("undelivered", 30005, DeliveryState.BOUNCED, True),
        ("failed", 30008, DeliveryState.BOUNCED, False),
        ("failed", 21610, DeliveryState.BOUNCED, True),
    ],
)
def test_news_of_a_status(status: str, code: int | None, state: DeliveryState, permanent: bool) -> None:
    callback = StatusCallback.model_validate({"MessageSid": SID, "MessageStatus": status, "ErrorCode": code})
    message_id = uuid4()
    news = callback.news(message_id, NOW)
    assert news is not None
    assert (news.state, news.permanent, news.message_id, news.provider_id) == (state, permanent, message_id, None)
    again = callback.news(None, NOW)
    assert again is not None
    assert (again.id, again.message_id, again.provider_id) == (news.id, None, SID)


@pytest.mark.parametrize("status", ["accepted", "scheduled", "queued", "sending", "sent", "canceled", "new"])
def test_a_message_on_its_way_is_no_news(status: str) -> None:
    assert StatusCallback.model_validate({"MessageSid": SID, "MessageStatus": status}).news(None, NOW) is None


@pytest.mark.parametrize(
    ("given", "stops"),
    [
        ({"Body": "STOP"}, True),
        ({"Body": " stop "}, True),
        ({"Body": "unsubscribe"}, True),
        ({"Body": "Halt!", "OptOutType": "STOP"}, True),
        ({"Body": "START"}, False),
        ({"Body": "Hilfe", "OptOutType": "HELP"}, None),
        ({"Body": "please stop sending me this"}, None),
        ({}, None),
    ],
)
def test_an_answer_is_one_of_the_words_that_the_networks_know(given: dict[str, str], stops: bool | None) -> None:
    _, incoming = callback_in(urlencode({"MessageSid": SID, "From": "+491701234567", **given}).encode())
    assert isinstance(incoming, Incoming)
    answer = incoming.answer
    assert (answer.stops if answer else None) is stops
    if answer:
        assert (answer.number, answer.reason[:5]) == ("+491701234567", "21610")


@pytest.mark.parametrize("sender", ["whatsapp:+491701234567", "shop", "", "+0"])
def test_an_answer_from_no_number_is_none(sender: str) -> None:
    assert callback_in(urlencode({"MessageSid": SID, "From": sender, "Body": "STOP"}).encode())[1] is None


def test_a_webhook_is_a_form() -> None:
    fields, callback = callback_in(f"MessageSid={SID}&MessageStatus=delivered&ErrorCode=&To=%2B4930".encode())
    assert ("To", "+4930") in fields
    assert isinstance(callback, StatusCallback)
    assert callback.sid == SID
    assert callback_in(b"MessageSid=other&MessageStatus=sent")[1] is None
    for body in (b"{}", b"\xff=1", b"a=1&" * 200):
        with pytest.raises(Refusal) as refused:
            callback_in(body)
        assert refused.value.code == ErrorCode.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("status", "code", "kind", "gone"),
    [
        (400, 21211, Refused, True),
        (400, 21610, Refused, True),
        (400, 21614, Refused, True),
        (400, 21408, Refused, False),
        (400, 21617, Refused, False),
        (400, 21699, Refused, False),
        (400, 21606, ProviderAway, False),
        (400, None, ProviderAway, False),
        (401, 20003, ProviderAway, False),
        (429, 20429, ProviderAway, False),
        (503, None, ProviderAway, False),
    ],
)
def test_whose_fault_an_error_is(status: int, code: int | None, kind: type[Exception], gone: bool) -> None:
    answer = {"code": code, "message": "The 'To' number +15005550001 is not a valid phone number.", "status": status}
    error = failure(status, json.dumps(answer).encode())
    assert type(error) is kind
    assert getattr(error, "gone", False) is gone
    assert "+1500" not in str(error)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"code": "x"}', b'{"code": -1}'])
def test_an_answer_that_is_not_twilios(content: bytes) -> None:
    assert isinstance(failure(400, content), ProviderAway)
