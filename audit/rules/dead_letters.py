"""Dead letters: events that a consumer could not apply wait until somebody replays or drops them."""

from audit.books import Source
from audit.rule import rule
from audit.rules.words import at
from audit.verdict import Check, InFlight
from audit.world import World, uuid_of


@rule("No dead letter is left open", Source.ORDER, Source.NOTIFICATION, Source.ANALYTICS)
def dead_letters_are_settled(world: World, check: Check) -> None:
    for letter in world.books.dead_letters:
        check.compared += 1
        event = f"{letter.type or 'record'} {letter.letter_id} at {letter.consumer}"
        if letter.is_replayed:
            check.in_flight.append(InFlight(letter.key or letter.topic, f"{event}, to be applied again", letter.parked_at))
            continue
        found = f"not applied since {at(letter.parked_at)}: {letter.error}"
        check.fails(letter.key or letter.topic, event, "applied, replayed or dropped", found, uuid_of(letter.key or ""))
