"""Which build of the saga a worker runs.

Temporal knows all workers of the orders as one Worker Deployment with several builds. An order stays with the build that started
it (it is pinned); new orders go to the build that was made the current one. See docs/adr/0025-orders-stay-with-their-build.md.
"""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
SAGA = ("activities", "contracts", "temporal", "workflows", "worker.py")
"""What decides how an order goes on."""
BUILD_ID = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""What may be a build id: it is part of labels in Kubernetes, of file names and of Temporal's visibility queries."""


class VersionSettings(BaseSettings):
    """The names are those of Temporal's own controller for workers in Kubernetes."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    temporal_deployment_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]{0,126}$")] = "orders"
    temporal_worker_build_id: Annotated[str | None, Field(pattern=f"^{BUILD_ID}$")] = None
    """Of a release, e.g. 1.0.0. Without it, the build is named after its files."""

    @property
    def build_id(self) -> str:
        """The build that this process is. RuntimeError: it runs from a zip, and nobody said which build that is."""
        return self.temporal_worker_build_id or tree_build_id()


def tree_build_id(root: Path = ROOT) -> str:
    """The name of a tree's build: the first 12 hex digits of the SHA-256 over the files of the saga."""
    files = source_files(root, SAGA)
    if not files:
        raise RuntimeError("TEMPORAL_WORKER_BUILD_ID must say which build this is: its files are in an archive")
    return digest_of(root, files)[:12]


def source_files(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The files in some packages and modules of a tree, in the same order everywhere."""
    found = [file for name in names for file in ((root / name).rglob("*") if (root / name).is_dir() else [root / name])]
    return sorted(file for file in found if file.suffix != ".pyc" and file.is_file())


def digest_of(root: Path, files: list[Path]) -> str:
    """Over names and contents, hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
