"""`commerce release record`: keeps what a release promises and what its orders look like, for every change that follows it."""

import json
import shutil
from pathlib import Path
from typing import Any

import typer

from cli.release.documents import asyncapi, openapi
from cli.release.releases import HISTORIES, RELEASES, ROOT, VERSION, Release
from cli.release.surface import surface
from embedded.builds import write_zip


def record_release(version: str, *, force: bool = False, root: Path = ROOT) -> int:
    """Write `releases/VERSION/`; returns the exit code. A release that was recorded stays as it is, unless by `force`."""
    if not VERSION.fullmatch(version):
        typer.echo(f"{version} is no version like 1.2.3 or 1.2.3-rc.1.", err=True)
        return 2
    release = Release(root / RELEASES / version)
    if release.folder.exists() and not force:
        typer.echo(f"{version} is recorded already, and its orders may be in flight: --force, if it must be.", err=True)
        return 1
    shutil.rmtree(release.folder, ignore_errors=True)
    shutil.copytree(root / HISTORIES, release.folder / "histories")
    write_zip(release.worker, root)
    _write(release, "surface", surface().document())
    _write(release, "openapi", openapi())
    _write(release, "asyncapi", asyncapi())
    typer.echo(f"{version} is recorded in {release.folder}")
    return 0


def _write(release: Release, name: str, document: dict[str, Any]) -> None:
    (release.folder / f"{name}.json").write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
