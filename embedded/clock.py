"""Clocks that go wrong on purpose, by libfaketime (https://github.com/wolfcw/libfaketime), where it is installed.

Each process reads from a file of its own how far its clock is ahead; timers and time-outs go on undisturbed.
"""

import os
from pathlib import Path

from embedded.private import write_private

_PLACES = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib*/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)


def library() -> Path | None:
    """libfaketime, by the variable LIBFAKETIME or where packages of Linux put it; None if it is not installed."""
    named = os.environ.get("LIBFAKETIME")
    found = [Path(named)] if named else [path for place in _PLACES for path in sorted(Path("/").glob(place.lstrip("/")))]
    return next((path for path in found if path.exists()), None)


def environment(file: Path) -> dict[str, str]:
    """What a process needs in its environment to go by the clock of this file. Raises RuntimeError without libfaketime."""
    found = library()
    if found is None:
        raise RuntimeError("libfaketime is not installed")
    set_ahead(file, 0)
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",  # else all children share their parent's start
    }


def set_ahead(file: Path, seconds: int) -> None:
    """Have the clock be so many seconds ahead (negative: behind) within a second."""
    write_private(file, f"{seconds:+d}s\n")
