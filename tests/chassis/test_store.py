"""The store on a real database: what is got is locked, what was changed is written once, and nothing is left of what failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import CheckConstraint, Column, MetaData, String, UniqueConstraint, any_, bindparam, func, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, col, select

from chassis.database import Database, enum_column, is_connection_fault, is_lock_fault, new_metadata, sqlstate
from chassis.outbox import Outbox
from chassis.statements import locked, sql
from chassis.store import Aggregate, AlreadyThere, StaleVersion, UnitOfWork, in_transaction, transaction
from contracts.errors import ErrorCode
from contracts.events import StockLevelChanged
from contracts.identity import Role
from embedded.postgres import PostgresServer
from services.inventory.app import InventorySettings, build
from services.inventory.model import Warehouse
from tests.conftest import Databases, TokenMint, changing, eventually, running_api

metadata = new_metadata()
outbox = Outbox("bank", metadata)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Table(SQLModel):
    metadata: ClassVar[MetaData] = metadata


class Account(Table, Aggregate, table=True):
    """What changes, in these tests."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("0 <= balance", name="never_overdrawn"), UniqueConstraint("owner"))

    account_id: str = Field(primary_key=True)
    owner: str
    balance: int = 0
    colour: Colour = Field(default=Colour.RED, sa_column=enum_column(Colour))
    notes: dict[str, Any] | None = Field(default_factory=dict, sa_column=Column(JSONB))


class Entry(Table, table=True):
    """A row whose key the database gives."""

    __tablename__ = "entries"

    entry_id: int | None = Field(default=None, primary_key=True)
    account_id: str
    amount: int
    mark: str | None = Field(default=None, unique=True)


class Seat(Table, table=True):
    """A row with a key of two columns, and no version."""

    __tablename__ = "seats"

    hall: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    taken_by: str | None = None


_OF_THESE = locked(Account, col(Account.account_id) == any_(bindparam("ids", type_=ARRAY(String))))
_RICH = locked(Account, col(Account.balance) >= bindparam("least"))


@pytest_asyncio.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    name = f"store_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url("postgres", driver="postgresql"))
    await connection.execute(f'create database "{name}"')
    await connection.execute(f"alter database \"{name}\" set deadlock_timeout = '20ms'")
    await connection.close()
    engine = create_async_engine(postgres.url(name))
    async with engine.begin() as begun:
        await begun.run_sync(metadata.create_all)
    await engine.dispose()
    database = Database(postgres.url(name))
    yield database
    await database.close()


@transaction
async def opened(work: UnitOfWork, *names: str, balance: int = 10) -> None:
    """Accounts whose owner has the same name in capitals."""
    work.add(*[Account(account_id=name, owner=name.upper(), balance=balance) for name in names])


@transaction
async def booked(work: UnitOfWork, name: str, amount: int) -> Account:
    account = await work.get(Account, name)
    assert account is not None
    account.balance += amount
    return account


async def account(database: Database, name: str) -> Account:
    async with database.reading() as session:
        return await session.get_one(Account, name)


async def nobody_waits_for_a_lock(database: Database) -> bool:
    return not await _waiting(database)


async def somebody_waits_for_a_lock(database: Database) -> bool:
    return bool(await _waiting(database))


async def _waiting(database: Database) -> int:
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with database.reading() as session:
        return int((await session.execute(text(query))).scalar_one())


# ── To read for a change ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_got_is_locked_until_the_commit(database: Database) -> None:
    await opened(database, "ann")
    async with changing(database) as work:
        held = await work.get(Account, "ann")
        assert held is not None
        second = asyncio.ensure_future(booked(database, "ann", 5))
        await eventually(lambda: somebody_waits_for_a_lock(database))
        held.balance = 100
    assert (await second).balance == 105
    assert (await account(database, "ann")).version == 3


