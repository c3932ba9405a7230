"""What must always hold, as pure functions over the books: a module for each subject, in which each rule is a function.

The rules that compare one service's books with another's pass over orders that are not at rest. What one service's books alone
must always say, and what may never happen at all (a double charge, a refund of more than was taken, negative stock), is checked
always.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from types import ModuleType

from audit.books import Books
from audit.rule import Rule
from audit.rules import (
    dead_letters,
    discounts,
    disputes,
    events,
    forgetting,
    mails,
    messages,
    money,
    outcomes,
    parcels,
    prices,
    reports,
    returns,
    sagas,
    stock,
    transfers,
)
from audit.rules.words import at
from audit.verdict import Check, InFlight, Judgement, RuleResult, Violation
from audit.world import World

SUBJECTS = (
    *(
        money,
        transfers,
        returns,
        disputes,
        prices,
        discounts,
        stock,
        parcels,
        sagas,
        outcomes,
        events,
        dead_letters,
        reports,
        mails,
        messages,
        forgetting,
    ),
)


def rules_of(subject: ModuleType) -> list[Rule]:
    """The rules of one subject, in the sequence in which its module has them."""
    return [each for each in vars(subject).values() if isinstance(each, Rule)]


RULES = [each for subject in SUBJECTS for each in rules_of(subject)]


def judge(books: Books) -> Judgement:
    """Hold every rule against the books."""
    world = World(books)
    results, in_flight = [], [*world.moving.values(), *world.unpublished]
    for each in RULES:
        missing = [source for source in each.needs if source in books.unreadable or source in books.absent]
        if missing:
            results.append(RuleResult(each.code, each.title, skipped=f"no {', no '.join(missing)}"))
            continue
        check = Check(each.code)
        each.judge(world, check)
        in_flight += check.in_flight
        violations = [_with_known_cause(world, violation) for violation in check.violations]
        results.append(RuleResult(each.code, each.title, check.compared, violations, check.note))
    return Judgement(results, in_flight)


def unsettled(looks: Sequence[Sequence[InFlight]], began: datetime) -> RuleResult:
    """What moved all the time that we waited and did not get anywhere. `looks`: what was in flight in each look."""
    last = {item.subject: item for item in looks[-1]}
    stuck = set(last).intersection(*({item.subject for item in look} for look in looks[:-1]))
    violations = [
        Violation("settles", item.subject, item.why, "at rest", f"unchanged since {at(item.since)}", item.order_id)
        for subject, item in last.items()
        if subject in stuck and (item.since is None or item.since <= began)
    ]
    return RuleResult("settles", "Whatever moves came to rest within the wait", len(last), violations)


def _with_known_cause(world: World, violation: Violation) -> Violation:
    """The violation, naming the undos of its order that somebody gave up by hand."""
    given_up = world.given_up(violation.order_id)
    if not given_up:
        return violation
    return replace(violation, found=f"{violation.found} (undo given up: {'; '.join(given_up)})")
