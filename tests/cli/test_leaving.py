"""How the `commerce` command ends."""

import subprocess
import sys

LEAVES = """
import atexit, sys
atexit.register(print, "the interpreter is taken down")
sys.argv = ["commerce", *sys.argv[1:]]
from cli.main import main
main()
"""


def commerce(*words: str) -> subprocess.CompletedProcess[str]:
    env = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
    return subprocess.run([sys.executable, "-c", LEAVES, *words], env=env, capture_output=True, text=True, check=False)


def test_a_command_that_asked_temporal_is_not_killed_while_it_ends() -> None:
    """Threads of Temporal's client abort a process whose interpreter is taken down: one run in five, on a busy machine."""
    asked = commerce("release", "status")
    assert (asked.returncode, asked.stdout) == (2, ""), asked.stderr
    assert asked.stderr.startswith("Temporal: ")
    other = commerce("release", "--help")
    assert (other.returncode, other.stdout[-30:]) == (0, "the interpreter is taken down\n")
