"""From a notification's text to the message of one channel."""

from uuid import uuid4

import pytest

from contracts.notifications import NotificationKind as K
from services.notification.channels import Channel, Message
from services.notification.links import Links
from services.notification.messages import SMS_PARTS, message
from services.notification.protocols.segments import segments
from services.notification.rendering import Text

ORDER_ID = "6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11"
PAGE = "https://shop.example/orders/{order_id}"


def made(channel: Channel, text: str = "Hello", *, page: str | None = PAGE, kind: K = K.ORDER_SHIPPED, **values: str) -> Message:
    links = Links("https://api.shop.example", [b"secret"], page)
    return message(
        uuid4(), channel, "to", Text("A title", text), kind=kind, language="en", person_id=uuid4(), links=links, values=values
    )


def test_a_push_message_leads_to_its_order() -> None:
    assert made(Channel.PUSH, order_id=ORDER_ID).url == f"https://shop.example/orders/{ORDER_ID}"


def test_a_push_message_leads_to_the_bank_that_asks() -> None:
    asks = made(Channel.PUSH, kind=K.PAYMENT_ACTION, order_id=ORDER_ID, url="https://bank.example/1")
    assert asks.url == "https://bank.example/1"
    transfer = made(Channel.PUSH, kind=K.PAYMENT_ACTION, order_id=ORDER_ID, url="")
    assert transfer.url == f"https://shop.example/orders/{ORDER_ID}"


def test_a_push_message_leads_nowhere_without_such_a_page_or_an_order() -> None:
    assert made(Channel.PUSH, page=None, order_id=ORDER_ID).url is None
    assert made(Channel.PUSH, kind=K.PASSWORD_CHANGED).url is None


@pytest.mark.parametrize("text", ["a" * 1_000, "€" * 1_000, "ж" * 1_000, "\N{GRINNING FACE}" * 1_000])
def test_a_text_message_that_is_too_long_is_cut_to_three_parts_and_says_so(text: str) -> None:
    cut = made(Channel.SMS, text).text
    assert segments(cut).count == SMS_PARTS
    assert cut.endswith("...")
    assert text.startswith(cut.removesuffix("..."))


def test_a_text_message_of_three_parts_stays_as_it_is() -> None:
    assert made(Channel.SMS, "a" * 459).text == "a" * 459
