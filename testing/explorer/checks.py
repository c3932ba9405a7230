"""What must hold after every run (design.md, section 7), whatever the adversary did."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from contracts.errors import ErrorCode
from contracts.inventory import ReservationStatus, WhenShort
from contracts.money import Money
from contracts.orders import FINAL_STATUSES, NEXT_STATUS, CaptureAt, OrderStatus, Outcome, status_of
from contracts.parcels import OrderParcel, ParcelStatus
from contracts.shipments import ShipmentStatus
from testing.explorer.adversary import FORWARD
from testing.explorer.clock import START
from testing.explorer.orders import price_of, whole_parcel
from testing.explorer.run import Played

_O, _S, _R = OrderStatus, ShipmentStatus, ReservationStatus
TOMBSTONES = frozenset({ErrorCode.RESERVATION_RELEASED, ErrorCode.PAYMENT_REVERSED, ErrorCode.SHIPMENT_CANCELLED})
"""Refusals of a step whose undo came first: never a reason why an order ended."""
UNITS, GOODS = re.compile(r"cancel \d"), re.compile(r"(\d+) of (Milk|Cheese)")
"""A wish for some units; what its answer says of them."""
CANCELS = frozenset({"cancel", "cancel by signal", "cancel the workflow"})
LATEST_S = 15 * 3600.0
"""So long after the deadline at most it is known what became of a payment that was to be confirmed: until then it is asked."""
PATIENCE_S = 600.0
"""So long a saga may need for what came before, until it takes up a wish to cancel."""
UNPAID = re.compile(r"capture .* of parcel (\d+): nobody paid")
"""How it is told of a parcel that has left and was never paid for."""
BY_REQUEST = frozenset({ErrorCode.CANCELLED_BY_REQUEST})


def violations(played: Played) -> list[str]:
    """What does not hold; none if all is well. The first is the nearest to the cause."""
    if played.broken:
        return [*played.wrong, played.broken]
    return [
        *played.wrong,
        *_ending(played),
        *_money(played),
        *_confirming(played),
        *_transfers(played),
        *_refunds_that_came_back(played),
        *_given_up(played),
        *_stock(played),
        *_parcels(played),
        *_parts(played),
        *_outcomes(played),
        *_reason(played),
        *_messages(played),
        *_wishes_for_units(played),
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
    if query.waits:
        yield f"it has ended, and is said to wait for something: {query.waits[0].waiting_for}"
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
    """Captured - refunded is the price of the units in parcels that count."""
    status, _ = _record(played)
    order, payments = played.order, played.world.payments
    record = played.world.orders.records[order.order_id]
    currency = order.total.currency
    net = payments.net(order.order_id, currency)
    unpaid = _unpaid(played)
    paid_for = [line for each in _told(played) if each.counts and each.parcel not in unpaid for line in each.lines]
    owed = Money.from_minor(price_of(order.lines, paid_for), currency)
    if net != owed and not played.given_up:
        yield f"{status}, and the customer has paid {net}: owed are {owed}"
    for (_, attempt), paid in payments.payments.items():
        if paid.captured_minor < paid.refunded_minor + paid.disputed_minor:
            yield f"of attempt {attempt}, {paid.captured} are taken; {paid.refunded} went back, and the bank gave back more"
    held = [paid for paid in payments.payments.values() if paid.is_open or paid.held_minor]
    if held:
        yield f"{status}, and a payment is still {held[0].status}, with {held[0].money(held[0].held_minor)} held"
    refunded = sum(paid.refunded_minor for paid in payments.payments.values())
    if (record.refunded.minor if record.refunded else 0) != refunded:
        yield f"the record says that {record.refunded} went back; it was {Money.from_minor(refunded, currency)}"


def _confirming(played: Played) -> Iterator[str]:
    """A customer has the time that was told to confirm a payment, and no more; who does it in time has paid."""
    record = played.world.orders.records[played.order.order_id]
    untils = [advance.action.until for advance in played.advances if advance.action]
    waits = [(entry, after) for entry, after in pairwise(played.timeline) if entry.status == _O.ACTION_REQUIRED]
    left = [after.at for entry, after in waits if after.status != _O.ACTION_REQUIRED]
    if untils and not left and not _lost_a_task(played):
        yield "the record was told that the payment has to be confirmed; the timeline does not"
    for until, at in zip(untils[-1:], left[-1:], strict=False):
        if at > until + timedelta(seconds=LATEST_S):
            yield f"the payment was to be confirmed by {until}; it was waited for until {at}"
        if record.code == ErrorCode.PAYMENT_NOT_CONFIRMED and at < until:
            yield f"the payment was to be confirmed by {until}; that was given up at {at}"
    attempt = max((number for _, number in played.world.payments.payments), default=0)
    when, confirms = played.acted.get(attempt, (0.0, False))
    if record.code == ErrorCode.PAYMENT_NOT_CONFIRMED and confirms and START + timedelta(seconds=when) < untils[-1]:
        yield f"the customer confirmed the payment at {when:.3f} s, in time, and the order ended as not confirmed"


def _transfers(played: Played) -> Iterator[str]:
    """What came in is taken, whole, or owed to whoever sent it; its customer was told of what had come in part."""
    for attempt, came in played.came.items():
        paid = played.world.payments.payments[played.order.order_id, attempt]
        if paid.captured_minor not in (0, paid.amount.minor):
            yield f"{paid.captured} of {paid.amount} are taken of the transfer for attempt {attempt}"
        late = paid.captured_minor if paid.received_minor < paid.captured_minor else 0  # it came while it was undone
        if came + late != paid.captured_minor + paid.owed_minor:
            sums = f"{paid.captured} are taken, {paid.money(paid.owed_minor)} are owed"
            yield f"{paid.money(came)} came in for attempt {attempt}: {sums}"
    told = [advance.action.transfer.received for advance in played.advances if advance.action and advance.action.transfer]
    sums_told = [money.minor if money else 0 for money in told]
    if sums_told != sorted(sums_told):
        yield f"the customer was told that these sums had come in, one after the other: {sums_told}"


def _refunds_that_came_back(played: Played) -> Iterator[str]:
    """Whoever looks at the order sees what is still owed, once, however often and whenever the saga was told."""
    given_up = played.result.given_up if played.result else ()
    for failed in played.came_back:
        words = f"refund {failed.key} of attempt {failed.attempt}: {failed.amount} did not arrive"
        if (times := sum(debt.startswith(words) for debt in given_up)) != 1:
            yield f"the saga was told of a refund that came back; the order tells {times} times: {words}"


def _given_up(played: Played) -> Iterator[str]:
    """Whoever looks at the order sees which refunds were ended by hand."""
    given_up = played.result.given_up if played.result else ()
    for undo in played.given_up:
        if not any(debt.startswith(f"{undo}: by operator") for debt in given_up):
            yield f"{undo} was ended by hand; the order does not tell"


def _unpaid(played: Played) -> set[int]:
    """Parcels that have left and that nobody paid for in time, and those that took their place."""
    given_up = played.result.given_up if played.result else ()
    unpaid = {int(found[1]) for debt in given_up if (found := UNPAID.match(debt))}
    for each in _told(played):
        if each.parcel in unpaid and each.resent_as:
            unpaid.add(each.resent_as)
    return unpaid


def _told(played: Played) -> tuple[OrderParcel, ...]:
    """The order's parcels, as its record has them at the end; what the only one became follows from the order's status."""
    status, _ = _record(played)
    parcels = played.world.orders.records[played.order.order_id].parcels
    if parcels:
        return parcels
    number = max((number for _, number in played.world.shipping.parcels), default=1)
    return (whole_parcel(number, ParcelStatus.DELIVERED if status == _O.COMPLETED else ParcelStatus.CANCELLED),)


def _parts(played: Played) -> Iterator[str]:
    """Each unit is in one parcel that counts or came to nothing; each parcel is what the services know of it."""
    status, _ = _record(played)
    told = played.world.orders.records[played.order.order_id].parcels
    if not told:
        return
    if played.result and played.result.parcels != told:
        yield "the record and the result tell different things of the parcels"
    derived = _O.COMPLETED if status_of(told) == _O.DELIVERED else status_of(told)
    if status not in (derived, _O.CANCELLED if derived == _O.REFUNDED else derived):
        yield f"the order is {status}; its parcels are {', '.join(each.status for each in told)}"
    units = Counter(
        (line.line_id, line.first + unit)
        for each in told
        if each.status != ParcelStatus.RESENT
        for line in each.lines
        for unit in range(line.quantity)
    )
    if units != Counter((line.line_id, unit) for line in played.order.lines for unit in range(line.quantity)):
        yield f"the parcels have these units, and how often: {dict(units)}"
    for each in told:
        yield from _part(played, each, {other.parcel: other for other in told})


def _part(played: Played, told: OrderParcel, others: Mapping[int, OrderParcel]) -> Iterator[str]:
    """One parcel, at the end."""
    key = (played.order.order_id, told.parcel)
    promise, shipment = played.world.inventory.promises.get(key), played.world.shipping.parcels.get(key)
    name = f"parcel {told.parcel} is {told.status}"
    promised = Counter({line.product_id: line.quantity for line in promise.lines} if promise else {})
    units: Counter[str] = Counter()
    for line in told.lines:
        units[line.product_id] += line.quantity
    if promise is not None and promise.lines and promised != units:
        yield f"{name}, and has {dict(units)}; promised to it were {dict(promised)}"
    left = shipment is not None and shipment.has_left
    match told.status:
        case ParcelStatus.DELIVERED:
            if shipment is None or shipment.status != _S.DELIVERED or promise is None or promise.status != _R.SHIPPED:
                yield f"{name}; shipping says {shipment and shipment.status}, inventory {promise and promise.status}"
        case ParcelStatus.REFUNDED | ParcelStatus.RESENT:
            if told.parcel not in played.in_trouble:
                yield f"{name}, and no trouble with it was known"
            if told.status == ParcelStatus.RESENT:
                other = others.get(told.resent_as or 0)
                if other is None or not set(_units(other)) <= set(_units(told)):
                    yield f"{name}, and the parcel that took its place has something else"
        case ParcelStatus.CANCELLED:
            if left:
                yield f"{name}, and has left"
            if promise is not None and promise.status != _R.RELEASED:
                yield f"{name}, and its goods are {promise.status}"
        case _:
            yield f"the order has ended, and {name}"


def _units(told: OrderParcel) -> list[tuple[int, int]]:
    return [(line.line_id, line.first + unit) for line in told.lines for unit in range(line.quantity)]


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
        if promise.status in (_R.RESERVED, _R.AWAITED):
            yield f"the order has ended, and the goods of parcel {number} are still {promise.status}"
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
    """What `place` and `pay` were told for good is one thing, is kept, and agrees with the end."""
    status, history = _record(played)
    record = played.world.orders.records[played.order.order_id]
    answers = [each.answer for each in played.told if each.message in ("place", "pay") and isinstance(each.answer, Outcome)]
    if any(answer.status == _O.IN_REVIEW for answer in answers) and _O.IN_REVIEW not in history:
        yield "the client was told that it is held for review, which it never was"
    if any(answer.status == _O.ACTION_REQUIRED for answer in answers) and _O.ACTION_REQUIRED not in history:
        yield "the client was told to confirm the payment, and the order never waited for that"
    if any(answer.pay_until for answer in answers) and _O.PAYMENT_DUE not in history and _is_paid_at_once(played):
        yield "the client was told to try another card, and the order never waited for one"
    told = [answer for answer in answers if answer.is_definite]  # another says only that there is no outcome yet
    if len(set(map(repr, told))) > 1:
        yield f"place is told different things: {[(each.status, each.code) for each in told]}"
    if any(each.message == "place" and isinstance(each.answer, str) for each in played.told):
        yield f"place is answered with a failure: {[each.answer for each in played.told if each.message == 'place']}"
    odd = {each.answer for each in played.told if each.message == "pay" and isinstance(each.answer, str)}
    if odd - {ErrorCode.PAYMENT_NOT_DUE}:
        yield f"pay is answered with a failure: {odd}"
    for outcome in {repr(each): each for each in [*told, *([record.outcome] if record.outcome else [])]}.values():
        if outcome.code is not None and (status != _O.CANCELLED or record.code != outcome.code):
            yield f"the client was told {outcome.code}; the order is {status} {record.code or ''}".strip()
        if outcome.code is None and outcome.status not in history:
            yield f"the client was told {outcome.status}, which the order never was"
    if record.outcome and told and record.outcome != told[0]:
        yield f"the client was told {told[0].status} {told[0].code}, kept is {record.outcome.status} {record.outcome.code}"
    if record.outcome is None:
        yield f"the order is {status}, and what its client is told is not kept"
    confirmed = any(outcome.code is None and outcome.status == _O.CONFIRMED for outcome in told)
    # A task that was lost may have told the record that it is confirmed; what could not be done after it then ends the order.
    # The same of goods that have arrived meanwhile: the parcel is booked before the order is confirmed again, and may be refused.
    waited = any(each.status == ParcelStatus.AWAITED for advance in played.advances for each in advance.parcels)
    outlasted = _lost_a_task(played) and (waited or record.code == ErrorCode.SERVICE_UNAVAILABLE)
    by_request = record.code in BY_REQUEST or outlasted
    if confirmed and status == _O.CANCELLED and not by_request and not played.in_trouble:
        yield f"the client was told that it is confirmed; nobody cancelled it, and it ended {record.code}"


def _is_paid_at_once(played: Played) -> bool:
    return played.order.capture_at == CaptureAt.CONFIRMATION


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
    if any(message.startswith("cancel") for message in asked) or _may_end_by_itself(played):
        possible |= BY_REQUEST
    has_lapsed = _lapsed(history) and not _lost_a_task(played)
    if has_lapsed and not asked & CANCELS:
        possible &= {ErrorCode.PAYMENT_DECLINED}
    if _O.ACTION_REQUIRED in history:
        possible |= {ErrorCode.PAYMENT_NOT_CONFIRMED}
    if _O.IN_REVIEW in history:
        possible |= {ErrorCode.REVIEW_EXPIRED}
        if asked & {"reject", "reject by signal"}:
            possible.add(ErrorCode.REVIEW_REJECTED)
    if played.story and not (has_lapsed and "pay" not in asked):
        possible.add(ErrorCode.SERVICE_UNAVAILABLE)
    if code not in possible:
        yield f"it ended with {code}; the steps were refused with {sorted(given) or 'nothing'}"


def _may_end_by_itself(played: Played) -> bool:
    """Whether what it consisted of may have come to nothing after it was confirmed, although nobody wished to cancel it."""
    waited = any(each.status == ParcelStatus.AWAITED for advance in played.advances for each in advance.parcels)
    answered = played.order.when_short == WhenShort.ASK or any(
        told.message in ("answer refuse", "answer drop") for told in played.told
    )
    refusals = {(command, code) for _, command, code in played.adversary.refusals}
    refused = any(command == "CreateShipment" for command, _ in refusals)
    is_unpaid = not _is_paid_at_once(played) and ("ProcessPayment", ErrorCode.PAYMENT_DECLINED) in refusals
    return (waited and (answered or refused)) or is_unpaid


def _lost_a_task(played: Played) -> bool:
    return any("workflow task" in line for line in played.log)


def _lapsed(history: Sequence[OrderStatus]) -> bool:
    """Whether no other card came, or none that was taken."""
    return (_O.PAYMENT_DUE, _O.CANCELLING) in pairwise(history)


def _wishes_for_units(played: Played) -> Iterator[str]:
    """What was told to be cancelled is, and went back; a wish that is repeated was carried out once."""
    status, _ = _record(played)
    replies = [(told, told.answer) for told in played.told if UNITS.match(told.message) and isinstance(told.answer, dict)]
    carried_out = {("once" if "once" in told.message else str(place)): reply for place, (told, reply) in enumerate(replies)}
    for told, reply in replies:
        if "once" in told.message and reply != carried_out["once"]:
            yield f"{told.message} is answered in two ways: {reply}, {carried_out['once']}"
        if reply["status"] == _O.CANCELLED and status != _O.CANCELLED:
            yield f"{told.message} was answered with CANCELLED; the order is {status}"
    odd = {told.answer for told in played.told if UNITS.match(told.message) and isinstance(told.answer, str)}
    if odd - {ErrorCode.CONFLICT, ErrorCode.ALREADY_DISPATCHED}:
        yield f"a wish for units is answered with a failure: {odd}"
    told_units: Counter[str] = Counter()
    told_minor = 0
    for reply in carried_out.values():
        told_minor += Money.model_validate(reply["refunded"]).minor if reply["status"] != _O.CANCELLED else 0
        for quantity, goods in GOODS.findall(reply["detail"].partition(" Not cancelled")[0]):
            told_units[goods.lower()] += int(quantity)
    cancelled: Counter[str] = Counter()
    for line in (line for each in _told(played) if each.status == ParcelStatus.CANCELLED for line in each.lines):
        cancelled[line.product_id] += line.quantity
    if not told_units <= cancelled:
        yield f"the customer was told that {dict(told_units)} are cancelled; it was {dict(cancelled)}"
    refunded = sum(paid.refunded_minor for paid in played.world.payments.payments.values())
    if told_minor > refunded:
        yield f"the customer was told that {told_minor} went back for units; it was {refunded}"


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
