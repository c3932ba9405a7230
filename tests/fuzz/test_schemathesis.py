"""Schemathesis plays with everything that the merged OpenAPI document describes: nothing fails, nothing is undocumented.

It makes as many requests as the time allows, from the first of a fixed sequence (`--fuzz-seed`), and prints how many; what it
finds it prints as a curl line, without the token.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.demo.stage import Stage
from contracts.identity import Role
from tests.fuzz.conftest import token_of

SECONDS = 40
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


@pytest.mark.timeout(900)
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
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", stage.platform.url("gateway") + "/openapi.json"),
        *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"),
        *("--seed", pytestconfig.getoption("--fuzz-seed"), "--max-time", str(SECONDS), "--max-examples", "20"),
        *("--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        *("--request-timeout", "60", "--generation-database", "none", *operations),
        cwd=tmp_path,
        env={**os.environ, "TOKEN": await token_of(stage, "fuzzer", *roles)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    told = output.decode(errors="replace")
    print(told[told.find("== SUMMARY") :])
    assert process.returncode == 0, told
