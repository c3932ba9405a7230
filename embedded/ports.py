"""Free ports on 127.0.0.1, chosen once and remembered, so that a restarted part is found where it was."""

import json
import random
import socket
from pathlib import Path

from embedded.private import write_private

# Below every system's ephemeral range (Linux 32768, macOS 49152). A port inside it could be taken by some
# outgoing connection while its server restarts, and a client that polls it could even connect to itself.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now (connections still in TIME_WAIT do not count)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on and no other process has chosen; raises OSError if 1,000 tries find none."""
    for port in random.sample(_RANGE, 1_000):
        if port not in _claims and is_free(port) and _claimed(port):
            return port
    raise OSError(f"no free port in {_RANGE.start}..{_RANGE.stop}")


_MOST_CLAIMS = 300
"""Each needs a file descriptor. By the time that so many more were chosen, somebody listens on the first."""
_claims: dict[int, socket.socket] = {}
"""Of this process, by port, the oldest first."""


def _claimed(port: int) -> bool:
    """Whether this process alone may let a server listen on the port: until one does, nothing else tells others that it is taken.

    What stands for the claim is the UDP port of the same number: nothing here speaks UDP, only one socket can be bound to it, and
    it is free again when the process ends, however it does."""
    if port in _claims:
        return True
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    if len(_claims) > _MOST_CLAIMS:
        _claims.pop(next(iter(_claims))).close()
    return True


class Ports:
    """The ports of one data directory, by name, kept in a JSON file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._chosen: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        self._given: dict[str, int] = {}

    def get(self, name: str, wanted: int | None = None) -> int:
        """The port of `name`: `wanted`, else the remembered one, else another free one if that is taken
        meanwhile.

        A `wanted` port is taken as it is: who asks for one prefers an error at start to a surprise.
        """
        if name not in self._given:
            port = self._given[name] = wanted or self._remembered(name) or free_port()
            if self._chosen.get(name) != port:
                self._chosen[name] = port
                write_private(self._file, json.dumps(self._chosen, indent=1))
        return self._given[name]

    def _remembered(self, name: str) -> int | None:
        port = self._chosen.get(name)
        return port if port and port not in self._given.values() and is_free(port) and _claimed(port) else None
