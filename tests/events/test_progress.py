"""A consumer that gets nothing done is seen: by metrics, by its service's readiness, also when nothing at all is applied."""

import time
from uuid import uuid4

import httpx2
import pytest

from chassis import consumer as consumer_module
from chassis import progress
from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.consumer import Consumer, Subscription
from chassis.dependencies import provided
from chassis.health import Troubles
from chassis.service import new_app
from chassis.store import UnitOfWork
from contracts.events import CloudEvent, OrderCompleted
from tests.conftest import eventually
from tests.events.conftest import World, in_background, inbox, take_effect
from tests.events.test_dead_letters import metric

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer looks more often how far it is, and counts as stalled much sooner."""
    monkeypatch.setattr(consumer_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(progress, "STALLED_SECONDS", 1.0)


@pytest.mark.usefixtures("soon")
async def test_e1_a_consumer_that_gets_nothing_done_is_seen(world: World) -> None:
    is_away = True

    async def waits(work: UnitOfWork, event: OrderCompleted, envelope: CloudEvent) -> None:
        if is_away:
            raise Unavailable("temporal cannot be reached")
        await take_effect(work, event, envelope)

    consumer = world.consumer(waits)

    async def has_nothing_to_do() -> bool:
        return metric("consumer_records_behind", world) == 0 and consumer.progress.trouble() is None

    async def is_behind() -> bool:
        return metric("consumer_records_behind", world) == 3 and consumer.progress.trouble() is not None

    async with in_background(world.relay(), consumer):
        await eventually(has_nothing_to_do, what="a consumer at the end of its topics", timeout_s=60)
        await world.record(uuid4(), 1, 2, 3)
        await eventually(is_behind, what="three records behind", timeout_s=60)
        assert (consumer.progress.trouble() or "").endswith("3 records wait, as far as is known")
        assert metric("consumer_oldest_unapplied_seconds", world) > 0
        assert utc_now().timestamp() - metric("consumer_last_progress_timestamp_seconds", world) > 1
        is_away = False
        await world.until_applied(3)
        await eventually(has_nothing_to_do, timeout_s=60)
        assert metric("consumer_oldest_unapplied_seconds", world) == 0


@pytest.mark.usefixtures("soon")
async def test_e1_a_consumer_that_cannot_find_out_whether_there_is_something_to_do_is_seen(world: World) -> None:
    settings = world.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    subscription = Subscription((world.topic,), {OrderCompleted: take_effect})
    consumer = Consumer(world.group, subscription, world.database, inbox, settings)

    async def is_silent() -> bool:
        return consumer.progress.trouble() is not None

    async with in_background(consumer):
        await eventually(is_silent, timeout_s=60)
        assert utc_now().timestamp() - metric("consumer_last_progress_timestamp_seconds", world) > 1


@pytest.mark.usefixtures("soon")
async def test_a_second_consumer_without_a_share_has_nothing_to_do(world: World) -> None:
    """Five consumers share three partitions."""
    consumers = [world.consumer(group=world.group) for _ in range(5)]
    await world.record(uuid4(), 1)

    async with in_background(world.relay(), *consumers):
        await world.until_applied(1)
        applied_at = time.monotonic()

        async def all_well_for_longer_than_a_stall() -> bool:
            is_over = time.monotonic() > applied_at + 3 * progress.STALLED_SECONDS
            return is_over and all(consumer.progress.trouble() is None for consumer in consumers)

        await eventually(all_well_for_longer_than_a_stall, timeout_s=60)


async def test_readiness_tells_of_a_stalled_consumer_and_still_takes_requests() -> None:
    app = new_app("Shop", "", [], {})
    trouble: str | None = None
    provided(app, Troubles)["consumer"] = lambda: trouble
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "checks": {"consumer": "ok"}})
        trouble = "nothing applied for 60 s"
        degraded = await client.get("/health/ready")
        assert (degraded.status_code, degraded.json()) == (200, {"status": "degraded", "checks": {"consumer": trouble}})
