"""No two processes choose the same port, long before anybody listens on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedded import ports
from embedded.ports import Ports, free_port

FEW = range(20_000, 21_000)
CHOOSE = f"""
import random
from embedded import ports
ports._RANGE = range({FEW.start}, {FEW.stop})
print(*[ports.free_port() for _ in range(200)], flush=True)
input()
"""


def test_processes_that_choose_at_the_same_time_choose_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_RANGE", FEW)
    monkeypatch.setattr(ports, "_claims", {})
    ours = {free_port() for _ in range(200)}
    others = [
        subprocess.Popen([sys.executable, "-c", CHOOSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    chosen = [(other.stdout.readline() if other.stdout else "").split() for other in others]
    for other in others:
        other.communicate("\n")
    assert [other.returncode for other in others] == [0, 0]
    assert len(ours | {int(port) for ports in chosen for port in ports}) == 3 * 200


def test_a_port_is_kept_from_others_only_as_long_as_it_may_be_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_claims", {})
    monkeypatch.setattr(ports, "_MOST_CLAIMS", 3)
    assert len({free_port() for _ in range(5)}) == 5
    assert len(ports._claims) == 3


def test_what_another_process_has_chosen_is_not_taken_for_remembered(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    port = Ports(file).get("gateway")
    assert Ports(file).get("gateway") == port
    again = (
        "import sys; from pathlib import Path; from embedded.ports import Ports; print(Ports(Path(sys.argv[1])).get('gateway'))"
    )
    other = subprocess.run([sys.executable, "-c", again, str(file)], stdout=subprocess.PIPE, text=True, check=True)
    assert int(other.stdout) != port
