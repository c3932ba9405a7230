"""The gate must refuse every edit that breaks orders in flight, consumers or clients, and no other."""

import asyncio
import json
import sys

import pytest

from cli.release.releases import ROOT
from tests.replay.edits import EDITS, HARMLESS, Edit


@pytest.fixture(scope="module")
async def said() -> dict[str, list[str]]:
    """What the gate says to each edit."""
    judging = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.replay.judging", cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await judging.communicate()
    assert judging.returncode == 0, errors.decode()
    return {line["edit"]: line["said"] for line in map(json.loads, out.splitlines())}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
async def test_the_gate_judges_an_edit(edit: Edit, said: dict[str, list[str]]) -> None:
    refusals = said[edit.name]
    if not edit.refused:
        assert refusals == []
        return
    begin, _, word = edit.refused.partition(" … ")
    assert any(refusal.startswith(begin.removesuffix(" …")) and word in refusal for refusal in refusals), refusals


def test_there_are_edits_of_all_kinds() -> None:
    checks = {edit.refused.partition(":")[0] for edit in EDITS if edit.refused}
    assert checks == {"promises", "events", "replay", "coverage", "api"}
    assert len(EDITS) - len(HARMLESS) >= 27
    assert len(HARMLESS) >= 15
