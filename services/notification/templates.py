"""The texts of mails: Jinja2, in a sandbox, and only the part of it that a letter needs.

Admins edit templates while the shop runs. So a template may name values, test them and format them; it cannot loop, call,
assign or import. That keeps its cost in proportion to its length, whoever wrote it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind

LONGEST_SUBJECT = 300
LONGEST_BODY = 20_000

_ORDER = {"order_id": "6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11"}
_PART = {"tracking_number": "TRK123456", "parcel": "2", "parcels": "3"}
_RETURN = _ORDER | {"number": "1", "is_claim": ""}
_LINK = {"link": "https://shop.example/api/v1/auth/links/verify-email?token=2Fq9"}
_KIND = NotificationKind
SAMPLES: Mapping[NotificationKind, Mapping[str, str]] = {
    _KIND.ORDER_CONFIRMED: _ORDER | {"total": "42.50 USD", "lines": "3", "tracking_number": "TRK123456"},
    _KIND.ORDER_SHIPPED: _ORDER | {"tracking_number": "TRK123456"},
    _KIND.ORDER_DELIVERED: _ORDER | {"tracking_number": "TRK123456"},
    _KIND.PART_SHIPPED: _ORDER | _PART,
    _KIND.PART_DELIVERED: _ORDER | _PART,
    _KIND.PAYMENT_DUE: _ORDER | {"total": "42.50 USD", "pay_until": "2026-12-01 14:30 UTC"},
    _KIND.CARD_NEEDED: _ORDER | {"pay_until": "2026-12-01 14:30 UTC"},
    _KIND.GOODS_DELAYED: _ORDER | {"expected_on": "2026-12-08", "was_expected_on": "2026-12-01"},
    _KIND.ORDER_AMENDED: _ORDER | {"total": "42.50 USD", "charged": "12.50 USD", "refunded": ""},
    _KIND.ORDER_CANCELLED: _ORDER | {"total": "42.50 USD", "refunded": "42.50 USD"},
    _KIND.ORDER_UNDELIVERED: _ORDER | {"trouble": "lost"},
    _KIND.ORDER_REFUNDED: _ORDER | {"total": "42.50 USD", "refunded": "42.50 USD"},
    _KIND.PART_CANCELLED: _ORDER | {"units": "2", "refunded": "12.50 USD"},
    _KIND.RETURN_APPROVED: _RETURN | {"tracking_number": "RET123456", "warehouse": "410", "until": "2026-12-22"},
    _KIND.RETURN_REJECTED: _RETURN,
    _KIND.RETURN_REMINDER: _RETURN | {"until": "2026-12-22"},
    _KIND.RETURN_RECEIVED: _RETURN,
    _KIND.RETURN_COMPLETED: _RETURN
    | {"refunded": "12.50 USD", "replacement_id": "0d4a0c2e-6a5c-5d34-8a5b-2f8f6b0e3c55", "is_resend": ""},
    _KIND.RETURN_EXPIRED: _RETURN,
    _KIND.VERIFY_EMAIL: _LINK,
    _KIND.ACCOUNT_EXISTS: _LINK,
    _KIND.PASSWORD_RESET: _LINK,
    _KIND.EMAIL_CHANGE_OLD: _LINK,
    _KIND.EMAIL_CHANGE_NEW: _LINK,
}
"""What the templates of each kind may name, with an example: nothing that customers write themselves, or the shop would mail
their words to whoever they like. A value that a mail lacks is empty there."""

_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Name, nodes.Const, nodes.Filter,
    nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Keyword,
)  # fmt: skip
_FILTERS = ("capitalize", "default", "lower", "title", "trim", "truncate", "upper")

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
_environment.globals.clear()
_environment.filters = {name: _environment.filters[name] for name in _FILTERS}


class Text(NamedTuple):
    subject: str
    body: str


def render(kind: NotificationKind, subject: str, body: str, values: Mapping[str, str]) -> Text:
    """The mail's text. Raises TemplateError for a template that names what this kind of mail does not have."""
    known = {name: values.get(name, "") for name in SAMPLES[kind]}
    # One line, whatever the values hold: a line break would end the header.
    return Text(" ".join(_compiled(subject).render(known).split()), _compiled(body).render(known))


def check(kind: NotificationKind, subject: str, body: str) -> None:
    """Try the templates on sample values. Refusal: template_invalid, which names the mistake."""
    for part, source in (("subject", subject), ("body", body)):
        try:
            _refuse_more_than_text(source)
            if not _compiled(source).render(SAMPLES[kind]).strip():
                raise ValueError("it renders to nothing")
        except TemplateSyntaxError as error:
            raise _invalid(part, f"line {error.lineno}: {error.message}") from error
        except Exception as error:  # a template may fail in as many ways as any expression
            raise _invalid(part, str(error)) from error


def _refuse_more_than_text(source: str) -> None:
    for node in _environment.parse(source).find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise TemplateSyntaxError(f"{type(node).__name__.lower()} is not available in a mail", node.lineno or 1)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _environment.from_string(source)


def _invalid(part: str, detail: str) -> Refusal:
    return Refusal(ErrorCode.TEMPLATE_INVALID, f"The {part} does not render: {detail}.", extra={"part": part})
