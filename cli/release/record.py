"""`commerce release record`: keeps what a release promises and what its orders look like, for every change that follows it."""

import json
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.release.documents import asyncapi, openapi
from cli.release.releases import HISTORIES, RELEASES, ROOT, VERSION, Release
from cli.release.surface import surface


def record_release(version: str, *, force: bool = False, root: Path = ROOT) -> int:
    """Write `releases/VERSION/`; returns the exit code. A release that was recorded stays as it is, unless by `force`."""
    console = Console(stderr=True)
    if not VERSION.fullmatch(version):
        console.print(f"{version} is no version like 1.2.3 or 1.2.3-rc.1.")
        return 2
    release = Release(root / RELEASES / version)
    if release.folder.exists() and not force:
        console.print(
            f"{version} is recorded already: what orders in flight rely on does not change afterwards. --force, if it must."
        )
        return 1
    shutil.rmtree(release.folder, ignore_errors=True)
    shutil.copytree(root / HISTORIES, release.folder / "histories")
    _write(release, "surface", surface().document())
    _write(release, "openapi", openapi())
    _write(release, "asyncapi", asyncapi())
    console.print(f"{version} is recorded in {release.folder}")
    return 0


def _write(release: Release, name: str, document: dict[str, Any]) -> None:
    (release.folder / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
