"""`commerce keys …` on a real database, and what the commands say that need a key and have none."""

from uuid import uuid4

import pytest
from typer.testing import CliRunner

from chassis.database import Database
from cli import secrets
from cli.main import app
from services.notification.protocols.webpush import VapidKeys
from services.order.commands import StoredKeys
from temporal.keys import EnvironmentMasterKeys, OwnDataKeys, name_of
from tests.cli.conftest import Command
from tests.conftest import Databases

OLD, NEW = secrets.master_key("old"), secrets.master_key("new")


async def test_master_keys_are_rotated(databases: Databases, commerce: Command) -> None:
    url = await databases.new("order")
    database = Database(url)
    try:
        keys = OwnDataKeys(StoredKeys(database), EnvironmentMasterKeys.parse(OLD))
        for _ in range(3):
            await keys.to_write(name_of(uuid4()))
    finally:
        await database.close()

    def env(master: str) -> dict[str, str]:
        return {"DATABASE_URL_ORDER": url.replace("+asyncpg", ""), "CUSTOMER_KEYS_MASTER": master}

    alone = await commerce(env(NEW), "keys", "rotate")
    assert (alone.exit_code, alone.stderr.count("there is no master key old here")) == (1, 3)
    rotated = await commerce(env(f"{NEW},{OLD}"), "keys", "rotate")
    assert (rotated.exit_code, rotated.stdout) == (0, "3 of 3\nAll keys are wrapped by new; 3 were not before.\n")
    listed = await commerce(env(f"{NEW},{OLD}"), "keys", "list")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [["new", "3", "wraps", "new", "ones"]]


@pytest.mark.parametrize(
    ("words", "master", "why"),
    [
        (("keys", "list"), "", "no CUSTOMER_KEYS_MASTER"),
        (("keys", "list"), "key-1:short", "base64"),
        (("undo", "list"), "", "HISTORIES_IN_CLEAR=true"),
    ],
)
async def test_without_a_key_they_say_so(commerce: Command, words: tuple[str, ...], master: str, why: str) -> None:
    result = await commerce({"CUSTOMER_KEYS_MASTER": master}, *words)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_key_for_push_messages_is_made() -> None:
    made = [CliRunner().invoke(app, ["keys", "push"]).stdout.strip() for _ in range(2)]
    assert made[0] != made[1]
    assert all(VapidKeys([each]).current.public for each in made)
