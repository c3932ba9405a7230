"""What must hold after every run of a return (design.md, section 7), whatever the adversary did."""

from collections.abc import Iterator

from contracts.errors import ErrorCode
from contracts.returns import (
    CAME_TO_NOTHING,
    FINAL_RETURN_STATUSES,
    NEXT_RETURN_STATUS,
    Resolution,
    ReturnState,
    ReturnStatus,
    settlement_of,
)
from contracts.shipments import ShipmentStatus
from testing.explorer.returns import CREDIT_ORDER, ORDER, PlayedReturn

_S = ReturnStatus
TELLS_OF = {"approve": _S.APPROVED, "reject": _S.REJECTED, "cancel": _S.CANCELLED}
"""What an accepted update must have led to."""


def violations_of_return(played: PlayedReturn) -> list[str]:
    """What does not hold; none if all is well. The first is the nearest to the cause."""
    if played.broken:
        return [played.broken]
    return [*_ending(played), *_money(played), *_goods(played), *_label(played), *_messages(played)]


def _status(played: PlayedReturn) -> ReturnStatus:
    return played.world.returns.records[ORDER, played.run.number].status


def _ending(played: PlayedReturn) -> Iterator[str]:
    """The record, the workflow's result, the query and the search attributes tell the same."""
    status = _status(played)
    if played.engine.closed_as != "complete_workflow_execution":
        yield f"the workflow closes as {played.engine.closed_as}"
        return
    assert played.result is not None
    assert played.final_query is not None
    (listed,) = played.attributes.get("ReturnStatus") or [_S.REQUESTED]
    if status not in FINAL_RETURN_STATUSES:
        yield f"the workflow has ended, the record is {status}"
    if not status == played.result.status == played.final_query.status == listed:
        yield f"the record says {status}, the result {played.result.status}, the search attribute {listed}"
    (stuck,) = played.attributes.get("StuckUndo") or [None]
    if stuck or played.result.stuck_undos:
        yield "it has ended, and a step is still said to be stuck"
    for before, after in zip(played.timeline, played.timeline[1:], strict=False):
        if after.status not in (before.status, *NEXT_RETURN_STATUS[before.status]):
            yield f"the timeline goes from {before.status} to {after.status}"


def _money(played: PlayedReturn) -> Iterator[str]:
    """What goes back is what it is worth, less what other goods took; from each order's payment not more than it holds."""
    payments, record = played.world.payments, played.world.returns.records[ORDER, played.run.number]
    went_back = dict.fromkeys((ORDER, CREDIT_ORDER), 0)
    for (order_id, _), paid in payments.payments.items():
        went_back[order_id] += paid.refunded_minor
        if paid.refunded_minor > paid.captured_minor:
            yield "more went back than was taken"
    total = sum(went_back.values())
    if record.status in CAME_TO_NOTHING and total:
        yield f"the return is {record.status}, and {total} went back"
    told = [word.refunded.minor for word in record.words if word.refunded]
    if total != (told[-1] if told else 0) and not played.settled_by_hand:
        yield f"{total} went back, and the record was told of {told[-1] if told else 'nothing'}"
    if record.status != _S.COMPLETED or played.settled_by_hand:
        return
    settlement = settlement_of(played.run, record.words[-1].came)
    expected = settlement.value.minor
    for command in played.world.returns.replacements.values():
        assert played.ended is not None
        taken = played.world.returns.place_replacement(command).credit.minor
        expected += played.ended.credit_back.minor - taken
    if total != expected:
        yield f"it is worth {settlement.value}; owed are {expected}, and {total} went back"
    if went_back[CREDIT_ORDER] > settlement.of_credit.minor:
        yield "more of the credit went back than is in it"
    is_other = played.run.resolution != Resolution.REFUND
    if played.world.returns.replacements and not is_other:
        yield "other goods were sent, and nobody had asked for them"


def _goods(played: PlayedReturn) -> Iterator[str]:
    """What was received is on the shelf, once, and nothing else is."""
    record, received = played.world.returns.records[ORDER, played.run.number], played.world.inventory.returns
    came = record.words[-1].came if record.words else None
    if came and not received and not played.settled_by_hand:
        yield "goods came, and inventory was not told"
    if received and not came:
        yield "inventory was told of goods that never came"
    if received and _S.RECEIVED not in record.history:
        yield f"goods came, and the record went {record.history}"
    for command in received.values():
        counted = sum(line.good + line.damaged for line in command.lines)
        if counted != sum(units.line.quantity for units in came or ()):
            yield f"inventory counted {counted} units, the record {came}"
    shelved = sum(line.good for command in received.values() for line in command.lines)
    restocked = sum(shelf.restocked for shelves in played.world.inventory.shelves.values() for shelf in shelves.values())
    if restocked != shelved:
        yield f"{restocked} units were put on the shelf; {shelved} came in good condition"


def _label(played: PlayedReturn) -> Iterator[str]:
    """Of a return that is over no label waits to be used, and nobody who sent goods by it goes away empty-handed."""
    label = played.world.shipping.labels.get((ORDER, played.run.number))
    if label is not None and label.status in (ShipmentStatus.PENDING, ShipmentStatus.BOOKED):
        yield f"the return is {_status(played)}, and its label is still {label.status}"
    if label is not None and label.has_left and _status(played) in CAME_TO_NOTHING:
        yield f"the return is {_status(played)}, and the carrier has its parcel: {label.status}"


def _messages(played: PlayedReturn) -> Iterator[str]:
    """Who was told something was told the truth, and everybody got an answer."""
    record = played.world.returns.records[ORDER, played.run.number]
    for told in played.told:
        name = told.message.partition(" ")[0]
        if "signal" in told.message or "workflow" in told.message:
            continue
        if told.answered is None:
            yield f"{told.message} was never answered"
        elif isinstance(told.answer, ReturnState):
            expected = TELLS_OF.get(name)
            if expected and expected not in record.history:
                yield f"{told.message} was accepted, and the return went {record.history}"
            if name == "receive" and _S.RECEIVED not in record.history:
                yield f"goods were taken, and the return went {record.history}"
        elif isinstance(told.answer, str) and told.answer not in (
            ErrorCode.RETURN_NOT_OPEN,
            ErrorCode.NOT_RETURNABLE,
            ErrorCode.UNDO_NOT_STUCK,
        ):
            yield f"{told.message} is answered with a failure: {told.answer}"
