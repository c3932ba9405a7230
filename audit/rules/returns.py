"""Returns and claims: what each gave back is what its record, its refunds and analytics say."""

from collections.abc import Iterator
from uuid import UUID

from audit.books import ReturnRow, Source
from audit.rule import rule
from audit.rules.words import minor, money_in
from audit.verdict import Check
from audit.world import World
from contracts.returns import FINAL_RETURN_STATUSES, ReturnStatus

STAGES = ("", "-rest", "-back")
"""How the keys of its refunds end: at its settlement; what an exchange does not cost; what of it did not get to the customer."""


@rule("A return gave back what its record says", Source.ORDER, Source.PAYMENT)
def returns_gave_back(world: World, check: Check) -> None:
    told = {(row.order_id, row.key): row.told for row in world.books.return_refunds}
    for row in _ended(world):
        back = sum(told.get(refund, 0) for refund in _refunds(row))
        check.equal(
            _name(row), f"{row.status}: refunds under its keys", row.refunded_minor, back, row.order_id, money_in(row.currency)
        )
        worth = 0 if row.value is None else minor(row.value, row.currency)
        check.compared += 1
        if row.refunded_minor > worth:
            what = f"{row.status}: went back, in minor units"
            check.fails(_name(row), what, f"{worth} at most", str(row.refunded_minor), row.order_id)


@rule("Each refund of a return belongs to one", Source.ORDER, Source.PAYMENT)
def return_refunds_have_returns(world: World, check: Check) -> None:
    known = {refund for row in world.books.returns for refund in _refunds(row)}
    for refund in world.books.return_refunds:
        check.compared += 1
        if (refund.order_id, refund.key) not in known and world.is_at_rest(refund.order_id):
            check.fails(refund.order_id, f"refund {refund.key}", "a return", "none", refund.order_id)


@rule("Analytics counts each return as it is", Source.ORDER, Source.ANALYTICS)
def reports_know_each_return(world: World, check: Check) -> None:
    facts = {(row.order_id, row.number): row for row in world.books.return_facts}
    told_later = {event.key for event in world.unapplied[Source.ANALYTICS]}
    for row in _ended(world):
        if str(row.order_id) in told_later:  # `events_are_applied` judges that
            continue
        fact = facts.get((row.order_id, row.number))
        expected = (row.refunded_minor, row.currency) if row.status == ReturnStatus.COMPLETED else None
        found = (fact.refunded_minor, fact.currency) if fact else None
        check.equal(_name(row), f"{row.status}: what analytics says went back (minor units)", expected, found, row.order_id)


def _ended(world: World) -> Iterator[ReturnRow]:
    for row in world.books.returns:
        if row.status in FINAL_RETURN_STATUSES and not world.is_fresh(row.updated_at):
            yield row


def _refunds(row: ReturnRow) -> Iterator[tuple[UUID, str]]:
    """Whose payments give back under which key: the order's own, and those that hold the credit with which it was paid."""
    for stage in STAGES:
        yield row.order_id, f"return-{row.number}{stage}"
        if row.credit_order_id:
            yield row.credit_order_id, f"return-{row.number}{stage}-of-{row.order_id.hex[:8]}"


def _name(row: ReturnRow) -> str:
    return f"{row.order_id} return {row.number}"
