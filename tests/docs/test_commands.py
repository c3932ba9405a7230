"""Command lines in the pages exist: `commerce`, `temporal`, `make` and `python -m` with the options that the pages give them."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from cli.main import app
from embedded import temporal as embedded_temporal
from embedded.platform import ROOT
from tests.docs.pages import PAGES, blocks, name_of, spans

SEEN = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which tells several commands in one word
SOME_ORDER = "0198c1f2-0000-7000-8000-000000000000"
STANDS_FOR = re.compile(r"\$\w+|\$\{\w+\}|.*…|[A-Z]+…?")
"""Words for which the reader puts in something: `$ORDER`, `BUILD`, `0198c1f2-…`."""
ENDS = frozenset({"|", "||", "&&", ";", ">", ">>", "<", "&", ")"})
COMMERCE: Any = typer.main.get_command(app)


def lines(page: Path, program: str) -> Iterator[tuple[str, bool]]:
    """The command lines of a program in a page, without its name; whether they are whole: those between fences are."""
    begins = re.compile(rf"(?:^|[\s(]){re.escape(program)} ([^\n]*)", re.MULTILINE)
    for block in blocks(page):
        if block.info[:1] in ((), ("sh",), ("console",)):
            for found in begins.findall(block.text.replace("\\\n", " ")):
                yield found, True
    for span in spans(page):
        if found := re.match(rf"(?:docker compose run --rm )?{re.escape(program)} (.+)", span):
            yield found[1], False


def words(line: str) -> list[str]:
    """Those of one command: up to a pipe, a bracket that closes around it, a comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if word in ENDS:
            break
        found.append(word.strip("[]"))
    return found


def with_values(found: list[str]) -> list[str]:
    return [SOME_ORDER if STANDS_FOR.fullmatch(word) else word for word in found if word != "…"]


def commerce_lines() -> list[Any]:
    found = {(name_of(page), line, is_whole) for page in SEEN for line, is_whole in lines(page, "commerce")}
    return [pytest.param(line, is_whole, id=f"{page}: {line}") for page, line, is_whole in sorted(found)]


@pytest.mark.parametrize(("line", "is_whole"), commerce_lines())
def test_commerce_has_the_commands_and_options_that_a_page_gives_it(line: str, is_whole: bool) -> None:
    command, rest = COMMERCE, with_values(words(line))
    while isinstance(command, TyperGroup) and rest:
        command, rest = command.commands[rest[0]], rest[1:]
    if isinstance(command, TyperGroup):
        assert not is_whole
    elif is_whole:
        command.make_context(command.name, rest)  # raises what is wrong
    else:
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= options


@cache
def help_of(path: tuple[str, ...]) -> str:
    """What `temporal … --help` says."""
    said = subprocess.run([embedded_temporal.binary(), *path, "--help"], check=False, capture_output=True, text=True).stdout
    return said if f"\n  temporal {' '.join(path)} " in said else ""


@pytest.mark.parametrize("page", SEEN, ids=name_of)
def test_temporal_has_the_commands_and_options_that_a_page_gives_it(page: Path) -> None:
    for line, _ in lines(page, "temporal"):
        found = [word for word in words(line) if word != "…"]
        first = next((place for place, word in enumerate(found) if word.startswith("-")), len(found))
        if found[:1] == ["--address"]:  # before the command; it is one of every command
            found, first = found[2:], len(found) - 2
        path, options = tuple(found[:first]), [word for word in found[first:] if re.match(r"--?[a-z]", word)]
        text = help_of(path)
        assert text, f"temporal has no command {' '.join(path)}"
        for option in options:
            assert re.search(rf"(^|[\s,]){re.escape(option.partition('=')[0])}[\s,]", text), f"temporal {line}: no {option}"


@pytest.mark.parametrize("page", SEEN, ids=name_of)
def test_make_and_python_have_what_a_page_asks_of_them(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {words(line)[0] for line, _ in lines(page, "make")}
    assert asked <= targets
    for program in ("python", ".venv/bin/python"):
        for line, _ in lines(page, program):
            match words(line):
                case ["-m", module, *_]:
                    assert importlib.util.find_spec(module), f"python {line}"
