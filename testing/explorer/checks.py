"""What must hold after every run (design.md, section 7), whatever the adversary did."""

from collections.abc import Iterator

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus
from contracts.money import Money
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, OrderStatus, Outcome
from contracts.payments import PaymentStatus
from contracts.shipments import ShipmentStatus
from testing.explorer.adversary import FORWARD
from testing.explorer.run import Played

_O, _S, _R = OrderStatus, ShipmentStatus, ReservationStatus
TOMBSTONES = frozenset({ErrorCode.RESERVATION_RELEASED, ErrorCode.PAYMENT_REVERSED, ErrorCode.SHIPMENT_CANCELLED})
"""Refusals of a step whose undo came first: never a reason why an order ended."""
CANCELS = frozenset({"cancel", "cancel by signal", "cancel the workflow"})
PATIENCE_S = 600.0
"""So long a saga may need for what came before, until it takes up a wish to cancel."""
BY_REQUEST = frozenset({ErrorCode.CANCELLED_BY_REQUEST})


def violations(played: Played) -> list[str]:
    """What does not hold; none if all is well. The first is the nearest to the cause."""
    if played.broken:
        return [*played.without_parcel, played.broken]
    return [
        *played.without_parcel,
        *_ending(played),
        *_money(played),
        *_stock(played),
        *_parcels(played),
        *_outcomes(played),
        *_reason(played),
        *_messages(played),
    ]


def _record(played: Played) -> tuple[OrderStatus, list[OrderStatus]]:
    record = played.world.orders.records[played.order.order_id]
    return record.status, record.history


def _ending(played: Played) -> Iterator[str]:
    """The record, the workflow's result and the search attributes tell the same."""
    status, _ = _record(played)
    record = played.world.orders.records[played.order.order_id]
    if played.engine.closed_as != "complete_workflow_execution":
        yield f"the workflow closes as {played.engine.closed_as}"
        return
    result, query = played.result, played.final_query
    assert result is not None
    assert query is not None
    listed = _listed(played, "OrderStatus") or OrderStatus.PENDING
    if status not in FINAL_STATUSES:
        yield f"the workflow has ended, the record is {status}"
    if not status == result.status == query.status == listed:
        yield f"the record says {status}, the result {result.status}, the query {query.status}, the search attribute {listed}"
    if status == _O.CANCELLED:
        listed_reason = _listed(played, "FailureReason")
        if not record.code == result.code == listed_reason:
            yield f"the record says {record.code}, the result {result.code}, the search attribute {listed_reason}"
    if _listed(played, "StuckUndo") or result.stuck_undos:
        yield "it has ended, and an undo is still said to be stuck"
    for before, after in zip(played.timeline, played.timeline[1:], strict=False):
        if after.status != before.status and not _reaches(before.status, after.status):
            yield f"the timeline goes from {before.status} to {after.status}"


def _listed(played: Played, attribute: str) -> object:
    values = played.attributes.get(attribute) or [None]
    return values[0]


def _reaches(before: OrderStatus, after: OrderStatus) -> bool:
    return after in NEXT_STATUS[before]


def _money(played: Played) -> Iterator[str]:
    status, _ = _record(played)
    order, payments = played.order, played.world.payments
    record = played.world.orders.records[order.order_id]
    net = payments.net(order.order_id, order.total.currency)
    owed = order.total if status == _O.COMPLETED else Money.zero(order.total.currency)
    if net != owed:
        yield f"{status}, and the customer has paid {net}: owed are {owed}"
    held = [paid for paid in payments.payments.values() if paid.status == PaymentStatus.INITIATED or paid.held_minor]
    if held:
        yield f"{status}, and a payment is still {held[0].status}, with {held[0].money(held[0].held_minor)} held"
    refunded = sum(paid.refunded_minor for paid in payments.payments.values())
    if status in (_O.CANCELLED, _O.REFUNDED) and (record.refunded.minor if record.refunded else 0) != refunded:
        yield f"the record says that {record.refunded} went back; it was {Money.from_minor(refunded, order.total.currency)}"


def _stock(played: Played) -> Iterator[str]:
    inventory = played.world.inventory
    for warehouse_id, shelves in inventory.shelves.items():
        for product_id, shelf in shelves.items():
            open_ = sum(
                line.quantity
                for promise in inventory.promises.values()
                if promise.status == _R.RESERVED and promise.warehouse_id == warehouse_id
                for line in promise.lines
                if line.product_id == product_id
            )
            if shelf.reserved != open_ or shelf.reserved < 0 or shelf.on_hand < shelf.reserved:
                yield f"{product_id}: {shelf.reserved} are reserved of {shelf.on_hand}, open reservations have {open_}"
    for (_, number), promise in inventory.promises.items():
        parcel = played.world.shipping.parcels.get((played.order.order_id, number))
        left = parcel is not None and parcel.has_left
        if promise.status == _R.RESERVED:
            yield f"the order has ended, and the goods of parcel {number} are still reserved"
        if promise.status in (_R.SHIPPED, _R.RESTOCKED) and not left:
            yield f"the goods of parcel {number} are {promise.status}, the parcel is {parcel.status if parcel else 'not there'}"
        if promise.status == _R.RELEASED and left:
            yield f"parcel {number} has left, and its goods were released"
        if promise.status == _R.RESTOCKED and parcel and parcel.status != _S.RETURNED:
            yield f"the goods of parcel {number} were restocked, the parcel is {parcel.status}"
        if promise.status == _R.SHIPPED and parcel and parcel.status == _S.RETURNED and number in played.known_returned:
            yield f"parcel {number} came back, and its goods were never put on the shelf again"


