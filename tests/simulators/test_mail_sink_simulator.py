"""The mailbox, over real SMTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import httpx2
import pytest
import pytest_asyncio

from simulators.mail_sink import create_app

pytestmark = pytest.mark.asyncio

Connect = Callable[[Any], httpx2.AsyncClient]


class Sink:
    def __init__(self, http: httpx2.AsyncClient, smtp_port: int) -> None:
        self.http = http
        self._smtp_port = smtp_port

    async def send(self, to: str, message_id: str = "<one@shop.example>") -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Message-ID"] = "shop@shop.example", to, message_id
        message["Subject"] = "Größe 38 is shipped"
        message.set_content("It is on its way, Zoë.")
        await aiosmtplib.send(message, hostname="127.0.0.1", port=self._smtp_port, timeout=5)

    async def messages(self, **query: str) -> Any:
        return (await self.http.get("/messages", params=query)).json()

    async def faults(self, **switches: object) -> None:
        (await self.http.post("/_control/faults", json=switches)).raise_for_status()


@pytest_asyncio.fixture
async def sink(tmp_path: Path, connect: Connect, free_port: Callable[[], int]) -> AsyncIterator[Sink]:
    port = free_port()
    app = create_app(tmp_path, "127.0.0.1", port)
    async with app.running(), connect(app) as http:
        yield Sink(http, port)


async def test_keeps_what_it_got(sink: Sink) -> None:
    await sink.send("zoe@example.org")
    await sink.send("max@example.org", "<two@shop.example>")
    found = await sink.messages(to="ZOE@example.org")
    assert found["count"] == 1
    message = found["data"][0]
    assert message["to"] == ["zoe@example.org"]
    assert message["message_id"] == "<one@shop.example>"
    assert message["subject"] == "Größe 38 is shipped"
    assert message["text"].strip() == "It is on its way, Zoë."
    assert (await sink.http.get(f"/messages/{message['id']}")).json() == message
    assert (await sink.messages())["count"] == 2
    page = await sink.messages(limit="1", cursor=(await sink.messages(limit="1"))["next_cursor"])
    assert page["data"][0]["to"] == ["max@example.org"]


async def test_outlives_its_process(tmp_path: Path, connect: Connect, free_port: Callable[[], int]) -> None:
    for expected in (1, 2):
        port = free_port()
        app = create_app(tmp_path, "127.0.0.1", port)
        async with app.running(), connect(app) as http:
            await Sink(http, port).send("zoe@example.org")
            assert (await http.get("/messages")).json()["count"] == expected


async def test_down(sink: Sink) -> None:
    await sink.faults(down=True)
    with pytest.raises(aiosmtplib.SMTPConnectResponseError) as refused:
        await sink.send("zoe@example.org")
    assert refused.value.code == 421
    await sink.faults(down=False)
    await sink.send("zoe@example.org")
    assert (await sink.messages())["count"] == 1


async def test_rejects_recipients_by_pattern(sink: Sink) -> None:
    await sink.faults(reject_rcpt="*@bounce.example")
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
        await sink.send("zoe@Bounce.example")
    assert refused.value.recipients[0].code == 550
    await sink.send("zoe@example.org")
    assert (await sink.messages())["count"] == 1


async def test_a_lost_reply_keeps_the_message(sink: Sink) -> None:
    await sink.faults(lose_replies_next=1)
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await sink.send("zoe@example.org")
    await sink.send("zoe@example.org")
    totals = (await sink.http.get("/_control/ledger")).json()
    assert totals == {"messages": 2, "distinct_message_ids": 1}


async def test_messages_can_need_a_key(tmp_path: Path, connect: Connect, free_port: Callable[[], int]) -> None:
    app = create_app(tmp_path, "127.0.0.1", free_port(), api_key="test-key")
    async with app.running(), connect(app) as http:
        assert (await http.get("/messages")).status_code == 200
        assert (await http.get("/messages", headers={"Authorization": ""})).status_code == 401
