"""The texts of notifications: Jinja2, in a sandbox, and only the part of it that a letter needs.

Admins edit templates while the shop runs. So a template may name values, test them and format them; it cannot loop, call,
assign or import. That keeps its cost in proportion to its length, whoever wrote it. In HTML, values are escaped.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from contracts.errors import ErrorCode, Refusal
from contracts.notifications import NotificationKind
from services.notification.kinds import KINDS
from services.notification.layout import as_text

LONGEST_SUBJECT = 300
LONGEST_BODY = 20_000
LONGEST_HTML = 60_000

_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Name, nodes.Const, nodes.Filter,
    nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Keyword,
)  # fmt: skip
_FILTERS = ("capitalize", "default", "lower", "title", "trim", "truncate", "upper")


def _environment(*, escapes: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=escapes
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    return environment


_PLAIN, _HTML = _environment(escapes=False), _environment(escapes=True)


class Source(NamedTuple):
    """A template as it is written. `html` only of mails, and only where it should look otherwise than `body` would; then the
    plain text may be left empty, and is made of it."""

    subject: str
    body: str
    html: str | None = None


class Text(NamedTuple):
    """What a template came to."""

    subject: str
    body: str
    html: str | None = None


def render(kind: NotificationKind, source: Source, values: Mapping[str, str]) -> Text:
    """The texts with these values. Raises TemplateError for a template that names what this kind does not have."""
    known = {name: values.get(name, "") for name in KINDS[kind].values}
    # One line, whatever the values hold: a line break would end the header.
    subject = " ".join(_compiled(_PLAIN, source.subject).render(known).split())
    html = _compiled(_HTML, source.html).render(known) if source.html else None
    return Text(subject, _compiled(_PLAIN, source.body).render(known) if source.body else as_text(html or ""), html)


def check(kind: NotificationKind, source: Source) -> None:
    """Try the templates on sample values. Refusal: template_invalid, which names the part and the mistake."""
    values = KINDS[kind].values
    parts = [("subject", source.subject, _PLAIN)]
    if source.body or not source.html:
        parts.append(("body", source.body, _PLAIN))
    if source.html:
        parts.append(("html", source.html, _HTML))
    for part, text, environment in parts:
        try:
            if unknown := sorted(_names(text) - set(values)):
                raise TemplateSyntaxError(f"'{unknown[0]}' is undefined; there are {', '.join(sorted(values)) or 'none'}", 1)
            if not _compiled(environment, text).render(values).strip():
                raise ValueError("it renders to nothing")
        except TemplateSyntaxError as error:
            raise _invalid(part, f"line {error.lineno}: {error.message}") from error
        except Exception as error:  # a template may fail in as many ways as any expression
            raise _invalid(part, str(error)) from error


def unused(kind: NotificationKind, source: Source) -> list[str]:
    """The values of its kind that no part of a template names, which was checked before."""
    named = {name for text in source if text for name in _names(text)}
    return sorted(set(KINDS[kind].values) - named)


def _names(text: str) -> set[str]:
    """The values that a template names. Raises TemplateSyntaxError for one that is more than text."""
    tree = _PLAIN.parse(text)
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise TemplateSyntaxError(f"{type(node).__name__.lower()} is not available in a text", node.lineno or 1)
    return find_undeclared_variables(tree)


@lru_cache(maxsize=512)
def _compiled(environment: ImmutableSandboxedEnvironment, text: str) -> Template:
    return environment.from_string(text)


def _invalid(part: str, detail: str) -> Refusal:
    return Refusal(ErrorCode.TEMPLATE_INVALID, f"The {part} does not render: {detail}.", extra={"part": part})
