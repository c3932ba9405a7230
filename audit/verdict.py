"""What an audit says: what was compared, what does not hold, what cannot be judged yet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold: about what, and both values."""

    rule: str
    subject: str
    """An order's id, or what else it is about."""
    what: str
    expected: str
    found: str
    order_id: UUID | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The same in the next look."""
        return self.rule, self.subject, self.what


@dataclass(frozen=True)
class InFlight:
    """Something that still moves, so that it cannot be judged yet."""

    subject: str
    why: str
    since: datetime | None = None
    """When it last moved, or since when it waits; None if nobody wrote that down."""
    order_id: UUID | None = None


@dataclass
class Check:
    """Counts what a rule compares, and keeps what does not hold."""

    rule: str
    compared: int = 0
    violations: list[Violation] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    note: str = ""

    def equal(
        self,
        subject: object,
        what: str,
        expected: object,
        found: object,
        order_id: UUID | None = None,
        show: Callable[[object], str] = str,
    ) -> None:
        """Both are the same."""
        self.compared += 1
        if expected != found:
            self.fails(subject, what, show(expected), show(found), order_id)

    def among(
        self, subject: object, what: str, allowed: Iterable[str | None], found: str | None, order_id: UUID | None = None
    ) -> None:
        """It is one of these."""
        self.compared += 1
        if found not in allowed:
            self.fails(subject, what, " or ".join(sorted(or_none(value) for value in allowed)), or_none(found), order_id)

    def fails(self, subject: object, what: str, expected: str, found: str, order_id: UUID | None = None) -> None:
        """It does not hold; the caller has counted."""
        self.violations.append(Violation(self.rule, str(subject), what, expected, found, order_id))


@dataclass(frozen=True)
class RuleResult:
    """What came of a rule. `skipped`: why it could not be checked."""

    code: str
    title: str
    compared: int = 0
    violations: Sequence[Violation] = ()
    note: str = ""
    skipped: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What came of one look at the books."""

    results: list[RuleResult]
    in_flight: list[InFlight]

    @property
    def violations(self) -> list[Violation]:
        return [violation for result in self.results for violation in result.violations]


def or_none(value: str | None) -> str:
    return value or "none"
