"""Events: each is published, in the order of its aggregate, and has its effect once at each listener."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from audit.books import LISTENERS, PRODUCERS, EventRow, Source
from audit.rule import rule
from audit.rules.words import at
from audit.verdict import Check, InFlight
from audit.world import SETTLE, World, uuid_of


@rule("Every event in an outbox is published", *PRODUCERS)
def events_are_published(world: World, check: Check) -> None:
    """What is not yet is in flight (`World.unpublished`); `unsettled` judges it after the wait."""
    check.compared = world.books.outbox_rows
    waiting = sum(event.published_at is None for events in world.books.events.values() for event in events)
    check.note = f"{waiting} waiting" if waiting else ""


@rule("The events of an aggregate were sent in order", *PRODUCERS)
def events_keep_their_order(world: World, check: Check) -> None:
    for events in world.books.events.values():
        last: dict[tuple[str, str], EventRow] = {}
        for event in sorted(events, key=lambda row: row.seq):
            if event.offset is None:
                continue
            check.compared += 1
            before = last.get((event.topic, event.key))
            if before and before.offset is not None and before.partition == event.partition and before.offset >= event.offset:
                expected = f"{event.type} after {before.type} (offset {before.offset})"
                check.fails(event.key, f"{event.topic}, partition {event.partition}", expected, f"offset {event.offset}")
            last[event.topic, event.key] = event


@rule("Each event had its effect at each listener", *PRODUCERS, Source.ANALYTICS)
def events_are_applied(world: World, check: Check) -> None:
    """A listener takes the events of a partition in turn. What it passed over will not come again; the rest will."""
    for listener in LISTENERS:
        heard = [event for event in world.heard_by(listener) if event.published_at is not None]
        check.compared += len(heard)
        # Of those, `dead_letters` speaks.
        parked = {letter.letter_id for letter in world.books.dead_letters if letter.consumer == listener}
        unapplied = [event for event in world.unapplied[listener] if event.event_id not in parked]
        missing = [event for event in unapplied if event.published_at is not None]
        if not missing:
            continue
        later = _applied_later(heard, world.books.inboxes[listener])
        waiting = []
        for event in missing:
            assert event.published_at is not None
            seen = later(event)
            if seen is not None and seen > event.published_at:
                what = f"{event.type} {event.event_id} at {listener}"
                check.fails(event.key, what, "applied", f"passed over by {at(seen)}", uuid_of(event.key))
            else:
                waiting.append(event.published_at)
        if waiting:
            check.in_flight.append(InFlight(f"{listener} inbox", f"{len(waiting)} events to be applied", min(waiting)))


@rule("No effect without an event", *PRODUCERS, Source.ANALYTICS)
def effects_have_events(world: World, check: Check) -> None:
    books = world.books
    known = {event.event_id for events in books.events.values() for event in events}
    # An event's id (version 7) begins with its time, so we know whether its outbox must still have it.
    oldest, newest = books.taken_at - books.outbox_retention, books.taken_at - SETTLE
    for listener, inbox in books.inboxes.items():
        for event_id, applied_at in inbox.items():
            if event_id.version != 7:
                continue
            check.compared += 1
            if event_id not in known and oldest.timestamp() < (event_id.int >> 80) / 1000 < newest.timestamp():
                check.fails(event_id, f"event applied at {listener} at {at(applied_at)}", "in an outbox", "in none")


def _applied_later(heard: Sequence[EventRow], inbox: Mapping[UUID, datetime]) -> Callable[[EventRow], datetime | None]:
    """Tells when, at the latest, the listener applied something behind an event in its partition."""
    places: dict[tuple[str, int | None], list[tuple[int, EventRow]]] = defaultdict(list)
    for event in heard:
        places[event.topic, event.partition].append((event.offset or 0, event))
    latest: dict[UUID, datetime | None] = {}
    for events in places.values():
        seen: datetime | None = None
        for _, event in sorted(events, key=lambda place: place[0], reverse=True):
            latest[event.event_id] = seen
            applied = inbox.get(event.event_id)
            if applied is not None and (seen is None or applied > seen):
                seen = applied
    return lambda event: latest.get(event.event_id)
