"""What the supervisor needs from the operating system.

Tie a child's life to ours, signal it, and see what it uses.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedded.private import UMASK

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2  # linux/prctl.h
_CAP_VERSION_3, _CAP_DAC_OVERRIDE = 0x20080522, 1  # linux/capability.h
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class RunAs:
    """The unprivileged user that a child of root becomes.

    `keeps_file_access` leaves it root's right to pass any directory (CAP_DAC_OVERRIDE), for data and binaries
    below a directory that is closed to others, such as /root. Where the system refuses that, the child just
    lacks the right.
    """

    uid: int
    gid: int
    keeps_file_access: bool = False


def before_exec(death_signal: int, run_as: RunAs | None = None) -> Callable[[], None]:
    """A `preexec_fn`: become `run_as`, keep files private, and have the kernel send `death_signal` when the parent dies.

    However it dies: this is for kill -9, where no clean-up runs.
    Three traps: the kernel watches the *thread* that forked (fork from the event loop's thread, never from a
    pool); changing the user clears the setting (so it comes last); and a parent that died before the call is
    never noticed (hence the look at getppid). Other systems than Linux have no such thing: there, a parent
    that dies by kill -9 leaves its children behind.
    """
    parent = os.getpid()

    def preexec() -> None:
        os.umask(UMASK)
        if run_as is not None:
            _become(run_as)
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return preexec


def _become(run_as: RunAs) -> None:
    libc = _libc if run_as.keeps_file_access else None
    if libc is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(run_as.gid)
    os.setuid(run_as.uid)
    if libc is not None:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
        effective_permitted_inheritable = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        libc.capset(header, effective_permitted_inheritable)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)  # survives the exec


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the child and its own children (it leads its process group); a group that is gone already is
    fine.

    PostgreSQL's backends are in groups of their own, and die by themselves when their postmaster is gone.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:  # macOS says this of a group with nothing but zombies
        pass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants use.

    CPU seconds since start (reaped children included), memory now.
    """

    cpu_s: float
    memory_mb: float


def usage(pid: int, *, with_children: bool = True) -> Usage:
    """The usage of a process tree.

    Memory is PSS (shared pages split fairly) on Linux, RSS elsewhere; 0 for what is gone.
    """
    cpu = memory = 0.0
    try:
        root = psutil.Process(pid)
        tree = [root, *(root.children(recursive=True) if with_children else ())]
    except psutil.NoSuchProcess:
        return Usage(0.0, 0.0)
    for process in tree:
        try:
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            memory += _memory_bytes(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return Usage(round(cpu, 2), round(memory / 2**20, 1))


def _memory_bytes(process: psutil.Process) -> int:
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except FileNotFoundError:
        return int(process.memory_info().rss)
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
