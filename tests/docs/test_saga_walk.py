"""docs/changing-the-saga.md, played as it stands: its edits are made in a copy of this tree, its commands are run in a shell
there, and what they print is what the page shows.

Blocks whose first line says `walk` are played, in their order. `up` and `restart` are what the reader does in another terminal.
`exit=1`: the block ends with this code instead of 0. `until`: it is run again until it prints what the page shows. What is never
the same twice (ids of orders and builds, times) may differ from the page.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from rich.console import Console

from cli.stocking import stock_platform
from data.baskets import read_baskets, write_baskets
from embedded.platform import ROOT
from temporal.versions import tree_build_id
from testing.edited_tree import edited_tree
from testing.platform_process import PlatformProcess
from tests.conftest import eventually
from tests.docs.pages import Block, blocks

PAGE = ROOT / "docs" / "changing-the-saga.md"
GATEWAY = "http://127.0.0.1:8080"
BUILD = re.compile(r"\b[0-9a-f]{12}\b(?!-)")
ENDED = "the block has ended with"
DIFFERS = (
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    r"\d\d:\d\d:\d\d\.\d{3}",
)
"""Ids of orders, times."""
STOCKED = ("878715", "410")
"""Product and warehouse of the orders."""


@dataclass(frozen=True)
class Action:
    """A block that is played, and what the page says that it prints."""

    block: Block
    shown: str = ""


def actions() -> Iterator[Action]:
    walked = [block for block in blocks(PAGE) if any(word.startswith("walk") for word in block.info)]
    for block, after in zip(walked, [*walked[1:], None], strict=True):
        if block.info[0] != "text":
            yield Action(block, after.text if after and after.info[0] == "text" else "")


class Shell:
    """Bash in a tree, with the `commerce` command of that tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        commands = self._tree / "bin"
        commands.mkdir()
        commerce = commands / "commerce"
        commerce.write_text(f'#!/bin/sh\nPYTHONPATH="{self._tree}" exec "{sys.executable}" -m cli.main "$@"\n')
        commerce.chmod(0o700)
        env = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "300"}
        self._process = await asyncio.create_subprocess_exec(
            *("bash", "--noprofile", "--norc"), cwd=self._tree, env=env, stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def run(self, commands: str) -> tuple[str, int]:
        """What they print, and the exit code of the last one. Variables stay for what is run later."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{{\n{commands}\n}} </dev/null\nprintf "\\n{ENDED} %s\\n" $?\n'.encode())
        printed: list[str] = []
        while line := (await self._process.stdout.readline()).decode():
            if line.startswith(ENDED):
                return "".join(printed), int(line.removeprefix(ENDED))
            printed.append(line)
        raise EOFError(f"the shell has ended:\n{''.join(printed)}")


class Reader:
    """Who does what the page says."""

    def __init__(self, tree: Path, shell: Shell, platform: PlatformProcess) -> None:
        self._tree, self._shell, self._platform = tree, shell, platform
        self._builds: dict[str, str] = {}
        """What builds are called on the page, and here."""

    async def do(self, action: Action) -> None:
        match action.block.info:
            case ("diff", *_):
                self._edit(action.block.text)
            case (_, "walk=up"):
                await self._platform.start()
                await self._stock()
            case (_, "walk=restart"):
                await self._platform.stop()
                await self._platform.start()
            case _:
                await self._run(action)

    def _edit(self, diff: str) -> None:
        # `git` looks for a repository above, and passes over files that are in none.
        env = os.environ | {"GIT_CEILING_DIRECTORIES": str(self._tree.parent)}
        subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=diff, text=True, cwd=self._tree, env=env, check=True)

    async def _stock(self) -> None:
        product, store = STOCKED
        wanted = [basket for basket in read_baskets() if basket.store_id == store and product in dict(basket.lines)]
        write_baskets(self._tree / "baskets.csv", wanted[:1])
        await stock_platform(self._platform.running.env, Console(quiet=True), self._tree / "baskets.csv")

    async def _run(self, action: Action) -> None:
        code = next((int(word.removeprefix("exit=")) for word in action.block.info if word.startswith("exit=")), 0)
        commands = action.block.text.replace(GATEWAY, self._platform.running.env["GATEWAY_URL"])
        self._know_builds(commands + action.shown)
        for page, here in self._builds.items():
            commands = commands.replace(page, here)

        async def is_as_shown() -> bool:
            printed, ended = await self._shell.run(commands)
            missing = self._missing(action.shown, printed)
            if "until" in action.block.info and (missing or ended != code):
                return False
            assert ended == code, f"{commands}ended with {ended}:\n{printed}"
            assert not missing, f"{commands}should print {missing!r}, and printed:\n{printed}"
            return True

        await eventually(is_as_shown, timeout_s=600, what=f"{commands} to print what the page shows")

    def _know_builds(self, text: str) -> None:
        """A build that the page has not named before is the one of the tree as it is now."""
        for build in BUILD.findall(re.sub(DIFFERS[0], "", text)):
            self._builds.setdefault(build, tree_build_id(self._tree))

    def _missing(self, shown: str, printed: str) -> str | None:
        """The first line that the page shows, and that was not printed after those before it."""
        place = 0
        for line in filter(None, shown.splitlines()):
            found = re.compile(self._pattern(line)).search(printed, place)
            if found is None:
                return line
            place = found.end()
        return None

    def _pattern(self, line: str) -> str:
        differs = re.compile("|".join(f"({pattern})" for pattern in (*DIFFERS, r"\s*…\s*", r"\s+")))
        written, end = "", 0
        for found in differs.finditer(line):
            written += self._literally(line[end : found.start()])
            kind, end = found.lastindex or 1, found.end()
            written += [*DIFFERS, r".*", r"\s+"][kind - 1]
        return written + self._literally(line[end:])

    def _literally(self, text: str) -> str:
        return re.escape(BUILD.sub(lambda found: self._builds.get(found[0], found[0]), text))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
@pytest.mark.timeout(0)  # each wait within has a limit of its own
async def test_the_change_that_the_page_makes_goes_as_it_says(tmp_path: Path) -> None:
    tree = edited_tree(tmp_path / "tree", ())
    shutil.copytree(ROOT / "tests" / "replay", tree / "tests" / "replay")
    shutil.copy(ROOT / "tests" / "__init__.py", tree / "tests" / "__init__.py")
    (tree / ".venv").symlink_to(sys.prefix)
    platform = PlatformProcess(tree / ".commerce", settings={}, tree=tree)
    async with Shell(tree) as shell:
        reader = Reader(tree, shell, platform)
        try:
            for action in actions():
                await reader.do(action)
        finally:
            await platform.stop()


def test_the_page_has_all_that_the_walk_needs() -> None:
    kinds = [action.block.info[:2] for action in actions()]
    assert kinds[0] == ("sh", "walk=up")
    assert ("sh", "walk=restart") in kinds
    assert kinds.count(("diff", "walk")) == 2
    assert sum(bool(action.shown) for action in actions()) > 6