async def test_the_first_row_is_locked_when_a_second_statement_follows(database: Database) -> None:
    await opened(database, "ann", "bob")
    tries = 0

    @transaction
    async def moves_all(work: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        ann = await work.get(Account, "ann")
        assert ann is not None
        if tries == 1:
            await booked(database, "ann", 5)  # nobody has to wait yet
        bob = await work.get(Account, "bob")
        assert bob is not None
        if tries == 2:
            second = asyncio.ensure_future(booked(database, "ann", 7))
            await eventually(lambda: somebody_waits_for_a_lock(database))
            waiting.append(second)
        bob.balance, ann.balance = bob.balance + ann.balance, 0

    waiting: list[asyncio.Future[Account]] = []
    await moves_all(database)
    assert [(await waiting[0]).balance, (await account(database, "bob")).balance, tries] == [7, 25, 2]


async def test_of_a_command_that_was_overtaken_nothing_is_written(database: Database) -> None:
    await opened(database, "ann")
    tries = 0

    @transaction
    async def pays(work: UnitOfWork, changes: bool) -> None:
        nonlocal tries
        tries += 1
        ann = await work.get(Account, "ann")
        assert ann is not None
        if tries == 1:
            await booked(database, "ann", 5)
        work.add(Entry(account_id="ann", amount=ann.balance))
        work.add_missing(Seat(hall="big", number=ann.balance))
        outbox.add(work, StockLevelChanged(warehouse_id="w", product_id="p", on_hand=ann.balance, change=1))
        if changes:
            ann.balance = 0

    for changes, seen in ((True, 15), (False, 5)):  # if the row itself is not changed, the rest still depends on it
        tries = 0
        await pays(database, changes)
        async with changing(database) as work:
            assert tries == 2
            assert [row.amount for row in await work.all(locked(Entry, col(Entry.account_id) == "ann"))] == [seen]
            assert await work.read(Seat, "big", seen) is not None
            assert len(await work.rows(select(outbox.table.c.seq))) == 1
            await work.rows(sql("truncate entries, seats, outbox"))


async def test_what_follows_a_commit_follows_it_once(database: Database) -> None:
    await opened(database, "ann", balance=0)
    tries, told = 0, []

    @transaction
    async def pays(work: UnitOfWork, amount: int) -> None:
        nonlocal tries
        tries += 1
        ann = await work.get(Account, "ann")
        assert ann is not None
        if tries == 1:
            await booked(database, "ann", 1)
        ann.balance -= amount
        balance = ann.balance
        work.when_committed(lambda: told.append(balance))
        assert told == []

    with pytest.raises(asyncpg.CheckViolationError):
        await pays(database, 7)
    assert (tries, told) == (2, [])
    tries = 0
    await pays(database, 2)
    assert (tries, told) == (2, [0])


async def test_what_is_in_the_way_of_a_command_that_was_overtaken_is_no_error(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def closes(work: UnitOfWork) -> bool:
        ann = await work.get(Account, "ann")
        assert ann is not None
        closed, ann.balance = ann.balance > 0, 0
        if closed:
            work.add(Entry(account_id="ann", amount=0, mark="closed"))
        if not both_have_seen_it.is_set():
            both_have_seen_it.set() if met else met.append(ann)
            await both_have_seen_it.wait()
        return closed

    met: list[Account] = []
    both_have_seen_it = asyncio.Event()
    assert sorted(await asyncio.gather(closes(database), closes(database))) == [False, True]


async def test_a_command_that_gets_one_row_and_writes_needs_no_transaction(database: Database) -> None:
    await opened(database, "ann", balance=0)
    async with database._writing() as connection:  # the pool's only one so far
        statements: list[str] = []
        connection.add_query_logger(lambda query: statements.append(query.query))
        for _ in range(3):
            work = UnitOfWork(connection)
            ann = await work.get(Account, "ann")
            assert ann is not None
            ann.balance += 1
            work.add(Entry(account_id="ann", amount=1))
            await work._commit()
    assert len(statements) == 6
    assert (await account(database, "ann")).balance == 3


async def test_a_row_that_an_earlier_command_returned_is_got_again(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def noted(work: UnitOfWork, row: Account, note: str) -> Account:
        ann = await work.get_again(row)
        assert ann.notes is not None
        ann.notes |= {note: ann.balance}
        ann.notes["last"] = note
        return ann

    first = await booked(database, "ann", 1)
    second = await noted(database, first, "one")
    assert (first.notes, first.version) == ({}, 2)
    await booked(database, "ann", 1)
    third = await noted(database, second, "two")  # what was returned is old by now: it is read again
    assert (third.notes, third.version) == ({"one": 11, "two": 12, "last": "two"}, 5)
    assert (await account(database, "ann")).notes == third.notes
    async with changing(database) as work:
        await work.rows(sql("truncate accounts"))
    with pytest.raises(LookupError):
        await noted(database, third, "three")


async def test_a_row_that_is_got_again_and_not_changed_is_what_it_is_now(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def looked_at(work: UnitOfWork, row: Account) -> int:
        return (await work.get_again(row)).balance

    first = await booked(database, "ann", 1)
    assert await looked_at(database, first) == 11
    await booked(database, "ann", 1)
    assert await looked_at(database, first) == 12


async def test_rows_that_are_got_again_together_cost_one_statement_and_none_is_overwritten(database: Database) -> None:
    await opened(database, "ann", "bob")

    async def move(work: UnitOfWork, giver: Account, taker: Account) -> tuple[Account, Account]:
        giver, taker = await work.get_again(giver), await work.get_again(taker)
        giver.balance -= 1
        taker.balance += 1
        return giver, taker

    ann, bob = await booked(database, "ann", 0), await booked(database, "bob", 0)
    async with database._writing() as connection:  # the pool's only one so far
        statements: list[str] = []
        connection.add_query_logger(lambda query: statements.append(query.query))
        work = UnitOfWork(connection)
        ann, bob = await move(work, ann, bob)
        await work._commit()
    assert len(statements) == 1
    for other in ("ann", "bob"):
        await booked(database, other, 5)
        ann, bob = await transaction(move)(database, ann, bob)
    assert (ann.balance, bob.balance) == (12, 18)
    assert [(await account(database, name)).balance for name in ("ann", "bob")] == [12, 18]

    @transaction
    async def given(work: UnitOfWork, giver: Account, taker: Account) -> None:
        giver, _ = await work.get_again(giver), await work.get_again(taker)
        giver.balance -= 1

    await booked(database, "bob", 5)  # who is only looked at has changed: both are read again
    await given(database, ann, bob)
    assert (await account(database, "ann")).balance == 11


async def test_many_changes_at_once_lose_none(database: Database) -> None:
    await opened(database, "ann", balance=0)
    await asyncio.gather(*[booked(database, "ann", 1) for _ in range(40)])
    ann = await account(database, "ann")
    assert (ann.balance, ann.version) == (40, 41)


async def test_what_is_not_there_is_none(database: Database) -> None:
    async with changing(database) as work:
        assert await work.get(Account, "nobody") is None
        assert await work.read(Account, "nobody") is None
        assert await work.read_all(Account, ["nobody"]) == []
        assert await work.read_all(Account, []) == []
        assert await work.one(_OF_THESE, ids=["nobody"]) is None


async def test_rows_are_read_as_they_are_now_and_not_held(database: Database) -> None:
    await opened(database, "ann", "bob")
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = 3
        read = {account.account_id: account.balance for account in await work.read_all(Account, ["ann", "bob", "nobody"])}
        assert read == {"ann": 3, "bob": 10}
        await asyncio.wait_for(booked(database, "bob", 1), 30)  # whom nobody holds


async def test_a_row_that_is_read_twice_is_one_object_with_what_was_changed(database: Database) -> None:
    await opened(database, "ann", "bob")
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = 77
        assert await work.get(Account, "ann") is ann
        assert (await work.all(_RICH, least=70)) == [ann]
        same, is_new = await work.get_or_add(Account(account_id="ann", owner="somebody else"))
        assert (same, is_new) == (ann, False)
        assert same is ann
        assert (ann.owner, ann.balance) == ("ANN", 77)


async def test_rows_are_locked_in_the_order_of_their_keys(database: Database) -> None:
    names = [f"account{number}" for number in range(12)]
    await opened(database, *names, balance=1000)

    @transaction
    async def moved(work: UnitOfWork, ids: list[str]) -> None:
        first, *others = await work.all(_OF_THESE, ids=ids)
        assert [first.account_id, *(other.account_id for other in others)] == sorted(ids)
        for other in others:
            first.balance -= 1
            other.balance += 1

    await asyncio.gather(*[moved(database, names[n:] + names[:n]) for n in range(12)], moved(database, names[::-1]))
    async with database.reading() as session:
        assert (await session.execute(select(func.sum(Account.balance)))).scalar_one() == 12_000


async def test_one_of_many_is_an_error(database: Database) -> None:
    await opened(database, "ann", "bob")
    async with changing(database) as work:
        with pytest.raises(LookupError, match="there are 2"):
            await work.one(_RICH, least=1)


async def test_get_or_add_waits_for_whoever_makes_the_same(database: Database) -> None:
    async with changing(database) as work:
        ann, is_new = await work.get_or_add(Account(account_id="ann", owner="ANN", balance=1))
        assert is_new
        second = asyncio.ensure_future(_found_or_made(database, "ann"))
        await eventually(lambda: somebody_waits_for_a_lock(database))
        ann.balance = 2
    assert await second == (2, False)
    assert (await account(database, "ann")).balance == 3


async def test_get_or_add_makes_it_if_the_other_maker_failed(database: Database) -> None:
    is_made, fails = asyncio.Event(), asyncio.Event()

    async def made_in_vain(work: UnitOfWork) -> None:
        await work.get_or_add(Account(account_id="ann", owner="ANN", balance=1))
        is_made.set()
        await fails.wait()
        raise RuntimeError("changed my mind")

    first = asyncio.ensure_future(in_transaction(database, made_in_vain))
    await is_made.wait()
    second = asyncio.ensure_future(_found_or_made(database, "ann"))
    await eventually(lambda: somebody_waits_for_a_lock(database))
    fails.set()
    with pytest.raises(RuntimeError, match="changed my mind"):
        await first
    assert await second == (0, True)


async def test_of_many_who_get_or_add_one_adds(database: Database) -> None:
    made = await asyncio.gather(*[_found_or_made(database, "ann") for _ in range(20)])
    assert sorted(made) == [(0, True), *[(number, False) for number in range(1, 20)]]
    ann = await account(database, "ann")
    assert (ann.balance, ann.version) == (20, 20)


@transaction
async def _found_or_made(work: UnitOfWork, name: str) -> tuple[int, bool]:
    """The balance before this raised it by one, and whether this made the account."""
    found, is_new = await work.get_or_add(Account(account_id=name, owner=name.upper()))
    before = found.balance
    found.balance += 1
    return before, is_new


async def test_get_or_add_by_another_unique_column(database: Database) -> None:
    await opened(database, "ann")
    async with changing(database) as work:
        found, is_new = await work.get_or_add(Account(account_id="other", owner="ANN"), "owner")
        assert (found.account_id, is_new) == ("ann", False)
        found.balance = 12
    assert (await account(database, "ann")).balance == 12


async def test_get_or_add_of_a_row_that_is_deleted_meanwhile_makes_it(database: Database) -> None:
    await opened(database, "ann", balance=50)
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        second = asyncio.ensure_future(_found_or_made(database, "ann"))
        await eventually(lambda: somebody_waits_for_a_lock(database))
        await work.delete(ann)
    assert await second == (0, True)
    assert (await account(database, "ann")).balance == 1


async def test_get_or_add_of_a_row_whose_key_the_database_gives(database: Database) -> None:
    async with changing(database) as work:
        entry, is_new = await work.get_or_add(Entry(account_id="ann", amount=1, mark="a"), "mark")
        assert is_new
        assert entry.entry_id is not None
        entry.amount = 2
        again, is_new = await work.get_or_add(Entry(account_id="bob", amount=9, mark="a"), "mark")
        assert again is entry
        assert not is_new
    assert await entries(database) == [("ann", 2)]


async def test_an_advisory_lock_lets_one_at_a_time_work(database: Database) -> None:
    async with changing(database) as work:
        await work.lock("b", "a")
        second = asyncio.ensure_future(_locked(database, "a", "c"))
        await eventually(lambda: somebody_waits_for_a_lock(database))
        await _locked(database, "c")  # which nobody holds: who waits for the first of its keys has not taken the next
    await second


@transaction
async def _locked(work: UnitOfWork, *keys: str) -> None:
    await work.lock(*keys)


# ── To change ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_version_rises_once_with_a_change_and_with_nothing_else(database: Database) -> None:
    await opened(database, "ann")
    assert (await account(database, "ann")).version == 1
    async with changing(database) as work:  # looked at, and set to what it is
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = ann.balance + 1 - 1
    assert (await account(database, "ann")).version == 1
    async with changing(database) as work:  # written three times
        ann = await work.get(Account, "ann")
        assert ann is not None
        for balance in (20, 30, 40):
            ann.balance = balance
            assert await work.all(_RICH, least=balance) == [ann]
        ann.owner = "Ann"
    ann = await account(database, "ann")
    assert (ann.balance, ann.owner, ann.version) == (40, "Ann", 2)


async def test_what_is_made_has_version_1_whatever_was_done_to_it_before_the_commit(database: Database) -> None:
    async with changing(database) as work:
        made, _ = await work.get_or_add(Account(account_id="ann", owner="ANN"))
        added = Account(account_id="bob", owner="BOB")
        work.add(added)
        made.balance = 1
        await work.all(_RICH, least=1)
        made.balance, added.balance = 2, 3
    for name, balance in (("ann", 2), ("bob", 3)):
        found = await account(database, name)
        assert (found.version, found.balance) == (1, balance)


async def test_a_command_returns_what_it_has_written(database: Database) -> None:
    await opened(database, "ann")
    booked_ = await booked(database, "ann", 5)
    assert booked_.model_dump() == (await account(database, "ann")).model_dump()
    assert booked_.version == 2


async def test_a_version_that_is_not_what_the_caller_has_seen_is_refused(database: Database) -> None:
    await opened(database, "ann")
    await booked(database, "ann", 5)
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.require_version(None)
        ann.require_version(2)
        with pytest.raises(StaleVersion) as stale:
            ann.require_version(1)
    assert stale.value.code == ErrorCode.STALE_VERSION
    assert stale.value.extra["current_version"] == 2


async def test_json_is_written_if_it_was_changed_in_place(database: Database) -> None:
    notes = {"b": 1, "a": [1, {"ü": None}], "c": 1.5}
    async with changing(database) as work:
        work.add(Account(account_id="ann", owner="ANN", notes=notes), Account(account_id="bob", owner="BOB", notes=None))
    async with changing(database) as work:  # read again, and not changed, in whatever order the database keeps it
        ann, bob = await work.all(_OF_THESE, ids=["ann", "bob"])
        assert (ann.notes, bob.notes) == (notes, None)
    assert (await account(database, "ann")).version == 1
    async with changing(database) as work:
        ann, bob = await work.all(_OF_THESE, ids=["ann", "bob"])
        assert ann.notes is not None
        ann.notes["a"].append("new")
        bob.notes = {"first": True}
    ann, bob = await account(database, "ann"), await account(database, "bob")
    assert (ann.notes, ann.version) == ({**notes, "a": [1, {"ü": None}, "new"]}, 2)
    assert (bob.notes, bob.version) == ({"first": True}, 2)
    async with changing(database) as work:
        (row,) = await work.rows(select(Account.notes).where(col(Account.account_id) == "bob"))
        assert row["notes"] == {"first": True}
        (row,) = await work.rows(sql("select notes from accounts where account_id = :id"), id="bob")
        assert row["notes"] == {"first": True}


async def test_an_enumeration_comes_back_as_one(database: Database) -> None:
    await opened(database, "ann")
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        assert ann.colour is Colour.RED
        ann.colour = Colour.BLUE
        found = await work.rows(select(Account.account_id).where(col(Account.colour).in_([Colour.BLUE])))
        assert [row["account_id"] for row in found] == ["ann"]
        assert not await work.rows(select(Account.account_id).where(col(Account.colour) == Colour.RED))
    assert (await account(database, "ann")).colour is Colour.BLUE


async def test_rows_without_a_version_are_changed_too(database: Database) -> None:
    async with changing(database) as work:
        work.add(Seat(hall="big", number=1), Seat(hall="big", number=2))
    async with changing(database) as work:
        seat = await work.get(Seat, "big", 2)
        assert seat is not None
        seat.taken_by = "ann"
    async with changing(database) as work:
        looked_at = await work.read(Seat, "big", 2)
        assert looked_at is not None
        assert looked_at.taken_by == "ann"


async def test_many_rows_of_several_kinds_are_added_and_changed_at_once(database: Database) -> None:
    async with changing(database) as work:
        for number in range(100):
            work.add(Account(account_id=f"a{number:03}", owner=f"A{number}"), Entry(account_id=f"a{number:03}", amount=number))
    async with changing(database) as work:
        for number, row in enumerate(await work.all(_RICH, least=0)):
            if number % 3 == 0:
                row.balance = number + 1
            if number % 3 == 1:
                row.owner, row.balance = f"B{number}", number + 1
    async with database.reading() as session:
        rows = (await session.exec(select(Account).order_by(Account.account_id))).all()
    assert [row.balance for row in rows] == [0 if number % 3 == 2 else number + 1 for number in range(100)]
    assert [row.version for row in rows] == [1 if number % 3 == 2 else 2 for number in range(100)]
    assert await entries(database) == [(f"a{number:03}", number) for number in range(100)]


async def entries(database: Database) -> list[tuple[str, int]]:
    async with database.reading() as session:
        found = (await session.exec(select(Entry).order_by(col(Entry.entry_id)))).all()
        return [(entry.account_id, entry.amount) for entry in found]


async def test_rows_that_the_database_numbers_are_added_in_their_order(database: Database) -> None:
    async with changing(database) as work:
        work.add(*[Entry(account_id="ann", amount=number) for number in range(5)])
        assert len(await work.rows(sql("select * from entries"))) == 5
        work.add(Entry(account_id="bob", amount=5))
    assert await entries(database) == [*[("ann", number) for number in range(5)], ("bob", 5)]


async def test_a_statement_sees_what_was_changed_and_added_before(database: Database) -> None:
    await opened(database, "ann")
    async with changing(database) as work:
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = 11
        work.add(Account(account_id="bob", owner="BOB", balance=12))
        found = await work.rows(select(Account.account_id, Account.balance).order_by(Account.account_id))
        assert [tuple(row) for row in found] == [("ann", 11), ("bob", 12)]


async def test_what_was_added_and_changed_can_be_got_by_its_key(database: Database) -> None:
    await opened(database, "ann")
    async with changing(database) as work:
        bob = Account(account_id="bob", owner="BOB", balance=12)
        work.add(bob)
        assert await work.get(Account, "bob") is bob
        carl = Account(account_id="carl", owner="CARL")
        work.add(carl)
        assert await work.get_or_add(Account(account_id="carl", owner="CARL")) == (carl, False)
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = 13
        looked_at = await work.read(Account, "ann")
        assert looked_at is not None
        assert looked_at.balance == 13


async def test_what_is_deleted_is_gone_and_may_come_back(database: Database) -> None:
    await opened(database, "ann", "bob")
    async with changing(database) as work:
        for row in await work.all(_OF_THESE, ids=["ann", "bob"]):
            row.balance = 99
            await work.delete(row)
        assert await work.get(Account, "ann") is None
        work.add(Account(account_id="ann", owner="ANN", balance=1))
        new = Account(account_id="carl", owner="CARL")
        work.add(new)
        await work.delete(new)
    async with database.reading() as session:
        [left] = (await session.exec(select(Account))).all()
    assert (left.account_id, left.balance) == ("ann", 1)


async def test_events_are_written_last_and_in_their_order(database: Database) -> None:
    def event(on_hand: int) -> StockLevelChanged:
        return StockLevelChanged(warehouse_id="w", product_id="p", on_hand=on_hand, change=1)

    async with changing(database) as work:
        outbox.add(work, event(1), event(2))
        assert not await work.rows(select(outbox.table.c.seq))
        work.add(Account(account_id="ann", owner="ANN"))
        outbox.add(work, event(3))
    async with database.reading() as session:
        rows = (await session.execute(select(outbox.table.c.envelope).order_by(outbox.table.c.seq))).scalars()
        assert [row["data"]["on_hand"] for row in rows] == [1, 2, 3]


# ── What fails ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_left_of_a_command_that_raises(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def fails(work: UnitOfWork) -> None:
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance = 1
        work.add(Entry(account_id="ann", amount=1))
        await work.rows(update(Account).values(owner="nobody"))
        outbox.add(work, StockLevelChanged(warehouse_id="w", product_id="p", on_hand=1, change=1))
        await work.rows(sql("select 1"))
        raise RuntimeError("at the very end")

    with pytest.raises(RuntimeError, match="at the very end"):
        await fails(database)
    ann = await account(database, "ann")
    assert (ann.balance, ann.owner, ann.version) == (10, "ANN", 1)
    assert await entries(database) == []
    async with database.reading() as session:
        assert (await session.execute(select(func.count()).select_from(outbox.table))).scalar_one() == 0
    assert (await booked(database, "ann", 1)).balance == 11  # and the row is free again


async def test_what_only_adds_is_one_commit_too(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def adds(work: UnitOfWork) -> None:
        work.add(Entry(account_id="bob", amount=1), Seat(hall="big", number=1), Account(account_id="ann", owner="again"))
        outbox.add(work, StockLevelChanged(warehouse_id="w", product_id="p", on_hand=1, change=1))

    with pytest.raises(AlreadyThere):
        await adds(database)
    assert await entries(database) == []
    async with changing(database) as work:
        assert await work.read(Seat, "big", 1) is None
        assert not await work.rows(select(outbox.table.c.seq))


async def test_nothing_is_left_of_a_command_that_is_cancelled_while_it_waits(database: Database) -> None:
    await opened(database, "ann", "bob")

    @transaction
    async def of_both(work: UnitOfWork) -> None:
        bob = await work.get(Account, "bob")
        assert bob is not None
        bob.balance = 0
        await work.rows(update(Account).where(col(Account.account_id) == "bob").values(owner="nobody"))
        await work.get(Account, "ann")

    async with changing(database) as work:
        await work.get(Account, "ann")
        waiting = asyncio.ensure_future(of_both(database))
        await eventually(lambda: somebody_waits_for_a_lock(database))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: nobody_waits_for_a_lock(database))
        assert (await booked(database, "bob", 1)).balance == 11


async def test_a_row_that_a_statement_of_its_own_command_has_changed_is_not_overwritten(database: Database) -> None:
    await opened(database, "ann")

    @transaction
    async def goes_around_itself(work: UnitOfWork) -> None:
        ann = await work.get(Account, "ann")
        assert ann is not None
        await work.rows(update(Account).values(version=Account.version + 1, balance=1))
        ann.balance = 2

    with pytest.raises(AssertionError, match="0 instead of 1 rows by: update accounts"):
        await goes_around_itself(database)
    assert (await account(database, "ann")).balance == 10


class Tries:
    """Fails with PostgreSQL's code the first so many times."""

    def __init__(self, code: str, times: int) -> None:
        self.code, self.times, self.made = code, times, 0

    async def __call__(self, work: UnitOfWork) -> int:
        self.made += 1
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance += 1
        work.add(Entry(account_id="ann", amount=self.made))
        if self.made <= self.times:
            await work.rows(sql(f"do $$ begin raise exception 'in the way' using errcode = '{self.code}'; end $$"))
        return self.made


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
async def test_i5_who_was_in_each_others_way_is_tried_again(database: Database, code: str) -> None:
    await opened(database, "ann")
    assert await in_transaction(database, Tries(code, 3)) == 4
    ann = await account(database, "ann")
    assert (ann.balance, ann.version) == (11, 2)
    assert await entries(database) == [("ann", 4)]


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
async def test_i5_it_is_a_fault_if_they_are_in_the_way_for_too_long(
    database: Database, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.store.TRY_AGAIN_S", 0.2)
    await opened(database, "ann")
    tries = Tries(code, 10**6)
    with pytest.raises(asyncpg.PostgresError) as fault:
        await in_transaction(database, tries)
    assert is_lock_fault(fault.value)
    assert 2 <= tries.made < 20
    assert (await account(database, "ann")).balance == 10


async def test_i5_two_who_wait_for_each_other_both_get_through(database: Database) -> None:
    await opened(database, "ann", "bob")
    both_hold_one = asyncio.Barrier(2)
    tries = 0

    async def crossing(first: str, second: str) -> None:
        first_time = True

        async def cross(work: UnitOfWork) -> None:
            nonlocal tries, first_time
            tries += 1
            await work.get(Account, first)
            if first_time:
                first_time = False
                await both_hold_one.wait()
            other = await work.get(Account, second)
            assert other is not None
            other.balance += 1

        await in_transaction(database, cross)

    await asyncio.gather(crossing("ann", "bob"), crossing("bob", "ann"))
    assert tries > 2
    assert [(await account(database, name)).balance for name in ("ann", "bob")] == [11, 11]


async def test_i5_a_lock_that_does_not_come_in_time_is_waited_for_a_second_time(database: Database) -> None:
    await opened(database, "ann")
    tries = 0

    async def impatient(work: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            second_try.set()
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance += 1

    second_try = asyncio.Event()
    async with changing(database) as work:
        await work.get(Account, "ann")
        waiting = asyncio.ensure_future(in_transaction(database, impatient))
        trying_again = asyncio.ensure_future(second_try.wait())
        await asyncio.wait([waiting, trying_again], return_when=asyncio.FIRST_COMPLETED)
    trying_again.cancel()
    await waiting
    assert tries == 2
    assert (await account(database, "ann")).balance == 11


async def test_i5_a_conflict_that_shows_at_the_commit_is_tried_again(database: Database) -> None:
    """As a constraint that is checked then, or PostgreSQL itself if it serializes transactions."""
    await opened(database, "ann")
    async with changing(database) as work:
        for statement in (
            "create function fails_once() returns trigger language plpgsql as $$ begin "
            "if new.balance < 12 then raise exception 'in the way' using errcode = '40001'; end if; return null; end $$",
            "create constraint trigger fails_once after update on accounts deferrable initially deferred "
            "for each row execute function fails_once()",
        ):
            await work.rows(sql(statement))
    tries = 0

    async def change(work: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        ann = await work.get(Account, "ann")
        assert ann is not None
        ann.balance += tries

    await in_transaction(database, change)
    assert tries == 2
    assert (await account(database, "ann")).balance == 12


async def test_other_errors_are_not_tried_again(database: Database) -> None:
    await opened(database, "ann")
    for code in ("23505", "57014", "XX000"):
        tries = Tries(code, 1)
        with pytest.raises(asyncpg.PostgresError) as error:
            await in_transaction(database, tries)
        assert (sqlstate(error.value), tries.made) == (code, 1)


async def test_i5_an_endpoint_that_others_are_in_the_way_of_answers_503(
    databases: Databases, mint: TokenMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.store.TRY_AGAIN_S", 0.0)
    settings = InventorySettings(database_url=await databases.new("inventory"))
    database = Database(settings.database_url)
    try:
        async with running_api(build(settings), mint) as client:

            async def named(name: str) -> httpx2.Response:
                return await client.put("/api/v1/warehouses/w1", params={"name": name}, headers=mint.headers(Role.ADMIN))

            assert (await named("first")).is_success
            async with changing(database) as work:
                await work.get(Warehouse, "w1")
                answer = await named("second")
            assert answer.status_code == 503
            assert answer.json()["code"] == ErrorCode.SERVICE_UNAVAILABLE
            assert answer.headers["Retry-After"] == "1"
            assert (await named("third")).is_success
    finally:
        await database.close()


SECRET = "zoe@example.org"


async def _too_low(work: UnitOfWork) -> None:
    work.add(Account(account_id=SECRET, owner="x", balance=-1))


async def _twice(work: UnitOfWork) -> None:
    work.add(Account(account_id=SECRET, owner=SECRET))
    await work.rows(sql("select 1"))
    await work.rows(sql("insert into accounts select * from accounts"))


async def _no_number(work: UnitOfWork) -> None:
    work.add(Account(account_id="x", owner="x", balance=SECRET))  # type: ignore[arg-type]


async def _no_number_in_a_statement(work: UnitOfWork) -> None:
    await work.rows(sql("select cast(:value as text)::int"), value=SECRET)


async def _too_large(work: UnitOfWork) -> None:
    work.add(Account(account_id="x", owner="x", balance=31_415_926_535_897))


@pytest.mark.parametrize("change", [_too_low, _twice, _no_number, _no_number_in_a_statement, _too_large])
async def test_an_error_tells_nothing_of_what_is_in_a_row(
    database: Database, change: Callable[[UnitOfWork], Awaitable[None]]
) -> None:
    """What people entered is not for the log. It is no fault that passes, either."""
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as error:
        await in_transaction(database, change)
    shown = "".join(_all_texts(error.value))
    assert SECRET not in shown
    assert "31415926535897" not in shown
    assert not is_lock_fault(error.value)
    assert not is_connection_fault(error.value)


def _all_texts(error: BaseException | None) -> list[str]:
    """As a traceback shows them."""
    if error is None:
        return []
    inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [str(error), *_all_texts(inner)]


async def test_a_reading_session_changes_nothing(database: Database) -> None:
    await opened(database, "ann")
    for statement in ("update accounts set balance = 0", "delete from accounts", "select * from accounts for update"):
        async with database.reading() as session:
            with pytest.raises(DBAPIError) as refused:
                await session.execute(text(statement))
            assert sqlstate(refused.value) == "25006"
    assert (await account(database, "ann")).balance == 10


async def test_statements_take_lists_and_repeated_parameters(database: Database) -> None:
    await opened(database, "ann", "bob", "carl")
    async with changing(database) as work:
        found = await work.rows(select(Account.account_id).where(col(Account.account_id).in_(["ann", "carl"])))
        assert sorted(row["account_id"] for row in found) == ["ann", "carl"]
        assert await work.rows(select(Account.account_id).where(col(Account.account_id).in_([]))) == []
        found = await work.rows(sql("select :a as one, cast(:b as text) as two, :a as three"), a="x", b="y")
        assert dict(found[0]) == {"one": "x", "two": "y", "three": "x"}
        with pytest.raises(KeyError):
            await work.rows(sql("select cast(:a as text)"), b="x")


async def test_of_new_rows_those_are_told_that_were_not_there_in_any_unique_way(database: Database) -> None:
    async with changing(database) as work:
        work.add(Account(account_id="ann", owner="ANN"))
    rows = [("ann", "somebody"), ("bob", "ANN"), ("cid", "CID"), ("cid", "AGAIN"), ("dan", "CID"), ("eve", "EVE")]
    async with changing(database) as work:
        added = await work.add_new([Account(account_id=name, owner=owner) for name, owner in rows])
        assert [(row.account_id, row.owner) for row in added] == [("cid", "CID"), ("eve", "EVE")]
        assert await work.add_new([]) == []
    async with changing(database) as work:
        assert await work.add_new([Account(account_id=name, owner=owner) for name, owner in rows]) == []


async def test_of_two_who_add_the_same_at_once_one_is_told_so(database: Database) -> None:
    async def add(work: UnitOfWork) -> int:
        return len(await work.add_new([Account(account_id=name, owner=name.upper()) for name in ("cid", "ann", "bob")]))

    assert sorted(await asyncio.gather(*[in_transaction(database, add) for _ in range(5)])) == [0, 0, 0, 0, 3]
