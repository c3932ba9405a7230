"""Sagas as operators meet them: in the world of the workflow tests, and on the small platform of the audit's tests."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.audit.conftest import shop
from tests.workflows.conftest import begin, env

__all__ = ["begin", "env", "shop"]

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
def commerce(tmp_path: Path) -> Command:
    """`await commerce({"TEMPORAL_ADDRESS": …}, "undo", "list")`. It runs in a thread, for it has an event loop of its own."""

    def invoked(env: dict[str, str], *arguments: object) -> Awaitable[Result]:
        words = [*map(str, arguments), "--data", str(tmp_path)]
        return asyncio.to_thread(lambda: CliRunner().invoke(app, words, env=env))

    return invoked
