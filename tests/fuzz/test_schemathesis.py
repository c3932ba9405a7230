"""Schemathesis plays with everything that the merged OpenAPI document describes: nothing fails, nothing is undocumented.

It makes as many requests as the time allows (`--fuzz-seconds`), from the first of a fixed sequence (`--fuzz-seed`), and prints
how many; what it finds it prints as a curl line, without the token.
"""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts.identity import Role
from testing.stage import Stage
from tests.fuzz import media_types
from tests.fuzz.conftest import token_of

CONFIG = """
[auth.openapi.bearer]
bearer = "${TOKEN}"
"""
ENDS_LOGINS = "identity"
"""The tag of operations that may end the run's own session or account: they have a run of their own, the last one."""
RUNS = [
    pytest.param((), ("--exclude-tag", ENDS_LOGINS), id="customer"),
    pytest.param((Role.ADMIN, Role.CUSTOMER), ("--exclude-tag", ENDS_LOGINS), id="admin"),
    pytest.param((Role.ADMIN, Role.CUSTOMER), ("--include-tag", ENDS_LOGINS), id="admin-of-users"),
]


@pytest.mark.parametrize(("roles", "operations"), RUNS)
async def test_nothing_fails_and_nothing_is_undocumented(
    stage: Stage,
    document: dict[str, Any],
    roles: tuple[Role, ...],
    operations: tuple[str, ...],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    seconds, made = int(pytestconfig.getoption("--fuzz-seconds")), None
    while made is None:  # on a busy machine the time may be over before the first request
        arguments = (stage.platform.url("gateway") + "/openapi.json", "--max-time", str(seconds), *operations)
        token = await token_of(stage, "fuzzer", *roles)
        code, told = await run_schemathesis(tmp_path, token, pytestconfig.getoption("--fuzz-seed"), *arguments)
        assert code == 0, told
        made = re.search(r"\d+ generated", told)
        seconds *= 2
    print(told[told.find("== SUMMARY") :])


async def run_schemathesis(folder: Path, token: str, seed: str, *arguments: str) -> tuple[int | None, str]:
    """Its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", "--seed", seed, "--max-examples", "20"),
        *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"),
        *("--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        *("--request-timeout", "60", "--generation-database", "none", *arguments),
        cwd=folder,
        env={**os.environ, "TOKEN": token, "SCHEMATHESIS_HOOKS": media_types.__file__},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")
