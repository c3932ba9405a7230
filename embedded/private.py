"""Files and directories that their owner alone may read: below a data directory are secrets and customers' data."""

import os
import secrets
from pathlib import Path

UMASK = 0o077
"""Of every child process: what it makes is closed to others."""


def private_directory(directory: Path) -> None:
    """Make a directory that nobody else may enter, unless it is there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def passable_directory(directory: Path) -> None:
    """The same on the way to PostgreSQL's files: root runs it as another user, who may pass through, but not look around."""
    private_directory(directory)
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)


def write_private(file: Path, content: str) -> None:
    """Replace a file that only its owner may read, as a whole: nobody ever reads half of it."""
    new = file.with_name(f"{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(content)
    new.replace(file)


def kept_password(directory: Path) -> str:
    """The password of the server with its files in `directory`, made at first sight; it lives and dies with what it opens."""
    file = directory / "password"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text()