def _parcels(played: Played) -> Iterator[str]:
    status, _ = _record(played)
    parcels = {number: parcel.status for (_, number), parcel in played.world.shipping.parcels.items()}
    waiting = [number for number, parcel in parcels.items() if parcel in (_S.PENDING, _S.BOOKED)]
    if waiting:
        yield f"{status}, and parcel {waiting[0]} is still {parcels[waiting[0]]}"
    left = [number for number, parcel in parcels.items() if parcel not in (_S.PENDING, _S.BOOKED, _S.CANCELLED, _S.REFUSED)]
    if status == _O.CANCELLED and (live := [number for number in left if number not in played.in_trouble]):
        yield f"the order is cancelled, and parcel {live[0]} is {parcels[live[0]]}"
    if status == _O.REFUNDED and not set(left) <= played.in_trouble:
        yield f"the order is refunded, and parcel {max(left)}, of which no trouble was known, is {parcels[max(left)]}"
    if status == _O.COMPLETED and _S.DELIVERED not in parcels.values():
        yield f"the order is completed, and its parcels are {parcels}"


def _outcomes(played: Played) -> Iterator[str]:
    """What `place` was told is one thing, is kept, and agrees with the end."""
    status, history = _record(played)
    record = played.world.orders.records[played.order.order_id]
    answers = [each.answer for each in played.told if each.message == "place" and isinstance(each.answer, Outcome)]
    if any(answer.status == _O.IN_REVIEW for answer in answers) and _O.IN_REVIEW not in history:
        yield "the client was told that it is held for review, which it never was"
    told = [answer for answer in answers if answer.status != _O.IN_REVIEW]  # that says only that there is no outcome yet
    if len(set(map(repr, told))) > 1:
        yield f"place is told different things: {[(each.status, each.code) for each in told]}"
    if any(each.message == "place" and isinstance(each.answer, str) for each in played.told):
        yield f"place is answered with a failure: {[each.answer for each in played.told if each.message == 'place']}"
    for outcome in {repr(each): each for each in [*told, *([record.outcome] if record.outcome else [])]}.values():
        if outcome.code is not None and (status != _O.CANCELLED or record.code != outcome.code):
            yield f"the client was told {outcome.code}; the order is {status} {record.code or ''}".strip()
        if outcome.code is None and outcome.status not in history:
            yield f"the client was told {outcome.status}, which the order never was"
    if record.outcome and told and record.outcome != told[0]:
        yield f"the client was told {told[0].status} {told[0].code}, kept is {record.outcome.status} {record.outcome.code}"
    confirmed = any(outcome.code is None and outcome.status == _O.CONFIRMED for outcome in told)
    # A task that was lost may have told the record that it is confirmed; what could not be done after it then ends the order.
    outlasted = record.code == ErrorCode.SERVICE_UNAVAILABLE and any("workflow task" in line for line in played.log)
    by_request = record.code in BY_REQUEST or outlasted
    if confirmed and status == _O.CANCELLED and not by_request and not played.in_trouble:
        yield f"the client was told that it is confirmed; nobody cancelled it, and it ended {record.code}"


def _reason(played: Played) -> Iterator[str]:
    """A cancelled order says why: a refusal that a step was really given, or a decision that was really made."""
    status, history = _record(played)
    code = played.world.orders.records[played.order.order_id].code
    if status != _O.CANCELLED:
        return
    given = {refusal for _, command, refusal in played.adversary.refusals if command in FORWARD}
    asked = {told.message for told in played.told if told.answer is not None or told.answered is None}
    possible = given - TOMBSTONES
    if played.in_trouble:
        possible |= {code} if code else set()
    if asked & CANCELS:
        possible |= BY_REQUEST
    if _O.IN_REVIEW in history:
        possible |= {ErrorCode.REVIEW_EXPIRED}
        if asked & {"reject", "reject by signal"}:
            possible.add(ErrorCode.REVIEW_REJECTED)
    if played.story:
        possible.add(ErrorCode.SERVICE_UNAVAILABLE)
    if code not in possible:
        yield f"it ended with {code}; the steps were refused with {sorted(given) or 'nothing'}"


def _messages(played: Played) -> Iterator[str]:
    """A message that was accepted is answered, and what it was told came true."""
    status, _ = _record(played)
    for told in played.told:
        if told.message.startswith("cancel the") or "by signal" in told.message:
            continue
        if told.answered is None:
            yield f"{told.message}, sent at {told.sent:.3f} s, is never answered"
    refused_late = any(code == ErrorCode.ALREADY_DISPATCHED for _, _, code in played.adversary.refusals)
    for told in played.told:
        if told.message not in CANCELS:
            continue
        if isinstance(told.answer, dict) and told.answer.get("status") == _O.CANCELLED and status != _O.CANCELLED:
            yield f"a cancel was answered with CANCELLED; the order is {status}"
        wish = told.message != "cancel" or told.answer == ErrorCode.ALREADY_DISPATCHED
        left = min(played.left.values(), default=None)
        if not wish or status == _O.CANCELLED or played.in_trouble:
            continue
        asked = [at for at in played.adversary.cancels_asked if at >= told.sent]
        away = any("outage" in choice for choice in played.story.values())  # then there may have been no time for it
        if (left is None or (left > told.sent + PATIENCE_S and not away)) and not asked and not refused_late:
            yield f"{told.message}, {told.sent:.3f} s: the parcel had not left, and nobody tried to keep it"
