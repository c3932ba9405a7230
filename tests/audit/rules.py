"""What the tests of all rules share: a tampering with right books, which a rule must see."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from uuid import UUID

import pytest

from audit.books import Books, NotificationRow
from audit.rules import judge, rules_of
from audit.verdict import Violation
from contracts.notifications import NotificationKind
from tests.audit.shop import EARLIER, every_kind, uuid7

Tamper = Callable[[Books], None]
Tamperings = Mapping[str, Sequence[Tamper]]
"""By rule: one tampering for each way in which it can be broken."""


def found(books: Books, rule: str) -> list[Violation]:
    """What one rule says of the books."""
    return [violation for violation in judge(books).violations if violation.rule == rule]


def cases(tamperings: Tamperings) -> list[object]:
    """Parameters (rule, tamper) for a test."""
    return [pytest.param(rule, each, id=f"{rule}-{each.__name__}") for rule, all_of in tamperings.items() for each in all_of]


def assert_seen(rule: str, tamper: Tamper) -> None:
    """The rule is silent over right books, and speaks up over those that were tampered with."""
    books = every_kind()
    assert not judge(books).violations
    tamper(books)
    violations = found(books, rule)
    assert violations
    assert all(violation.expected != violation.found for violation in violations)


def assert_complete(subject: ModuleType, tamperings: Tamperings, *, but: Sequence[str] = ()) -> None:
    """Each rule of the subject has been seen to speak up."""
    assert {rule.code for rule in rules_of(subject)} == {*tamperings, *but}


def confirmation(order_id: UUID) -> NotificationRow:
    """A confirmation mail that was sent."""
    return NotificationRow(uuid7(EARLIER), order_id, NotificationKind.ORDER_CONFIRMED, "SENT", EARLIER)
