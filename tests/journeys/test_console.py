"""What is encrypted in the history of a real order: closed to who reaches Temporal, and open to staff at the console's door."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass

import httpx2
import pytest_asyncio
from google.protobuf.json_format import MessageToJson, Parse
from temporalio.api.common.v1 import Payloads
from temporalio.client import WorkflowHistory

from cli.operators import REFUSED
from contracts.orders import OrderStatus
from embedded.temporal import binary
from temporal.codec import KEY
from testing.scenarios import orders as plays
from testing.stage import Stage
from tests.gateway.conftest import connect


@dataclass(frozen=True)
class Terminal:
    """Where an operator works: `temporal` asks the codec server with an administrator's token."""

    stage: Stage
    token: str

    async def run(self, *words: str, with_codec: bool = True) -> str:
        """What the command prints. It must succeed."""
        where = ("--address", self.stage.platform.env["TEMPORAL_ADDRESS"])
        door = self.stage.platform.url("temporal_ui")
        codec = ("--codec-endpoint", f"{door}/codec", "--codec-auth", f"Bearer {self.token}") if with_codec else ()
        command = (binary(), *words, *where, *codec)
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()


@pytest_asyncio.fixture
async def terminal(stage: Stage) -> Terminal:
    return Terminal(stage, await commerce_token(stage))


async def commerce_token(stage: Stage, *options: str, exits: int = 0) -> str:
    """What `commerce token` prints."""
    command = ("-m", "cli.main", "token", "--data", str(stage.platform.data_dir), *options)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # without a terminal the password is read from standard input
    )
    output, errors = await process.communicate(b"wrong\n")
    assert process.returncode == exits, errors.decode()
    return output.decode().strip()


async def raw_history(stage: Stage, order_id: str) -> WorkflowHistory:
    """As everybody gets it who reaches Temporal."""
    return await stage.saga(order_id).fetch_history()


async def test_the_codec_server_shows_staff_what_the_history_hides(stage: Stage) -> None:
    order_id = await stage.placed()
    shown = await stage.shop.gateway.call("GET", f"/api/v1/orders/{order_id}", token=await commerce_token(stage))
    street = shown["ship_to"]["line1"]
    history = await raw_history(stage, order_id)
    assert not any(street.encode() in event.SerializeToString() for event in history.events)
    started = history.events[0].workflow_execution_started_event_attributes

    env = stage.platform.env
    async with connect(base_url=stage.platform.url("temporal_ui")) as browser:
        body = MessageToJson(started.input)
        assert (await browser.post("/codec/decode", content=body)).status_code == 401
        page = await browser.get("/namespaces/default/workflows", headers={"Accept": "text/html"})
        assert page.headers["location"].startswith("/login?next=")
        form = {"email": env["ADMIN_EMAIL"], "password": env["ADMIN_PASSWORD"]}
        assert (await browser.post("/login", data=form)).status_code == 303
        assert await shows(browser, started.input, street)
        settings = (await browser.get("/api/v1/settings")).json()
        assert settings["Codec"]["Endpoint"] == "/codec"
        assert (await browser.post("/logout")).status_code == 303
        assert (await browser.post("/codec/decode", content=body)).status_code == 401


async def shows(browser: httpx2.AsyncClient, payloads: Payloads, words: str) -> bool:
    answer = await browser.post("/codec/decode", content=MessageToJson(payloads))
    assert answer.status_code == 200, answer.text
    return any(words.encode() in payload.data for payload in Parse(answer.content, Payloads()).payloads)


async def test_the_command_line_reads_and_writes_through_the_codec_server(stage: Stage, terminal: Terminal) -> None:
    order_id = await stage.placed(plays.held_and_forgotten)
    which = ("--workflow-id", f"order-{order_id}")
    decision = json.dumps({"by": "ann", "reason": "known customer"})
    await terminal.run("workflow", "signal", *which, "--name", "approve", "--input", decision)
    await stage.shop.reaches(order_id, OrderStatus.CONFIRMED)
    history = await raw_history(stage, order_id)
    assert not any(b"known customer" in event.SerializeToString() for event in history.events)
    signals = [event.workflow_execution_signaled_event_attributes for event in history.events]
    keys = {signal.signal_name: payload.metadata[KEY] for signal in signals for payload in signal.input.payloads}
    assert keys["approve"] == b"shop", keys

    told = await terminal.run("workflow", "query", *which, "--name", "timeline")
    assert "by ann: known customer" in told
    cancelled = await terminal.run(
        "workflow", "update", "execute", *which, "--name", "cancel", "--input", '{"reason": "changed my mind"}'
    )
    assert "refunded" in cancelled
    await stage.shop.reaches(order_id, OrderStatus.CANCELLED)
    shown = await terminal.run("workflow", "show", *which)
    assert '"status":"CANCELLED"' in shown.replace(" ", "")
    hidden = await terminal.run("workflow", "show", *which, with_codec=False)
    assert '"status":"CANCELLED"' not in hidden.replace(" ", "")


async def test_a_wrong_password_gives_no_token(stage: Stage) -> None:
    assert await commerce_token(stage, "--email", "ann@example.com", exits=REFUSED) == ""
