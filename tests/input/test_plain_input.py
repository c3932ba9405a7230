"""What no request may hold is refused before an endpoint sees it, whatever the endpoint forgot to say."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr, TypeAdapter, ValidationError
from sqlalchemy import delete

from chassis.access import AccessTable, Open
from chassis.database import Database
from chassis.service import MAX_BODY, new_app
from contracts.base import Command, Request, Timestamp, Told
from services.inventory.model import Stock, Warehouse
from tests.conftest import Databases, changing

NO_TEXTS = ("\x00", "a\x08b", "\x7f", "\x85", "\ud800", "\udc00x")


class Loose(Request):
    """Types that say nothing of what they hold."""

    text: str = ""
    secret: SecretStr = SecretStr("")
    texts: tuple[str, ...] = ()
    by_name: dict[str, list[str]] | None = None


class LooseCommand(Command):
    text: str = ""


@pytest.mark.parametrize("text", NO_TEXTS)
def test_g11_no_text_of_a_request_has_control_characters_or_half_a_surrogate_pair(text: str) -> None:
    for field, value in {"text": text, "secret": text, "texts": ["", text], "by_name": {"a": [text]}}.items():
        with pytest.raises(ValidationError) as error:
            Loose.model_validate({field: value})
        assert error.value.errors()[0]["loc"][0] == field
    with pytest.raises(ValidationError):
        Loose.model_validate({"by_name": {text: []}})
    with pytest.raises(ValidationError):
        LooseCommand(text=text)


def test_line_breaks_and_all_languages_are_text() -> None:
    assert Loose(text="Straße\r\n\t東京 🧀").text == "Straße\r\n\t東京 🧀"


def test_what_is_told_onwards_is_cut_to_fit_and_never_refused() -> None:
    assert TypeAdapter(Told).validate_python("the bank\nsaid\x00: \ud800no" + "!" * 999) == "the bank said :  no" + "!" * 481


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "1999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"]
)
def test_g11_a_time_that_no_clock_of_ours_shows_is_refused(time: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Timestamp).validate_python(time)
    east = TypeAdapter(Timestamp).validate_python("2026-01-01T05:30:00+05:30")
    assert east == datetime(2026, 1, 1, tzinfo=UTC)
    assert east.utcoffset() == timedelta(hours=5, minutes=30)


@pytest_asyncio.fixture
async def client(databases: Databases) -> AsyncIterator[httpx2.AsyncClient]:
    """An application whose endpoints check nothing, on inventory's database."""
    database = Database(await databases.new("inventory"))
    access = AccessTable(dict.fromkeys(("echo", "add_stock", "add_stock_within", "add_warehouse"), Open.PUBLIC))
    careless = access.router()

    @careless.post("/echo/{name}")
    async def echo(name: str, body: dict[str, Any], word: str = "") -> dict[str, Any]:
        return {"name": name, "word": word, "body": body}

    @careless.post("/public/stock")
    async def add_stock() -> None:
        async with changing(database) as work:
            work.add(Stock(warehouse_id="unknown", product_id="milk"))

    @careless.post("/internal/stock")
    async def add_stock_within() -> None:
        await add_stock()

    @careless.post("/public/warehouses")
    async def add_warehouse() -> None:
        async with changing(database) as work:
            work.add(Warehouse(warehouse_id="1", name="One"))

    app = new_app("Careless", "", [careless], {}, access)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client
    async with changing(database) as work:
        await work.rows(delete(Warehouse))
    await database.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\x00"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{",
        b"\xef\xbb\xbf{}",
    ],
)
async def test_g11_json_that_no_standard_knows_is_malformed(client: httpx2.AsyncClient, body: bytes) -> None:
    response = await client.post("/echo/a", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


async def test_json_comes_through_whole_and_in_pieces(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"a": "\\ud83e', b"\\uddc0", b'"}'):
            yield piece

    response = await client.post("/echo/a?word=b%20c", content=pieces(), headers={"Content-Type": "application/json"})
    assert response.json() == {"name": "a", "word": "b c", "body": {"a": "🧀"}}


@pytest.mark.parametrize("target", ["/echo/%08", "/echo/a%0Ab", "/echo/a?word=%00", "/echo/a?wo%7Frd=x", "/echo/a?x=%C2%85"])
async def test_g11_an_address_with_control_characters_is_malformed(client: httpx2.AsyncClient, target: str) -> None:
    response = await client.post(target, json={})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/echo/a", b'"' + b"x" * MAX_BODY + b'"', 413),
        ("PUT", "/echo/a", b"{}", 405),
        ("POST", "/nowhere", b"{}", 404),
        ("POST", "/echo/a", b"", 422),
    ],
)
async def test_what_no_endpoint_answers_is_a_problem_too(
    client: httpx2.AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    for content in (body, _pieces(body)):
        response = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert response.json()["status"] == status


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """Without a length."""
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def test_g11_rows_that_another_request_changed_meanwhile_are_a_conflict(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/public/warehouses")).status_code == 200
    for path in ("/public/warehouses", "/public/stock"):
        response = await client.post(path)
        assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert (await client.post("/internal/stock")).status_code == 500  # a saga repeats a fault; it would give up at a refusal


async def test_there_is_no_redirect_to_whatever_host_was_named(client: httpx2.AsyncClient) -> None:
    response = await client.post("/public/warehouses/", headers={"Host": "evil.example"})
    assert response.status_code == 404
