"""Reports: what analytics counts is what happened, order by order and in its sums."""

from audit.books import Source
from audit.rule import rule
from audit.rules.words import money
from audit.verdict import Check
from audit.world import World
from contracts.orders import FINAL_STATUSES


@rule("Analytics counts each order as it is", Source.ORDER, Source.ANALYTICS)
def reports_know_each_order(world: World, check: Check) -> None:
    facts = {row.order_id: row for row in world.books.facts}
    told_later = {event.key for event in world.unapplied[Source.ANALYTICS]}
    for order in world.settled:
        if str(order.order_id) in told_later:  # `events_are_applied` judges that
            continue
        status, row = order.status, facts.get(order.order_id)
        back = order.refunded_minor if status in FINAL_STATUSES else 0
        expected = True, order.confirmed_at is not None, order.total_minor, back, order.currency
        found = None
        if row is not None:
            found = row.placed_at is not None, row.is_confirmed, row.total_minor, row.refunded_minor, row.currency
        check.equal(order.order_id, "analytics' order", expected, found, order.order_id, _fact)


@rule("Analytics' sums are those of its orders", Source.ANALYTICS)
def report_sums_add_up(world: World, check: Check) -> None:
    for row in world.books.sums:
        check.equal(f"{row.table} {row.currency}", row.what, row.of_facts, row.kept)


def _fact(told: object) -> str:
    if not isinstance(told, tuple):
        return "nothing"
    placed, confirmed, total, refunded, currency = told
    stages = [stage for stage, is_so in (("placed", placed), ("confirmed", confirmed)) if is_so]
    return f"{', '.join(stages)}; total {money(total, currency)}, refunded {money(refunded, currency)}"
