"""Templates: what they may do, and that a mistake is told before a customer sees it."""

import pytest
from jinja2 import UndefinedError

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification import rendering
from services.notification.channels import Channel
from services.notification.kinds import KINDS
from services.notification.messages import find
from services.notification.queries.templates import live_texts
from services.notification.rendering import Source, Text

SHIPPED = NotificationKind.ORDER_SHIPPED


def test_a_value_that_a_mail_lacks_is_empty_and_a_name_that_does_not_exist_is_a_mistake() -> None:
    source = Source("Hi {{ order_id }}", "{% if tracking_number %}It is {{ tracking_number }}{% endif %}.")
    assert rendering.render(SHIPPED, source, {"order_id": "7"}) == ("Hi 7", ".", None)
    with pytest.raises(UndefinedError, match="trakcing_number"):
        rendering.render(SHIPPED, Source("Hi", "{{ trakcing_number }}"), {})


def test_a_subject_is_one_line_whatever_the_values_hold() -> None:
    text = rendering.render(SHIPPED, Source("Hi {{ order_id }}", "x"), {"order_id": "7\r\nBcc: everybody@example.org"})
    assert text.subject == "Hi 7 Bcc: everybody@example.org"


@pytest.mark.parametrize(
    "body", ["{{ order_id|upper }}", "{% if not tracking_number %}a{% elif order_id == 'x' %}b{% else %}c{% endif %}"]
)
def test_what_a_letter_needs_is_there(body: str) -> None:
    rendering.check(SHIPPED, Source("Hello {{ order_id|default('you') }}", body))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("Hello {{ order_id", "line 1"),
        ("one\n{% if %}", "line 2"),
        ("{{ total }}", "'total' is undefined"),
        ("{{ name }}", "'name' is undefined"),
        ("{% for i in 'ab' %}x{% endfor %}", "for is not available"),
        ("{{ order_id.upper() }}", "not available"),
        ("{{ order_id.__class__ }}", "getattr is not available"),
        ("{{ 'x' * 1000000000 }}", "mul is not available"),
        ("{% set order_id = order_id ~ order_id %}", "assign is not available"),
        ("{% macro m() %}{% endmacro %}", "macro is not available"),
        ("{% include 'secrets' %}", "include is not available"),
        ("{{ range(3) }}", "not available"),
        ("{{ order_id|map('upper') }}", "No filter named 'map'"),
        ("  {% if false %}x{% endif %} ", "renders to nothing"),
    ],
)
def test_a_mistake_is_named(body: str, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        rendering.check(SHIPPED, Source("Hello", body))
    assert refused.value.code == ErrorCode.TEMPLATE_INVALID
    assert told in refused.value.detail
    assert refused.value.extra == {"part": "body"}


@pytest.mark.parametrize("kind", NotificationKind)
@pytest.mark.parametrize("customers_own", ["name", "reason", "email", "ship_to"])
def test_g6_no_template_can_name_what_customers_write(kind: NotificationKind, customers_own: str) -> None:
    with pytest.raises(Refusal) as refused:
        rendering.check(kind, Source("Hello", f"{{{{ {customers_own} }}}}"))
    assert refused.value.code == ErrorCode.TEMPLATE_INVALID
    with pytest.raises(UndefinedError):  # not even if it was queued when it still could
        rendering.render(kind, Source("Hello", f"{{{{ {customers_own} }}}}"), {customers_own: "cheap pills at evil.example"})


async def mail_text(database: Database, kind: NotificationKind, values: dict[str, str]) -> Text:
    """As it is shipped."""
    texts = await live_texts(database, {kind})
    return rendering.render(kind, texts[kind, Channel.EMAIL, "en"], values)


async def test_every_kind_has_a_text_that_renders_for_each_of_its_channels(database: Database) -> None:
    texts = await live_texts(database, set(NotificationKind))
    for (kind, channel, _), text in texts.items():
        rendering.check(kind, text)
        rendered = rendering.render(kind, text, {})  # whatever a value lacks
        if channel is Channel.EMAIL and Channel.PUSH in KINDS[kind].channels:
            assert rendered.body.startswith("Hello,\n\n")
    for kind, policy in KINDS.items():
        for channel in (*policy.channels, *policy.fallback):
            assert find(texts, kind, channel, "de")


@pytest.mark.parametrize(
    ("trouble", "words"), [("lost", "the carrier has lost your parcel"), ("returned", "has come back to us")]
)
async def test_s10_a_parcel_in_trouble_is_told_of_in_plain_words(database: Database, trouble: str, words: str) -> None:
    kind = NotificationKind.ORDER_UNDELIVERED
    body = (await mail_text(database, kind, {"order_id": "7", "trouble": trouble})).body
    assert body.count("your parcel") == 1
    assert words in body
    assert "\n\n\n" not in body
    assert body.endswith("Order: 7\n")


RETURNS: dict[str, tuple[NotificationKind, dict[str, str], list[str]]] = {
    "with a label": (
        NotificationKind.RETURN_APPROVED,
        {"tracking_number": "RET1", "warehouse": "410", "until": "2026-12-22"},
        ["is with us by 2026-12-22", "tracking number: RET1"],
    ),
    "brought": (
        NotificationKind.RETURN_APPROVED,
        {"number": "2", "warehouse": "410", "until": "2026-12-22"},
        ["to our warehouse 410; they have to be there by 2026-12-22", "return 2 of the order"],
    ),
    "a claim": (NotificationKind.RETURN_APPROVED, {"is_claim": "yes"}, ["accepted your claim", "need not send anything back"]),
    "a claim refused": (NotificationKind.RETURN_REJECTED, {"is_claim": "yes"}, ["could not accept your claim"]),
    "a return refused": (NotificationKind.RETURN_REJECTED, {}, ["Please do not send anything back"]),
    "a reminder": (NotificationKind.RETURN_REMINDER, {"until": "2026-12-22"}, ["have to be with us by 2026-12-22"]),
    "come": (NotificationKind.RETURN_RECEIVED, {}, ["has come to us"]),
    "refunded": (NotificationKind.RETURN_COMPLETED, {"refunded": "5.00 USD"}, ["return is settled", "5.00 USD are on their way"]),
    "exchanged": (NotificationKind.RETURN_COMPLETED, {"replacement_id": "8"}, ["instead comes as an order of its own: 8"]),
    "sent again": (
        NotificationKind.RETURN_COMPLETED,
        {"is_claim": "yes", "is_resend": "yes", "replacement_id": "8"},
        ["claim is settled", "send you the goods once more as an order of its own: 8"],
    ),
    "for nothing": (NotificationKind.RETURN_COMPLETED, {}, ["Nothing goes back to you"]),
    "too late": (NotificationKind.RETURN_EXPIRED, {}, ["did not come to us in time"]),
    "another card": (NotificationKind.CARD_NEEDED, {"pay_until": "Monday"}, ["name another card by Monday"]),
    "amended": (NotificationKind.ORDER_AMENDED, {"total": "9.00 USD", "charged": "5.00 USD"}, ["5.00 USD more are charged"]),
    "one unit cancelled": (NotificationKind.PART_CANCELLED, {"units": "1"}, ["cancelled: 1 unit. The rest"]),
    "units cancelled": (
        NotificationKind.PART_CANCELLED,
        {"units": "2", "refunded": "5.00 USD"},
        ["cancelled: 2 units. The rest", "5.00 USD are on their way"],
    ),
}


@pytest.mark.parametrize("case", RETURNS)
async def test_i10_returns_and_parts_are_told_of_in_plain_words(database: Database, case: str) -> None:
    kind, values, words = RETURNS[case]
    rendered = await mail_text(database, kind, {"order_id": "7"} | values)
    assert [word for word in words if word not in rendered.body] == []
    assert "\n\n\n" not in rendered.body
    assert rendered.body.endswith("\n\nOrder: 7\n")
    assert ("claim" in rendered.subject) == ("is_claim" in values)


async def test_s10_a_refund_is_told_with_its_amount(database: Database) -> None:
    kind = NotificationKind.ORDER_REFUNDED
    body = (await mail_text(database, kind, {"order_id": "7", "refunded": "12.50 USD"})).body
    assert "12.50 USD are on their way back to you." in body
