"""A platform of its own: what comes in here may change anything."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from cli.client import Person
from contracts.identity import Role
from testing.stage import Stage, open_stage

PASSWORD = "a password of the fuzz run"
BASKETS = 6
SLOWEST = 10
"""So many times `--fuzz-seconds` a test may go on making up requests."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that is to play for long is not ended before."""
    patience = 900 + SLOWEST * float(config.getoption("--fuzz-seconds"))
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(patience))


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with open_stage(tmp_path_factory.mktemp("fuzz"), BASKETS, Console(quiet=True)) as stage:
        yield stage


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def document(stage: Stage) -> dict[str, Any]:
    """The merged OpenAPI document."""
    document: dict[str, Any] = await stage.shop.gateway.call("GET", "/openapi.json")
    assert not document["x-unavailable"]
    return document


async def token_of(stage: Stage, name: str, *roles: Role) -> str:
    """An access token of a new account with these roles, or of a new customer."""
    gateway, env = stage.shop.gateway, stage.platform.env
    person = Person(gateway, f"{name}-{os.urandom(4).hex()}@example.com", PASSWORD, name.title())
    await stage.shop.welcome(person)
    if roles:
        me = await gateway.call("GET", "/api/v1/users/me", token=await person.token())
        admin = Person(gateway, env["ADMIN_EMAIL"], env["ADMIN_PASSWORD"])
        tag = {"If-Match": f'"{me["version"]}"'}
        body = {"roles": list(roles)}
        await gateway.call("PUT", f"/api/v1/users/{me['user_id']}/roles", body, token=await admin.token(), headers=tag)
        await person.log_in()
    return await person.token()
