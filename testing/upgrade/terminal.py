"""The operator of the drill: the `commerce` command, run as in a terminal."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from embedded.platform import ROOT


class Unexpected(Exception):
    """A command did not say or do what it should."""


@dataclass(frozen=True)
class Terminal:
    """Finds the platform by `env`. `elsewhere` is where it stands: in no tree."""

    env: Mapping[str, str]
    elsewhere: Path
    console: Console

    async def commerce(self, *words: object, tree: Path = ROOT, build_id: str = "", code: int | None = 0) -> str:
        """What `commerce …` says, run with the code of a tree, which is this build. Raises Unexpected, if it ends with another
        exit code; None: any."""
        line = " ".join(map(str, words))
        own = {"PYTHONPATH": str(tree), "TEMPORAL_WORKER_BUILD_ID": build_id}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *map(str, words)),
            cwd=self.elsewhere,
            env={**os.environ, **self.env, **own},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            output = (await process.communicate())[0].decode()
        finally:
            if process.returncode is None:
                process.kill()
        where = f"{build_id}$" if build_id else "$"
        said = "".join(f"    {told}\n" for told in output.splitlines())
        self.console.print(f"  {where} commerce {line}\n{said}", end="", markup=False, highlight=False, soft_wrap=True)
        if code is not None and process.returncode != code:
            raise Unexpected(f"commerce {line} ended with {process.returncode} instead of {code}:\n{output}")
        return output
