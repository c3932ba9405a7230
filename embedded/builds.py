"""Builds of the worker as zip files: what an order in flight needs of the code that started it.

Python runs such a file as it is: `PYTHONSAFEPATH=1 PYTHONPATH=build.zip python -m worker`.
"""

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from embedded.private import private_directory
from temporal.versions import SAGA, digest_of, source_files

CODE = (*SAGA, "chassis")
"""What a worker process imports of ours."""
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class BuildStore:
    """The zips in one directory, `<build id>.zip`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, code: Path, build_id: str) -> Path:
        """The zip of a tree, made unless the one that is there has the same content; or a copy of a zip."""
        private_directory(self.directory)
        file = self.path(build_id)
        new = file.with_suffix(".new")
        if code.is_file():
            if code != file:
                shutil.copyfile(code, new)
                new.replace(file)
            return file
        files = source_files(code, CODE)
        digest = digest_of(code, files).encode()
        if not (file.exists() and _comment(file) == digest):
            write_zip(new, code, files, comment=digest)
            new.replace(file)
        return file

    def path(self, build_id: str) -> Path:
        """Where the zip of a build is, if it is there."""
        return self.directory / f"{build_id}.zip"

    def known(self) -> set[str]:
        """The builds that are there."""
        return {file.stem for file in self.directory.glob("*.zip")}

    def drop(self, build_id: str) -> None:
        """Forget a build."""
        self.path(build_id).unlink(missing_ok=True)


def write_zip(file: Path, tree: Path, files: list[Path] | None = None, *, comment: bytes = b"") -> None:
    """The code of a tree as a zip: the same files make the same bytes, whenever and wherever."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in source_files(tree, CODE) if files is None else files:
            entry = zipfile.ZipInfo(source.relative_to(tree).as_posix(), _NO_TIME)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, source.read_bytes())
        archive.comment = comment
    os.chmod(file, 0o600)


def environment(code: Path, build_id: str) -> Mapping[str, str]:
    """With which `python -m worker` is this build, and nothing of the tree that it is started from. `code` is a zip or a tree."""
    return {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1", "TEMPORAL_WORKER_BUILD_ID": build_id}


def _comment(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        return archive.comment
