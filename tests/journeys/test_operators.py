"""Operators look into orders and decide with the `temporal` CLI: the commands are those of the README, word for word."""

import asyncio
import json
import os
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.stocking import OUT_OF_STOCK
from contracts.orders import OrderStatus
from contracts.parcels import ParcelStatus
from testing.scenarios import orders as plays
from testing.stage import Stage
from tests.conftest import eventually

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = [line.split("   #")[0].strip() for line in README.splitlines() if line.startswith("temporal workflow ")]


@dataclass(frozen=True)
class Cli:
    """A terminal in which `temporal` finds the platform."""

    stage: Stage

    async def run(self, command: str, order_id: str = "") -> tuple[int, str]:
        """Exit code and output of a line of the README."""
        platform = self.stage.platform
        token = await self.stage.shop.gateway.login(platform.env["ADMIN_EMAIL"], platform.env["ADMIN_PASSWORD"])
        env = {
            **os.environ,
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
            "ORDER": order_id,
            "TEMPORAL_ADDRESS": platform.env["TEMPORAL_ADDRESS"],
            "TEMPORAL_CODEC_ENDPOINT": f"{platform.url('temporal_ui')}/codec",
            "TEMPORAL_CODEC_AUTH": f"Bearer {token}",
        }
        process = await asyncio.create_subprocess_shell(
            command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()


@pytest.fixture
def cli(stage: Stage) -> Cli:
    return Cli(stage)


def command(*words: str) -> str:
    """The README's command with these words."""
    found = [line for line in COMMANDS if all(word in line for word in words)]
    assert len(found) == 1, f"{words} in the README: {found}"
    return found[0]


def result_of(query: str) -> Any:
    """What the CLI printed of a query's result."""
    return json.loads(re.split(r"QueryResult\s*", query, maxsplit=1)[-1])


def test_every_command_of_the_readme_is_tried_here() -> None:
    tried = [
        ("list", "IN_REVIEW"),
        ("--name status",),
        ("--name timeline",),
        ("approve",),
        ("reject",),
        ("cancel",),
        ("ParcelTrouble",),
        ("decide_parcel",),
        ("--name pay ",),
        ("answer_shortage",),
        ("StuckUndo",),
    ]
    assert sorted(command(*words) for words in tried) == sorted(COMMANDS)


async def test_a_held_order_is_found_and_approved(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed(plays.held_and_forgotten)

    async def listed() -> bool:
        code, output = await cli.run(command("list", "IN_REVIEW"))
        assert code == 0, output
        return order_id in output

    await eventually(listed, what="the order in the list")
    code, output = await cli.run(command("--name status"), order_id)
    assert code == 0, output
    assert result_of(output)["status"] == OrderStatus.IN_REVIEW
    assert "an operator to approve or reject" in result_of(output)["waiting_for"]
    code, output = await cli.run(command("approve"), order_id)
    assert code == 0, output
    await stage.shop.reaches(order_id, OrderStatus.CONFIRMED)
    code, output = await cli.run(command("--name timeline"), order_id)
    assert code == 0, output
    approved = [entry for entry in result_of(output) if entry["what"] == "Approved"]
    assert [entry["for_staff"] for entry in approved] == ["by ann: known customer"]


async def test_a_held_order_is_rejected(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed(plays.held_and_forgotten)
    code, output = await cli.run(command("reject"), order_id)
    assert code == 0, output
    order = await stage.shop.reaches(order_id, OrderStatus.CANCELLED)
    assert (order["code"], order["detail"]) == ("review_rejected", "The order was not approved.")


async def test_a_lost_parcel_is_found_in_the_list_and_sent_again(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed()
    await stage.shop.dispatch(order_id)
    await stage.shop.lose(order_id, 1)
    await stage.shop.reaches(order_id, OrderStatus.UNDELIVERED)

    async def listed() -> bool:
        code, output = await cli.run(command("ParcelTrouble"))
        assert code == 0, output
        return order_id in output

    await eventually(listed, what="the order in the list")
    code, output = await cli.run(command("decide_parcel"), order_id)
    assert code == 0, output
    await stage.shop.reaches(order_id, OrderStatus.CONFIRMED)
    await stage.shop.dispatch(order_id)
    await stage.shop.carry(order_id, "delivered", 2)
    await stage.shop.reaches(order_id, OrderStatus.COMPLETED)


async def test_another_card_is_tried_for_one_that_was_declined(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed(plays.declined)
    code, output = await cli.run(command("--name pay "), order_id)
    assert code == 0, output
    await stage.shop.reaches(order_id, OrderStatus.CONFIRMED)


async def test_what_is_out_of_stock_is_left_out_for_a_customer_who_calls(stage: Stage, cli: Cli) -> None:
    purchase = stage.next_purchase().from_anywhere_with(OUT_OF_STOCK).asking(when_short="ask")
    order_id = (await stage.shop.place(purchase)).order_id
    [awaited] = [it["parcel"] for it in (await stage.shop.order(order_id))["parcels"] if it["status"] == ParcelStatus.AWAITED]
    code, output = await cli.run(command("answer_shortage"), order_id)
    assert code == 0, output
    await stage.shop.parcel_reaches(order_id, awaited, ParcelStatus.CANCELLED)


async def test_a_confirmed_order_is_cancelled_and_everything_refunded(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed()
    code, output = await cli.run(command("cancel"), order_id)
    assert code == 0, output
    order = await stage.shop.reaches(order_id, OrderStatus.CANCELLED)
    assert order["refunded"] == order["total"]
    assert order["total"]["amount"] in output


async def test_a_dispatched_order_is_not_cancelled_and_the_reason_is_told(stage: Stage, cli: Cli) -> None:
    order_id = await stage.placed()
    await stage.shop.dispatch(order_id)
    code, output = await cli.run(command("cancel"), order_id)
    assert code != 0
    assert "The parcel has left" in output
    await stage.shop.deliver(order_id)
    await stage.shop.reaches(order_id, OrderStatus.COMPLETED)


async def test_stuck_undos_can_be_listed(cli: Cli) -> None:
    code, output = await cli.run(command("StuckUndo"))
    assert code == 0, output
