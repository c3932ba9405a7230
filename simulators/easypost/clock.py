"""The one clock of the carriers, and how they write times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Runs with everybody's, ahead of it by as much as it was moved."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def move(self, by: timedelta) -> None:
        self._ahead += by


def stamp(at: datetime) -> str:
    """As most objects have it: `2025-03-07T16:46:20Z`."""
    return f"{at.isoformat(timespec='seconds')[:19]}Z"


def address_stamp(at: datetime) -> str:
    """As an Address has it: `2025-03-07T16:46:20+00:00`."""
    return at.isoformat(timespec="seconds")


def event_stamp(at: datetime) -> str:
    """As an Event has it: `2025-03-06T19:48:05.456Z`."""
    return f"{at.isoformat(timespec='milliseconds')[:23]}Z"
