"""Every event has its type."""

import inspect

from contracts import events
from contracts.events import EVENT_TYPES, Event


def test_every_event_is_known_by_its_type() -> None:
    found = {
        name
        for name, kind in vars(events).items()
        if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event and not name.startswith("_")
    }
    assert found == set(EVENT_TYPES)
