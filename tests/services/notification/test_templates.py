"""Templates: what they may do, and that a mistake is told before a customer sees it."""

import pytest
from jinja2 import UndefinedError

from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification import templates

SHIPPED = NotificationKind.ORDER_SHIPPED


def test_a_value_that_a_mail_lacks_is_empty_and_a_name_that_does_not_exist_is_a_mistake() -> None:
    text = templates.render(
        SHIPPED, "Hi {{ name }}", "{% if tracking_number %}It is {{ tracking_number }}{% endif %}.", {"name": "Zoe"}
    )
    assert text == ("Hi Zoe", ".")
    with pytest.raises(UndefinedError, match="trakcing_number"):
        templates.render(SHIPPED, "Hi", "{{ trakcing_number }}", {})


def test_a_subject_is_one_line_whatever_the_values_hold() -> None:
    text = templates.render(SHIPPED, "Hi {{ name }}", "x", {"name": "Zoe\r\nBcc: everybody@example.org"})
    assert text.subject == "Hi Zoe Bcc: everybody@example.org"


@pytest.mark.parametrize(
    "body", ["{{ name|upper }}", "{% if not tracking_number %}a{% elif name == 'x' %}b{% else %}c{% endif %}"]
)
def test_what_a_letter_needs_is_there(body: str) -> None:
    templates.check(SHIPPED, "Hello {{ name|default('you') }}", body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("Hello {{ name", "line 1"),
        ("one\n{% if %}", "line 2"),
        ("{{ total }}", "'total' is undefined"),
        ("{% for i in 'ab' %}x{% endfor %}", "for is not available"),
        ("{{ name.upper() }}", "not available"),
        ("{{ name.__class__ }}", "getattr is not available"),
        ("{{ 'x' * 1000000000 }}", "mul is not available"),
        ("{% set name = name ~ name %}", "assign is not available"),
        ("{% macro m() %}{% endmacro %}", "macro is not available"),
        ("{% include 'secrets' %}", "include is not available"),
        ("{{ range(3) }}", "not available"),
        ("{{ name|map('upper') }}", "No filter named 'map'"),
        ("  {% if false %}x{% endif %} ", "renders to nothing"),
    ],
)
def test_a_mistake_is_named(body: str, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        templates.check(SHIPPED, "Hello", body)
    assert refused.value.code == ErrorCode.TEMPLATE_INVALID
    assert told in refused.value.detail
    assert refused.value.extra == {"part": "body"}
