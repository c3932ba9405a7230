"""Outcomes: all who tell where an order is, and why it was refused, tell the same.

They are five: what the client that placed it was told, the order's row, the workflow's result, the search attributes by which
operators find it, and analytics.
"""

from audit.books import NO_RESULT, OrderRow, Source
from audit.rule import rule
from audit.verdict import Check, or_none
from audit.world import World
from contracts.orders import FINAL_STATUSES, OrderStatus

_S = OrderStatus


@rule("What the client was told is true", Source.ORDER)
def client_was_told_the_truth(world: World, check: Check) -> None:
    for order in world.settled:
        check.compared += 1
        order_id, told = order.order_id, order.outcome_status
        if told is None:  # while it is held for review, or waits for its customer to pay, it is still open how it comes out
            if order.status not in (_S.IN_REVIEW, _S.PAYMENT_DUE, _S.ACTION_REQUIRED):
                check.fails(order_id, f"{order.status}: what the client was told", "an outcome", "none", order_id)
        elif order.outcome_code is not None:
            expected, found = (_S.CANCELLED, order.outcome_code, False), (order.status, order.code, _S.CONFIRMED in order.path)
            if expected != found:
                became = f"{order.status} {or_none(order.code)}{', after it was confirmed' if found[2] else ''}"
                check.fails(order_id, "order that was refused", f"CANCELLED {order.outcome_code}", became, order_id)
        elif told != _S.CONFIRMED:
            check.fails(order_id, "what the client was told, without a code", _S.CONFIRMED, told, order_id)
        elif _S.CONFIRMED not in order.path:
            check.fails(order_id, "order that was confirmed to the client", "CONFIRMED once", " → ".join(order.path), order_id)


@rule("Workflow and search attributes tell what the row tells", Source.ORDER, Source.TEMPORAL)
def workflow_tells_the_same(world: World, check: Check) -> None:
    for order in world.settled:
        workflow = world.workflows.get(order.order_id)
        if workflow is None:
            continue
        order_id, row = order.order_id, _told(order.status, order.code)
        listed = _told(workflow.listed_as, workflow.failure_reason)
        check.equal(order_id, "status and code, as the workflow is listed (expected: the row's)", row, listed, order_id)
        if workflow.result not in (None, NO_RESULT):
            ended = _told(workflow.result, workflow.result_code)
            check.equal(order_id, "status and code, as the workflow ended (expected: the row's)", row, ended, order_id)


@rule("Analytics tells what the row tells", Source.ORDER, Source.ANALYTICS)
def analytics_tells_the_same(world: World, check: Check) -> None:
    told_later = {event.key for event in world.unapplied[Source.ANALYTICS]}
    facts = {row.order_id: row for row in world.books.facts if str(row.order_id) not in told_later}
    for order in world.settled:
        fact = facts.get(order.order_id)
        if fact is None:  # `reports_know_each_order` judges that
            continue
        ends = {_S.CANCELLED: fact.is_cancelled, _S.REFUNDED: fact.is_refunded, _S.COMPLETED: fact.is_completed}
        found = _told(" and ".join(end for end, reached in ends.items() if reached) or None, fact.cancel_code)
        check.equal(order.order_id, "end and code, by analytics (expected: the row's)", _end(order), found, order.order_id)


def _end(order: OrderRow) -> str:
    return _told(order.status if order.status in FINAL_STATUSES else None, order.code)


def _told(status: str | None, code: str | None) -> str:
    return " ".join(filter(None, (status, code))) or "none"
