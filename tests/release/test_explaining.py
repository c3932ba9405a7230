"""An order is explained by the build that it is pinned to: workers of other builds do not go on with it."""

from datetime import timedelta

import pytest

from temporal import explaining
from temporal.explaining import SagaSeen, saga_seen
from testing.sagas import Saga
from tests.release.conftest import NEW, OLD, Releases


async def test_an_order_whose_build_has_no_worker_is_not_taken_by_those_of_another(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def seen(saga: Saga) -> tuple[SagaSeen, set[str]]:
        found = await saga_seen(releases.client, saga.order.order_id)
        return found, {worker.identity for worker in found.workers or ()}

    async with releases.worker(OLD):
        await releases.promote(OLD)
        old = await releases.held()
        found, workers = await seen(old)
        assert (found.build, workers) == (OLD, {f"worker-{OLD}"})
        assert found.state is not None
    async with releases.worker(NEW):
        await releases.promote(NEW)
        new = await releases.held()
        found, workers = await seen(new)
        assert (found.build, workers, found.silence) == (NEW, {f"worker-{NEW}"}, None)
        found, workers = await seen(old)
        assert (found.build, found.state) == (OLD, None)
        assert f"worker-{NEW}" not in workers
        assert found.silence
        monkeypatch.setattr(explaining, "POLLS", timedelta(0))  # a minute later
        assert (await seen(old))[0].workers == ()
