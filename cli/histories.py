"""`commerce histories record`: plays every branch of the sagas and keeps its history, for `tests/replay`.

The workflow runs on a real Temporal server with skipped time, its activities call the model of the services. A change of the
workflow must be able to go on with each of these histories: see docs/changing-the-saga.md.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from temporalio.client import WorkflowExecutionStatus, WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from cli.branches import BRANCHES, RETURNS, WITHIN_S, Stage
from cli.release.releases import LOCAL
from cli.release.replaying import replay
from testing.return_sagas import return_run, returning
from testing.sagas import Saga, place_order, playing, skipping_time
from testing.shop import until

PROCESS = re.compile(r"\b[0-9]+@[A-Za-z0-9.-]+")
"""How Temporal calls a process: its number at its machine."""
SHORT = 60
"""After so many events the orders of long branches go on in another run."""
FIRST_RUN = "_first_run"


def history_names() -> set[str]:
    """What `record_histories` writes."""
    return {*BRANCHES, *RETURNS, *(f"{name}{FIRST_RUN}" for name, branch in BRANCHES.items() if branch.is_long)}


def record_histories(out: Path, only: Sequence[str]) -> int:
    """Play the branches, all or only some, and write their histories; returns the exit code."""
    known = [*BRANCHES, *RETURNS]
    if unknown := set(only) - set(known):
        Console(stderr=True).print(f"No branch {', '.join(sorted(unknown))}. There are: {', '.join(known)}")
        return 2
    (out / LOCAL).mkdir(parents=True, exist_ok=True)
    asyncio.run(_record(out, list(only) or known, Console()))
    return 0


async def _record(out: Path, names: Sequence[str], console: Console) -> None:
    for is_long in (False, True):
        chosen = [name for name in names if (name in BRANCHES and BRANCHES[name].is_long) == is_long]
        if not chosen:
            continue
        async with skipping_time(long=SHORT if is_long else 1000) as env:
            for name in chosen:
                for file, history in (await (play if name in BRANCHES else play_return)(env, name)).items():
                    (out / f"{file}.json").write_text(_text(history))
                    (out / LOCAL / f"{file}.json").write_text(_text(await _asked_locally(history)))
                console.print(f"{name}")


async def play(env: WorkflowEnvironment, name: str) -> dict[str, Any]:
    """Play one branch; its history as JSON has it, by name. One that goes on in another run has two."""
    branch = BRANCHES[name]
    world, order = branch.world(), place_order(**branch.options)
    async with playing(env, world, order) as saga:
        with env.with_time_skipping_disabled():
            stage = Stage(saga, world)
            await branch.play(stage)
            await _until_quiet(saga, branch.is_open)
        description = await saga.handle.describe()
        if (description.status == WorkflowExecutionStatus.RUNNING) != branch.is_open:
            raise RuntimeError(f"{name}: the saga is {'not' if branch.is_open else 'still'} open")
        runs = {name: saga.handle}
        if branch.is_long:
            runs[f"{name}{FIRST_RUN}"] = env.client.get_workflow_handle(saga.handle.id, run_id=stage.first_run_id)
        found = {file: json.loads((await run.fetch_history()).to_json()) for file, run in runs.items()}
    return {file: _without_machine(history) for file, history in found.items()}


async def play_return(env: WorkflowEnvironment, name: str) -> dict[str, Any]:
    """The same for one branch of the saga of a return."""
    branch = RETURNS[name]
    async with returning(env, branch.world(), return_run(**branch.options)) as saga:
        await branch.play(saga)
        async with asyncio.timeout(WITHIN_S):
            await saga.handle.result()
        return {name: _without_machine(json.loads((await saga.handle.fetch_history()).to_json()))}


async def _asked_locally(history: dict[str, Any]) -> list[Any]:
    """What the local activities of a history were asked: Temporal keeps only what they answered."""

    async def recorded() -> AsyncIterator[WorkflowHistory]:
        yield WorkflowHistory.from_json("order", history)

    async for replayed in replay(recorded()):
        if replayed.failure:
            raise RuntimeError(f"the history that was just recorded does not replay: {replayed.failure}")
        return [[it.name, it.content["argument"]] for it in replayed.commands if it.kind == "local activity"]
    return []


def _text(document: Any) -> str:
    return json.dumps(document, indent=1) + "\n"


async def _until_quiet(saga: Saga, is_open: bool) -> None:
    """Until it has ended, or has no task under way."""
    if not is_open:
        async with asyncio.timeout(WITHIN_S):
            await saga.handle.result()
        return

    async def quiet() -> bool:
        raw = (await saga.handle.describe()).raw_description
        return not raw.pending_activities and not raw.HasField("pending_workflow_task")

    await until(quiet, "the saga to wait for somebody", WITHIN_S)


def _without_machine(part: Any) -> Any:
    """Without stack traces and the names of processes: they tell of the machine, and nothing of the saga."""
    if isinstance(part, dict):
        return {name: _without_machine(value) for name, value in part.items() if name != "stackTrace"}
    if isinstance(part, list):
        return [_without_machine(item) for item in part]
    return PROCESS.sub("recorder", part) if isinstance(part, str) else part
