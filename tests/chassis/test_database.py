"""Which errors of a database, and of files, are faults that pass."""

import asyncio
import errno

import asyncpg
import pytest
from sqlalchemy import text

from chassis.database import Database, is_passing
from chassis.statements import sql
from tests.conftest import Databases, changing


async def test_i5_a_lock_that_does_not_come_in_time_is_a_fault_that_passes(databases: Databases) -> None:
    database = Database(await databases.new("catalog"))

    async def wait_in_vain() -> None:
        async with changing(database) as work:
            await work.rows(text("set local lock_timeout = '10ms'"))
            await work.lock("a")

    async with changing(database) as holder:
        await holder.lock("a")
        with pytest.raises(asyncpg.LockNotAvailableError) as late:
            await wait_in_vain()
    assert is_passing(late.value)
    await database.close()


async def test_i5_a_deadlock_is_a_fault_that_passes(databases: Databases) -> None:
    database = Database(await databases.new("catalog"))
    both_hold_one = asyncio.Barrier(2)

    async def cross(first: str, second: str) -> None:
        async with changing(database) as work:
            await work.rows(text("set local deadlock_timeout = '10ms'"))
            await work.lock(first)
            await both_hold_one.wait()
            await work.lock(second)

    ends = await asyncio.gather(cross("a", "b"), cross("b", "a"), return_exceptions=True)
    [lost] = [end for end in ends if end is not None]
    assert is_passing(lost)
    await database.close()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (TimeoutError(), True),
        (OSError("Multiple exceptions: refused, refused"), True),
        (OSError(errno.EHOSTUNREACH, "no route"), True),
        (FileNotFoundError(errno.ENOENT, "none", "template"), False),
        (FileNotFoundError("template"), False),
        (PermissionError(errno.EACCES, "no", "key.pem"), False),
        (OSError(errno.ENOSPC, "disk full"), False),
    ],
)
def test_i5_what_is_wrong_with_a_file_is_no_database_that_is_away(error: OSError, passes: bool) -> None:
    assert is_passing(error) is passes


async def test_one_statement_reads_without_a_transaction_and_changes_nothing(databases: Databases) -> None:
    database = Database(await databases.new("catalog"))
    [row] = await database.rows(sql("select cast(:n as integer) as n"), n=7)
    assert row["n"] == 7
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await database.rows(sql("delete from products"))
    with pytest.raises(asyncpg.InvalidTextRepresentationError) as wrong:
        await database.rows(sql("select cast(cast(:text as text) as integer)"), text="a secret")
    assert "a secret" not in str(wrong.value)
    assert len(await database.rows(sql("select 1"))) == 1
    await database.close()
