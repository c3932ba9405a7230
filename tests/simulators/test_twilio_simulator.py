"""The messenger, as its API is documented. What notification makes of it is in tests/services/notification/channels/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from simulators.twilio.app import TwilioSimulator, create_app
from simulators.twilio.callbacks import sign

pytestmark = pytest.mark.asyncio

ACCOUNT, TOKEN = "AC" + "1" * 32, "token"
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
FORM = {"To": "+491701234567", "From": "+15005550006", "Body": "Hello"}


def client_of(app: TwilioSimulator, token: str = TOKEN) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://twilio", auth=(ACCOUNT, token))


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[TwilioSimulator]:
    app = create_app(tmp_path, ACCOUNT, (TOKEN, "old"))
    async with app.running():
        yield app


async def test_a_message_goes_its_way(app: TwilioSimulator, until: Callable[..., Awaitable[Any]]) -> None:
    async with client_of(app) as client:
        await client.post("/_control/faults", json={"step_ms": 0})
        taken = await client.post(MESSAGES, data=FORM)
        assert taken.status_code == 201
        message = taken.json()
        assert (message["status"], message["num_segments"], message["account_sid"]) == ("queued", "1", ACCOUNT)

        async def delivered() -> bool:
            found = (await client.get(MESSAGES.replace(".json", f"/{message['sid']}.json"))).json()
            return bool(found["status"] == "delivered" and found["date_sent"])

        await until(delivered)
        assert (await client.get(f"/2010-04-01/Accounts/{ACCOUNT}.json")).json()["status"] == "active"
        assert (await client.get("/_control/ledger")).json()["by_status"] == {"delivered": 1}


async def test_pages_of_the_list(app: TwilioSimulator) -> None:
    async with client_of(app) as client:
        for number in range(3):
            await client.post(MESSAGES, data=FORM | {"Body": str(number)})
        await client.post(MESSAGES, data=FORM | {"To": "+491700000000"})
        first = (await client.get(MESSAGES, params={"To": FORM["To"], "PageSize": "2"})).json()
        second = (await client.get(MESSAGES, params={"To": FORM["To"], "PageSize": "2", "Page": "1"})).json()
        assert [each["body"] for each in first["messages"]] == ["2", "1"]
        assert [each["body"] for each in second["messages"]] == ["0"]
        assert first["next_page_uri"]
        assert second["next_page_uri"] is None


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"To": ""}, 400, 21604),
        ({"From": ""}, 400, 21603),
        ({"Body": ""}, 400, 21602),
        ({"Body": "a" * 1601}, 400, 21617),
        ({"To": "0170"}, 400, 21211),
        ({"From": "+15005550007"}, 400, 21606),
        ({"StatusCallback": "nowhere"}, 400, 21609),
    ],
)
async def test_refusals(app: TwilioSimulator, changes: dict[str, str], status: int, code: int) -> None:
    async with client_of(app) as client:
        refused = await client.post(MESSAGES, data=FORM | changes)
    assert (refused.status_code, refused.json()["code"], refused.json()["status"]) == (status, code, status)


async def test_who_has_no_token_is_refused_and_the_old_one_still_counts(app: TwilioSimulator) -> None:
    for token, expected in ((TOKEN, 201), ("old", 201), ("wrong", 401)):
        async with client_of(app, token) as client:
            answer = await client.post(MESSAGES, data=FORM)
            assert answer.status_code == expected
    assert answer.json()["code"] == 20003
    async with client_of(app) as client:
        assert (await client.post(MESSAGES.replace("1", "2"), data=FORM)).status_code == 404


async def test_messages_outlive_the_process(tmp_path: Path, until: Callable[..., Awaitable[Any]]) -> None:
    first = create_app(tmp_path, ACCOUNT, (TOKEN,))
    async with first.running(), client_of(first) as client:
        await client.post("/_control/faults", json={"step_ms": 200})
        await client.post(MESSAGES, data=FORM)
    again = create_app(tmp_path, ACCOUNT, (TOKEN,))
    async with again.running(), client_of(again) as client:

        async def delivered() -> bool:
            return bool((await client.get("/_control/ledger")).json()["by_status"] == {"delivered": 1})

        await until(delivered)


async def test_its_books_say_which_message_is_whose_and_not_to_whom_it_went(app: TwilioSimulator) -> None:
    async with client_of(app) as client:
        for number in range(3):
            await client.post(MESSAGES, data=FORM | {"StatusCallback": f"http://shop.example/?message={number}"})
        first = (await client.get("/_control/messages", params={"limit": "2"})).json()
        second = (await client.get("/_control/messages", params={"limit": "2", "cursor": first["next_cursor"]})).json()
    rows = [*first["data"], *second["data"]]
    assert [row["status_callback"][-1] for row in rows] == ["0", "1", "2"]
    assert second["next_cursor"] is None
    assert not {"recipient", "body"} & rows[0].keys()


async def test_who_answers_stop_is_told_of_and_gets_nothing_more(tmp_path: Path, until: Callable[..., Awaitable[Any]]) -> None:
    heard: list[tuple[dict[str, str], str]] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(
            ({name: str(value) for name, value in (await request.post()).items()}, request.headers["X-Twilio-Signature"])
        )
        return web.Response(status=204)

    shop = web.Application()
    shop.router.add_post("/in", hear)
    runner = web.AppRunner(shop)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    app = create_app(tmp_path, ACCOUNT, (TOKEN,), url)
    async with app.running(), client_of(app) as client:
        await client.post("/_control/opt-outs", json={"number": FORM["To"]})
        assert (await client.post(MESSAGES, data=FORM)).json()["code"] == 21610
        await until(lambda: told(heard, 1))
        await client.request("DELETE", "/_control/opt-outs", json={"number": FORM["To"]})
        assert (await client.post(MESSAGES, data=FORM)).status_code == 201
        await until(lambda: told(heard, 2))
    await runner.cleanup()
    assert [(fields["From"], fields["OptOutType"]) for fields, _ in heard] == [(FORM["To"], "STOP"), (FORM["To"], "START")]
    assert all(signature == sign(url, fields, TOKEN) for fields, signature in heard)


async def told(heard: list[Any], count: int) -> bool:
    return len(heard) == count
