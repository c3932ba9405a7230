"""`commerce undo`: an undo that does not succeed is seen, tried again at once, or ended by hand with a reason that is kept."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from contracts.errors import ErrorCode
from contracts.orders import CancelReply, CancelRequest, OrderState, OrderStatus
from contracts.returns import ReturnKind, ReturnReason
from embedded import temporal as embedded_temporal
from testing.model import World
from testing.model.world import refused
from testing.return_sagas import return_run, returning
from testing.sagas import Saga, assert_settled, place_order
from tests.cli.conftest import Command
from tests.conftest import ROOT, eventually
from tests.workflows.conftest import Begin

WHY = ("--reason", "the charge is disputed", "--by", "ann")


def address(env: WorkflowEnvironment) -> dict[str, str]:
    return {"TEMPORAL_ADDRESS": env.client.service_client.config.target_host, "HISTORIES_IN_CLEAR": "true", "COLUMNS": "200"}


@asynccontextmanager
async def stuck(
    begin: Begin, commerce: Command, env: WorkflowEnvironment, world: World
) -> AsyncIterator[tuple[Saga, "asyncio.Task[CancelReply]"]]:
    """An order whose refund is refused, until somebody does something about it."""
    world.before["RefundPayment"] = [refused(ErrorCode.CONFLICT)] * 100_000
    async with begin(world, place_order()) as saga:
        await saga.place()
        request = CancelRequest(reason="changed my mind", requested_by="customer")
        cancelling = asyncio.create_task(saga.handle.execute_update("cancel", request, result_type=CancelReply))

        async def is_listed() -> bool:
            result = await commerce(address(env), "undo", "list")
            return str(saga.order.order_id) in result.output

        await eventually(is_listed, timeout_s=60, what="the stuck undo in the list")
        yield saga, cancelling


async def test_a_stuck_undo_is_listed_and_shown_with_attempt_and_last_error(
    begin: Begin, commerce: Command, env: WorkflowEnvironment
) -> None:
    world = World()
    async with stuck(begin, commerce, env, world) as (saga, cancelling):
        order_id = saga.order.order_id

        async def listed() -> dict[str, Any]:
            found = json.loads((await commerce(address(env), "undo", "list", "--json")).stdout)
            (undo,) = [each for each in found if each["order_id"] == str(order_id)]
            return dict(undo)

        undo = await listed()
        assert undo["undo"] == "refund-payment"
        assert undo["attempt"] >= 1
        assert "no: conflict" in undo["last_error"]

        async def is_tried_again() -> bool:
            return bool((await listed())["attempt"] > undo["attempt"])

        await eventually(is_tried_again, what="another try")
        assert (await listed())["since"] == undo["since"], "since its first try, not its last"
        shown = await commerce(address(env), "undo", "show", order_id)
        assert shown.exit_code == 0
        assert "refund-payment" in shown.stdout
        assert "these undos to succeed: refund-payment" in shown.stdout
        world.before["RefundPayment"].clear()
        await cancelling


async def test_a_stuck_undo_is_tried_now(begin: Begin, commerce: Command, env: WorkflowEnvironment) -> None:
    world = World()
    async with stuck(begin, commerce, env, world) as (saga, cancelling):
        world.before["RefundPayment"].clear()
        result = await commerce(address(env), "undo", "retry", saga.order.order_id)
        # It may have succeeded by itself, a moment before: the clock of this server skips the waiting.
        assert result.exit_code == 0 or "stuck" in result.output, result.output
        reply = await cancelling
        assert reply.refunded == saga.order.total
        assert_settled(world, saga.order)


@pytest.mark.parametrize("done", [True, False])
async def test_a_stuck_undo_is_ended_by_hand_and_the_reason_is_kept(
    begin: Begin, commerce: Command, env: WorkflowEnvironment, done: bool
) -> None:
    world = World()
    async with stuck(begin, commerce, env, world) as (saga, cancelling):
        how = "--done" if done else "--give-up"
        result = await commerce(address(env), "undo", "settle", saga.order.order_id, "refund-payment", how, *WHY)
        assert result.exit_code == 0, result.output
        await cancelling
        state = OrderState.model_validate(await saga.handle.result())
        assert state.status == OrderStatus.CANCELLED
        assert state.given_up == (() if done else ("refund-payment: by ann: the charge is disputed",))
        timeline = await saga.handle.query("timeline")
        assert any("the charge is disputed" in (entry["for_staff"] or "") for entry in timeline)


async def test_only_a_stuck_undo_can_be_settled_and_only_by_a_colleague(
    begin: Begin, commerce: Command, env: WorkflowEnvironment
) -> None:
    world = World()
    async with stuck(begin, commerce, env, world) as (saga, cancelling):
        order_id = saga.order.order_id
        other = await commerce(address(env), "undo", "settle", order_id, "release-inventory", "--done", *WHY)
        assert other.exit_code == 1
        assert "undo_not_stuck" in other.output
        assert "stuck_undos: refund-payment" in other.output
        own = ("--reason", "mine", "--by", str(saga.order.customer_id))
        result = await commerce(address(env), "undo", "settle", order_id, "refund-payment", "--done", *own)
        assert result.exit_code == 1
        assert "own_order" in result.output
        nameless = await commerce(
            address(env), "undo", "settle", order_id, "refund-payment", "--done", "--reason", "x", "--by", ""
        )
        assert nameless.exit_code == 1
        assert "by:" in nameless.output
        world.before["RefundPayment"].clear()
        await cancelling


async def test_what_is_not_there_is_said(commerce: Command, env: WorkflowEnvironment) -> None:
    nobody = uuid4()
    assert (await commerce(address(env), "undo", "show", nobody)).exit_code == 1
    assert (await commerce(address(env), "undo", "retry", nobody)).exit_code == 1
    assert (await commerce(address(env), "undo", "retry", nobody, "refund-payment")).exit_code == 1
    settled = await commerce(address(env), "undo", "settle", nobody, "refund-payment", "--done", *WHY)
    assert settled.exit_code == 1
    assert "No workflow" in settled.output
    away = await commerce({"TEMPORAL_ADDRESS": "127.0.0.1:1", "HISTORIES_IN_CLEAR": "true"}, "undo", "list")
    assert away.exit_code == 2
    assert "Temporal" in away.output


def documented() -> list[str]:
    """The commands of Temporal's own command line that docs/runbook.md gives for a stuck undo."""
    section = (ROOT / "docs" / "runbook.md").read_text().split("## A stuck undo\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("temporal ")]


async def temporal(env: WorkflowEnvironment, line: str, order_id: UUID) -> str:
    """Run a documented command; its output."""
    words = shlex.split(line.replace("$ORDER", str(order_id)))[1:]
    process = await asyncio.create_subprocess_exec(
        *(str(embedded_temporal.binary()), *words, "--address", env.client.service_client.config.target_host),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("end", ["settle_undo", "activity complete"])
async def test_temporal_s_own_command_line_does_what_the_docs_say(
    begin: Begin, commerce: Command, env: WorkflowEnvironment, end: str
) -> None:
    world = World()
    async with stuck(begin, commerce, env, world) as (saga, cancelling):
        order_id = saga.order.order_id
        *looks, settle, complete = documented()
        listed, described, told, _ = [await temporal(env, line, order_id) for line in looks]
        assert str(order_id) in listed
        assert "refund-payment" in described
        assert "refund-payment does not succeed" in told
        await temporal(env, settle if end == "settle_undo" else complete, order_id)
        await cancelling
        state = OrderState.model_validate(await saga.handle.result())
        assert state.status == OrderStatus.CANCELLED
        assert bool(state.given_up) == (end == "settle_undo")


async def test_a_return_s_stuck_step_is_listed_tried_and_settled(commerce: Command, env: WorkflowEnvironment) -> None:
    world, run = World(), return_run(kind=ReturnKind.CLAIM, reason=ReturnReason.DAMAGED, number=2)
    world.before["GiveBack"] = [refused(ErrorCode.REFUND_FAILED)] * 100_000
    step, which = "give-back-return-2", ("--return", 2)
    async with returning(env, world, run) as saga:
        await saga.start()
        await saga.calls("GiveBack")
        await saga.later(60)
        await saga.waits_for(step)

        async def is_listed() -> bool:
            found = json.loads((await commerce(address(env), "undo", "list", "--json")).stdout)
            return [(each["undo"], each["of_return"]) for each in found if each["order_id"] == str(run.order_id)] == [(step, 2)]

        await eventually(is_listed, timeout_s=60, what="the stuck step in the list")
        shown = await commerce(address(env), "undo", "show", run.order_id, *which)
        assert f"these steps to succeed: {step}" in shown.stdout
        assert (await commerce(address(env), "undo", "show", run.order_id)).stdout.startswith("No undo is stuck.")
        assert (await commerce(address(env), "undo", "retry", run.order_id, step, *which)).exit_code == 0
        assert (await commerce(address(env), "undo", "retry", run.order_id, step)).exit_code == 1
        settled = await commerce(address(env), "undo", "settle", run.order_id, step, *which, *WHY, "--give-up")
        assert settled.exit_code == 0, settled.output
        assert "given up. The return is" in settled.stdout
        state = await saga.handle.result()
    assert state.given_up == (f"{step}: by ann: the charge is disputed",)
