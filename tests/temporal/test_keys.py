"""Master keys wrap data keys; data keys are asked for seldom and kept not too long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr, ValidationError

from chassis.clients import HttpSession, ServiceClient, ServiceTokens, Unavailable
from chassis.database import Database
from chassis.store import UnitOfWork, transaction
from cli import secrets
from cli.keys import wrap_all_again
from contracts.errors import ErrorCode, Refusal
from contracts.identity import ServiceToken
from contracts.keys import KEYS_AT_ONCE, SHOP, KeysFound, LookUpKeys, WrappedKey
from services.order.model import CustomerKey
from services.order.queries import keys_by_master
from temporal.keys import (
    SHOP_NAME,
    DataKeys,
    EnvironmentMasterKeys,
    HistorySettings,
    KeyDestroyed,
    KeysOfOrderService,
    KeyUnknown,
    MasterKeys,
    OwnDataKeys,
    WrongKey,
    customer_named,
    name_of,
)
from tests.conftest import changing
from tests.temporal.conftest import MASTER, CountedKeys

OLD, NEW = secrets.master_key("old"), secrets.master_key("new")
KEY, NAME = bytes(range(32)), name_of(UUID(int=7))


@pytest.fixture(params=[EnvironmentMasterKeys])
def master(request: pytest.FixtureRequest) -> tuple[MasterKeys, MasterKeys]:
    """Each kind of master keys: one before a rotation and one after it."""
    kind = request.param
    return kind.parse(OLD), kind.parse(f"{NEW}, {OLD}")


async def test_a_master_key_unwraps_what_it_wrapped(master: tuple[MasterKeys, MasterKeys]) -> None:
    before, _ = master
    wrapped = await before.wrap(KEY, NAME)
    assert KEY not in wrapped
    assert await before.unwrap(wrapped, before.current, NAME) == KEY
    assert await before.wrap(KEY, NAME) != wrapped  # never twice under the same nonce


async def test_a_wrapped_key_cannot_be_changed_nor_given_to_another_customer(master: tuple[MasterKeys, MasterKeys]) -> None:
    before, _ = master
    wrapped = await before.wrap(KEY, NAME)
    for changed, name in (
        (wrapped, name_of(UUID(int=8))),
        (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), NAME),
        (wrapped[:-1], NAME),
        (b"", NAME),
    ):
        with pytest.raises(WrongKey):
            await before.unwrap(changed, before.current, name)


async def test_after_a_rotation_the_first_key_wraps_and_all_unwrap(master: tuple[MasterKeys, MasterKeys]) -> None:
    before, after = master
    wrapped = await before.wrap(KEY, NAME)
    assert (before.current, after.current) == ("old", "new")
    assert await after.unwrap(wrapped, "old", NAME) == KEY
    newly = await after.wrap(KEY, NAME)
    assert await after.unwrap(newly, "new", NAME) == KEY
    with pytest.raises(KeyUnknown):
        await before.unwrap(newly, "new", NAME)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "id has"),
        ("a", "bytes"),
        ("a:c2hvcnQ=", "bytes"),
        ("a:***", "base64"),
        (f"{OLD},{OLD}", "same id"),
        (f"{OLD},", "id has"),
        (f":{OLD.partition(':')[2]}", "id has"),
        (f"a b:{OLD.partition(':')[2]}", "id has"),
    ],
    ids=["nothing", "no_key", "short", "not_base64", "twice", "nothing_after", "no_id", "space_in_id"],
)
def test_what_is_no_master_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        EnvironmentMasterKeys.parse(text)


def test_nobody_writes_in_clear_by_mistake() -> None:
    with pytest.raises(ValidationError, match="HISTORIES_IN_CLEAR"):
        HistorySettings()
    assert HistorySettings(histories_in_clear=True).master_keys() is None
    with pytest.raises(ValidationError) as refused:
        HistorySettings(customer_keys_master=SecretStr("id:c2VjcmV0IHNlY3JldA=="))
    assert "c2VjcmV0" not in str(refused.value)


def test_a_name_tells_the_customer() -> None:
    customer = uuid4()
    assert (customer_named(name_of(customer)), customer_named(name_of(SHOP))) == (customer, SHOP)
    for name in (b"", b"customer:", b"customer:\xff", b"somebody"):
        with pytest.raises(KeyUnknown):
            customer_named(name)


# ── Data keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def made(own: OwnDataKeys, count: int) -> list[bytes]:
    names = [name_of(uuid4()) for _ in range(count)]
    for name in names:
        await own.to_write(name)
    return names


async def test_who_asks_at_once_shares_one_question(own: OwnDataKeys, stored: CountedKeys) -> None:
    names = await made(own, 5)
    stored.asked.clear()
    keys = DataKeys(stored, MASTER)
    found = await asyncio.gather(*[keys.get(name) for name in names * 20])
    assert len({id(key) for key in found}) == 5
    assert [len(ids) for ids in stored.asked] == [5]
    assert await keys.get(names[0]) is found[0]
    assert len(stored.asked) == 1


async def test_a_question_is_not_too_long(own: OwnDataKeys, stored: CountedKeys) -> None:
    stored.asked.clear()
    await asyncio.gather(*[own.to_write(name_of(uuid4())) for _ in range(KEYS_AT_ONCE + 20)])
    assert sum(map(len, stored.asked)) == KEYS_AT_ONCE + 20
    assert max(map(len, stored.asked)) == KEYS_AT_ONCE


async def test_a_key_is_asked_for_again_when_its_time_is_over(own: OwnDataKeys, stored: CountedKeys) -> None:
    [name] = await made(own, 1)
    stored.asked.clear()
    keys = DataKeys(stored, MASTER, lifetime_s=0)
    for _ in range(3):
        await keys.get(name)
    assert keys.at_hand(name) is None
    assert len(stored.asked) == 3


async def test_only_so_many_are_kept(own: OwnDataKeys, stored: CountedKeys) -> None:
    names = await made(own, 4)
    keys = DataKeys(stored, MASTER, at_most=3)
    for name in names:
        await keys.get(name)
    assert [keys.at_hand(name) is not None for name in names] == [False, True, True, True]


async def test_a_failure_is_told_to_all_who_wait_and_is_not_kept(own: OwnDataKeys, stored: CountedKeys) -> None:
    names = await made(own, 2)
    keys = DataKeys(stored, MASTER)
    stored.away = True
    failures = await asyncio.gather(*[keys.get(name) for name in names], return_exceptions=True)
    assert [type(failure) for failure in failures] == [Unavailable, Unavailable]
    stored.away = False
    assert await keys.get(names[0])


async def test_who_goes_does_not_take_the_answer_along(own: OwnDataKeys, stored: CountedKeys) -> None:
    [name] = await made(own, 1)
    keys = DataKeys(stored, MASTER)
    goes, stays = asyncio.create_task(keys.get(name)), asyncio.create_task(keys.get(name))
    await asyncio.sleep(0)
    goes.cancel()
    assert await stays
    assert goes.cancelled()


async def test_a_bad_key_is_told_to_those_only_who_want_it(own: OwnDataKeys, stored: CountedKeys, database: Database) -> None:
    good, bad, stranger = [*await made(own, 2), name_of(uuid4())]
    async with changing(database) as work:
        key = await work.get(CustomerKey, customer_named(bad))
        assert key
        key.wrapped = b"something else"
    keys = DataKeys(stored, MASTER)
    found = await asyncio.gather(*map(keys.get, (good, bad, stranger)), return_exceptions=True)
    assert [type(each).__name__ for each in found] == ["DataKey", "WrongKey", "KeyUnknown"]


@transaction
async def forget(work: UnitOfWork, customer_id: UUID) -> None:
    key = await work.get(CustomerKey, customer_id)
    assert key
    key.destroy()


async def test_a_destroyed_key_is_gone_after_a_while(own: OwnDataKeys, stored: CountedKeys, database: Database) -> None:
    [name] = await made(own, 1)
    brief = OwnDataKeys(stored, MASTER, lifetime_s=0)
    await forget(database, customer_named(name))
    assert await own.get(name)  # it was asked for just before
    for attempt in (brief.get(name), brief.to_write(name)):
        with pytest.raises(KeyDestroyed):
            await attempt
    with pytest.raises(Refusal) as refused:
        await brief.for_an_order(customer_named(name))
    assert refused.value.code == ErrorCode.CUSTOMER_FORGOTTEN


async def test_two_processes_make_one_key(stored: CountedKeys) -> None:
    name = name_of(uuid4())
    processes = [OwnDataKeys(stored, MASTER) for _ in range(5)]
    keys = await asyncio.gather(*[process.to_write(name) for process in processes])
    encrypted = keys[0].cipher.encrypt(bytes(12), b"hello", None)
    assert [key.cipher.decrypt(bytes(12), encrypted, None) for key in keys] == [b"hello"] * 5


async def test_the_shops_own_key_is_made_when_somebody_asks(own: OwnDataKeys) -> None:
    [first] = await own.find([SHOP])
    assert await own.find([SHOP, uuid4()]) == [first]


async def test_a_customer_has_a_key_before_an_order_is_accepted(own: OwnDataKeys, stored: CountedKeys) -> None:
    customer = uuid4()
    await own.for_an_order(customer)
    assert [key.customer_id for key in await stored.find([customer])] == [customer]
    stored.asked.clear()
    await own.for_an_order(customer)
    assert stored.asked == []


class OrderServer:
    """The order service (and the part of identity that gives service tokens) over HTTP; it is away for the first questions."""

    def __init__(self, own: OwnDataKeys, away: int) -> None:
        self.own, self.away, self.asked = own, away, 0

    async def look_up(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.asked <= self.away:
            return web.Response(status=503)
        wanted = LookUpKeys.model_validate_json(await request.text())
        found = KeysFound(keys=[*await self.own.find(wanted.customer_ids)])
        return web.Response(text=found.model_dump_json(), content_type="application/json")

    async def give_token(self, request: web.Request) -> web.Response:
        token = ServiceToken(access_token="service", expires_in=600)
        return web.Response(text=token.model_dump_json(), content_type="application/json")

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[DataKeys]:
        """As the worker has them."""
        app = web.Application()
        app.router.add_post("/internal/v1/customer-keys/lookup", self.look_up)
        app.router.add_post("/internal/v1/service-tokens", self.give_token)
        async with TestServer(app) as server, HttpSession() as http:
            url = str(server.make_url("")).rstrip("/")
            tokens = ServiceTokens(http, url, "worker", SecretStr("secret"))
            yield DataKeys(KeysOfOrderService(ServiceClient("order", url, http, tokens)), MASTER)


async def test_the_worker_asks_the_order_service(own: OwnDataKeys, database: Database) -> None:
    names = [SHOP_NAME, *await made(own, 3)]
    await forget(database, customer_named(names[3]))
    order = OrderServer(own, away=2)
    async with order.keys() as keys:
        found = await asyncio.gather(*map(keys.get, [*names, name_of(uuid4())]), return_exceptions=True)
    kinds = [type(each).__name__ for each in found]
    assert kinds == ["DataKey", "DataKey", "DataKey", "KeyDestroyed", "KeyUnknown"]
    assert order.asked == 3


async def test_the_worker_does_not_ask_for_ever(own: OwnDataKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporal.keys.KEY_WAIT_S", 0.5)
    async with OrderServer(own, away=1000).keys() as keys:
        with pytest.raises(Unavailable):
            await keys.get(SHOP_NAME)


# ── Rotation ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rotation_wraps_all_again_while_they_are_used(
    stored: CountedKeys, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cli.keys.BATCH", 3)
    before, after = EnvironmentMasterKeys.parse(OLD), EnvironmentMasterKeys.parse(f"{NEW},{OLD}")
    names = await made(OwnDataKeys(stored, before), 8)
    await forget(database, customer_named(names[0]))
    encrypted = (await DataKeys(stored, before).get(names[1])).cipher.encrypt(bytes(12), b"hello", None)
    assert await wrap_all_again(database, after) == (7, 0)
    assert dict(await keys_by_master(database)) == {"new": 7, None: 1}
    assert capsys.readouterr().out.split("\n")[-2] == "7 of 7"
    alone = EnvironmentMasterKeys.parse(NEW)
    assert (await DataKeys(stored, alone).get(names[1])).cipher.decrypt(bytes(12), encrypted, None) == b"hello"
    with pytest.raises(KeyDestroyed):
        await DataKeys(stored, alone).get(names[0])
    assert await wrap_all_again(database, after) == (0, 0)


async def test_rotation_passes_over_what_it_cannot_unwrap(stored: CountedKeys, database: Database) -> None:
    lost = WrappedKey(customer_id=uuid4(), wrapped=b"nobody knows", master_key_id="lost")
    await stored.add(lost)
    await made(OwnDataKeys(stored, EnvironmentMasterKeys.parse(OLD)), 2)
    assert await wrap_all_again(database, EnvironmentMasterKeys.parse(f"{NEW},{OLD}")) == (2, 1)
    assert dict(await keys_by_master(database)) == {"new": 2, "lost": 1}
