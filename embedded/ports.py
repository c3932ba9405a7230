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
    """A port nobody listens on; raises OSError if 1,000 tries find none."""
    for port in random.sample(_RANGE, 1_000):
        if is_free(port):
            return port
    raise OSError(f"no free port in {_RANGE.start}..{_RANGE.stop}")


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
        if name in self._given:
            return self._given[name]
        port = wanted or self._chosen.get(name) or free_port()
        while wanted is None and (port in self._given.values() or not is_free(port)):
            port = free_port()
        self._given[name] = port
        if self._chosen.get(name) != port:
            self._chosen[name] = port
            write_private(self._file, json.dumps(self._chosen, indent=1))
        return port
