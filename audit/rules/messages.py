"""SMS and push messages: their providers have just what we sent, as often as we tried, and it fared as we say."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

from audit.books import DeliveryRow, MessageRow, Source
from audit.rule import rule
from audit.rules.mails import TAKEN
from audit.verdict import Check, InFlight
from audit.world import World, uuid_of
from contracts.ids import is_sample

SOONEST = timedelta(seconds=30)
"""What a process that was killed has sent, and not written down, is sent again when its lease of two minutes ends; the message
may have been taken a minute and a half after that began."""


@rule("The SMS provider has just the messages that we sent", Source.NOTIFICATION, Source.SMS_PROVIDER)
def sms_agree(world: World, check: Check) -> None:
    _agree(world, check, "sms", world.books.sms)


@rule("The push service has just the messages that we sent", Source.NOTIFICATION, Source.PUSH_SERVICE)
def pushed_agree(world: World, check: Check) -> None:
    _agree(world, check, "push", world.books.pushed)


@rule("What became of an SMS is what its provider says", Source.NOTIFICATION, Source.SMS_PROVIDER)
def sms_arrived(world: World, check: Check) -> None:
    """Its news may be under way."""
    copies = _by_id(world.books.sms)
    for delivery in world.books.deliveries:
        there = copies.get(delivery.delivery_id, []) if delivery.channel == "sms" else []
        if not there or delivery.status not in TAKEN or any(world.is_fresh(each.changed_at) for each in there):
            continue
        fates = {each.status for each in there}
        check.compared += 1
        if delivery.status == "SENT" and "on its way" not in fates:
            moved = max(each.changed_at for each in there)
            check.in_flight.append(InFlight(_name(delivery), f"{_or(fates)}, which nobody has told us yet", moved))
        wanted = {"DELIVERED": "arrived", "BOUNCED": "failed"}.get(delivery.status)
        if wanted is not None and wanted not in fates:
            check.fails(_name(delivery), f"{delivery.status}: at its provider", wanted, _or(fates))


def _agree(world: World, check: Check, channel: str, messages: Sequence[MessageRow]) -> None:
    ours = {row.delivery_id: row for row in world.books.deliveries if row.channel == channel}
    for message in messages:
        check.compared += 1
        message_id = uuid_of(message.message_id)
        is_known = message_id is not None and (message_id in ours or is_sample(message_id))
        if not is_known and not world.is_fresh(message.received_at):
            check.fails(message.provider_id, "message at its provider", "one that we queued", "unknown here")
    copies = _by_id(messages)
    for delivery in ours.values():
        there = copies.get(delivery.delivery_id, [])
        if delivery.status in TAKEN:
            check.compared += 1
            names = {each.provider_id for each in there}
            if not there or (delivery.provider_id is not None and delivery.provider_id not in names):
                check.fails(_name(delivery), f"{delivery.status}: at its provider", delivery.provider_id or "one", _or(names))
        elif there and not delivery.attempts:
            if delivery.status == "PENDING":  # who sent it was killed before that was written down
                check.in_flight.append(InFlight(_name(delivery), "sent, and not written down", there[-1].received_at))
            else:
                check.fails(_name(delivery), f"{delivery.status}, never tried: at its provider", "none", str(len(there)))
        _once_an_attempt(check, delivery, there)
    again = sum(len(there) - 1 for there in copies.values())
    check.note = f"{again} came more than once" if again else ""


def _once_an_attempt(check: Check, delivery: DeliveryRow, there: Sequence[MessageRow]) -> None:
    """More copies than attempts are of processes that were killed; then they are some time apart."""
    at = sorted(each.received_at for each in there)
    soon = 1 + sum(after - before < SOONEST for before, after in pairwise(at))
    check.compared += bool(there)
    if soon > max(delivery.attempts, 1):
        check.fails(_name(delivery), "copies at its provider", f"{max(delivery.attempts, 1)} at most", str(len(there)))


def _by_id(messages: Sequence[MessageRow]) -> dict[UUID, list[MessageRow]]:
    found: dict[UUID, list[MessageRow]] = defaultdict(list)
    for message in messages:
        if (message_id := uuid_of(message.message_id)) is not None:
            found[message_id].append(message)
    return found


def _name(delivery: DeliveryRow) -> str:
    return f"{delivery.channel} {delivery.delivery_id}"


def _or(words: set[str]) -> str:
    return " or ".join(sorted(words)) or "none"
