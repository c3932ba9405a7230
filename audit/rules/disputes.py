"""Refunds and disputes are the same here and at the provider; what failed or was lost is on the list of what is owed."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from audit.books import DisputeRow, RefundRow, Source
from audit.rule import rule
from audit.rules.words import money
from audit.verdict import Check
from audit.world import World, order_of

NOTHING_LEFT = "nothing_left"
"""Why a refund of ours failed that found nothing to give back: nothing is owed."""


@rule("Refunds are on their way, or have arrived, here as at the provider", Source.PROVIDER, Source.PAYMENT)
def refunds_agree(world: World, check: Check) -> None:
    ours, theirs = _by_charge(world.books.refunds), _by_charge(world.books.provider_refunds)
    for reference in sorted(ours.keys() | theirs.keys()):
        order_id = order_of(reference)
        if order_id is None or order_id not in world.orders or not world.is_at_rest(order_id):
            continue
        if reference in world.transfers:
            continue  # of that the bank knows: see transfers.py
        if any(world.is_fresh(row.updated_at) for row in theirs[reference]):
            continue  # its news may be on its way
        check.equal(reference, "refunds", _sums(theirs[reference]), _sums(ours[reference]), order_id)


@rule("A dispute is the same here and at the provider", Source.PROVIDER, Source.PAYMENT)
def disputes_agree(world: World, check: Check) -> None:
    ours = {row.provider_id: row for row in world.books.disputes}
    theirs = {row.provider_id: row for row in world.books.provider_disputes}
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        row = other or mine
        assert row is not None
        order_id = order_of(row.reference)
        if order_id in world.orders and not world.is_fresh(row.updated_at):
            check.equal(row.reference, f"dispute {name}", _said(other), _said(mine), order_id)


@rule("What failed or was lost is, or was, on the list of what is owed", Source.PAYMENT)
def what_failed_is_owed(world: World, check: Check) -> None:
    listed = {(row.kind, row.reference, row.subject) for row in world.books.debts}
    for refund in world.books.refunds:
        if refund.state == "FAILED" and refund.failure != NOTHING_LEFT:
            check.compared += 1
            if ("failed_refund", refund.reference, refund.key) not in listed:
                check.fails(refund.reference, f"refund {refund.key} that failed", "listed", "not", order_of(refund.reference))
    for dispute in world.books.disputes:
        if dispute.state == "lost":
            check.compared += 1
            if ("lost_dispute", dispute.reference, dispute.provider_id) not in listed:
                what = f"dispute {dispute.provider_id} that was lost"
                check.fails(dispute.reference, what, "listed", "not", order_of(dispute.reference))


def _by_charge(rows: Sequence[RefundRow]) -> dict[str, list[RefundRow]]:
    found: dict[str, list[RefundRow]] = defaultdict(list)
    for row in rows:
        found[row.reference].append(row)
    return found


def _sums(rows: Sequence[RefundRow]) -> str:
    """What is on its way and what has arrived, in all: what was found in one look may be several refunds there."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.state.lower() != "failed":
            sums[row.state.lower(), row.currency] += row.amount
    return ", ".join(f"{state} {money(amount, currency)}" for (state, currency), amount in sorted(sums.items())) or "none"


def _said(row: DisputeRow | None) -> str:
    return f"{row.state} {money(row.amount, row.currency)}" if row else "none"
