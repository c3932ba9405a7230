"""What is done in the drill, in its order, and what must be so afterwards."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.table import Table
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from audit import AuditSettings, run_audit
from cli.client import Person
from cli.release.releases import releases
from cli.stocking import stock_platform
from contracts.ids import order_workflow_id
from contracts.orders import FINAL_STATUSES, OrderStatus
from data.baskets import Basket, write_baskets
from embedded.builds import write_zip
from embedded.platform import ROOT, Platform
from temporal.client import TemporalSettings, connect
from temporal.deployments import Deployment
from testing.checker import check, summary
from testing.edited_tree import edited_tree
from testing.histories import Call, History, in_order
from testing.households import address_of
from testing.shop import UNHINDERED, Purchase, in_parallel, open_shop, until
from testing.shoppers import Shoppers, deliver_everything
from testing.stage import small_baskets
from testing.upgrade.orders import STATES, Trade, Waiting, by_itself, decided, held, make_all
from testing.upgrade.terminal import Terminal
from testing.upgrade.trees import BAD, GOOD

SETTINGS = {**UNHINDERED, "PLACE_WAIT_SECONDS": "3", "LONG_HISTORY_EVENTS": "80"}
CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_visa_chargeDeclined", "pm_sim_lost_reply")
OLD_WITHOUT_RELEASE = "before"
"""How the build is called that runs first, if no release is recorded: it is this tree's code."""
BAD_BUILD, GOOD_BUILD = "bad", "good"
BASKETS = 30
UNTIL_QUIET_S = 300.0
UNTIL_DONE_S = 1800.0
"""Only a defect makes anything last that long."""
HARMS = frozenset(
    {
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
    }
)
"""Why a task fails if the code does not fit the order's history."""


@dataclass(frozen=True)
class Form:
    """How much is played."""

    each: int
    """Orders in each state."""
    customers: int
    """Who go on ordering."""
    pause_s: float
    """Between two orders of one customer."""
    arrive: int
    """So many new orders must have gone to a build before the next thing is done."""
    looks: bool
    """Whether the operator also looks around with commands that change nothing."""


SHORT = Form(each=1, customers=2, pause_s=2.0, arrive=1, looks=False)
FULL = Form(each=4, customers=6, pause_s=2.5, arrive=8, looks=True)


@dataclass(frozen=True)
class Route:
    """Builds that get new orders, from a moment on, until another moment."""

    builds: frozenset[str]
    since: datetime
    until: datetime | None = None


@dataclass
class Result:
    """What came of it."""

    problems: list[str] = field(default_factory=list)
    """What must not be."""
    steps: list[tuple[str, float]] = field(default_factory=list)
    """What was done, and how many seconds it took."""
    orders: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By build, where they were or whose they are, and end."""

    def print(self, console: Console) -> None:
        orders = Table("build", "orders", "made", "ended", title="Orders", title_justify="left")
        for (build, kind, end), count in sorted(self.orders.items()):
            orders.add_row(build, str(count), kind, end)
        steps = Table("step", "seconds", title="Steps", title_justify="left")
        for name, seconds in self.steps:
            steps.add_row(name, f"{seconds:.1f}")
        steps.add_row("all", f"{sum(seconds for _, seconds in self.steps):.1f}")
        console.print(orders, steps)
        for problem in self.problems:
            console.print(f"WRONG: {problem}", markup=False)


async def drill(folder: Path, seed: int, form: Form, console: Console) -> Result:
    """Play it on a platform of its own in `folder`."""
    result, history, dice = Result(), History(), random.Random(seed)  # noqa: S311 - a game that can be repeated
    old, code = _old_build(folder)
    baskets = small_baskets(BASKETS)
    write_baskets(folder / "baskets.csv", baskets)
    trees = {BAD_BUILD: edited_tree(folder / "bad", BAD), GOOD_BUILD: edited_tree(folder / "good", GOOD)}
    async with AsyncExitStack() as stack:
        began = time.monotonic()
        platform = await stack.enter_async_context(Platform(folder / "platform", settings=SETTINGS, build=(old, code)))
        await stock_platform(platform.env, Console(quiet=True), folder / "baskets.csv", history)
        shop = await stack.enter_async_context(open_shop(platform.env, history))
        people = [shop.customer(f"drill-{number}") for number in range(form.customers)]
        await in_parallel(shop.welcome, people, at_once=8)
        result.steps.append((f"build {old} runs, and {len(people)} customers have signed up", time.monotonic() - began))
        temporal = await connect(TemporalSettings(temporal_address=platform.env["TEMPORAL_ADDRESS"]))
        (folder / "elsewhere").mkdir()
        terminal = Terminal(platform.env, folder / "elsewhere", console)
        trade = Trade(shop, temporal, terminal, platform.env["DATABASE_URL_INVENTORY"])
        stack.push_async_callback(trade.close)
        customers = [Shoppers(shop, person, baskets, dice, CARDS, cancels=0.0, pause_s=form.pause_s) for person in people]
        play = _Drill(platform, trade, Deployment(temporal), trees, old, form, customers, history, console, result)
        try:
            await play.all(
                [_purchase(dice.choice(baskets), dice.choice(people), dice) for _ in range(len(STATES) * form.each + 2)]
            )
        finally:
            history.write(folder / "client-history.jsonl")
    return result


def _old_build(folder: Path) -> tuple[str, Path]:
    """Name and code of the newest release's build; without one, this tree's."""
    kept = [release for release in releases() if release.worker.exists()]
    if kept:
        return kept[-1].version, kept[-1].worker
    file = folder / f"{OLD_WITHOUT_RELEASE}.zip"
    write_zip(file, ROOT)
    return OLD_WITHOUT_RELEASE, file


def _purchase(basket: Basket, customer: Person, dice: random.Random) -> Purchase:
    body = {
        "lines": [{"product_id": product, "quantity": quantity} for product, quantity in basket.lines],
        "ship_to": address_of(basket.household_id),
        "payment_token": "pm_card_visa",
        "warehouse_id": basket.store_id,
    }
    return Purchase(customer, body, key=str(UUID(int=dice.getrandbits(128))))


class _Drill:
    def __init__(
        self,
        platform: Platform,
        trade: Trade,
        deployment: Deployment,
        trees: dict[str, Path],
        old: str,
        form: Form,
        customers: Sequence[Shoppers],
        history: History,
        console: Console,
        result: Result,
    ) -> None:
        self._platform, self._trade, self._deployment, self._trees, self._old = platform, trade, deployment, trees, old
        self._form, self._customers, self._history, self._console, self._result = form, customers, history, console, result
        self._commerce = trade.terminal.commerce
        self._routes = [Route(frozenset({old}), datetime.now(UTC))]
        self._waiting: list[Waiting] = []
        self._own: dict[str, str] = {}
        """Orders that the drill itself has placed beside them, and what they were for."""
        self._builds: dict[str, str] = {}
        """Of orders that were looked at."""

    async def all(self, purchases: list[Purchase]) -> None:
        buying = [asyncio.create_task(customer.buy()) for customer in self._customers]
        try:
            await self._bad_build(purchases)
            draining = asyncio.create_task(self._drained(BAD_BUILD))
            try:
                await self._good_build()
                await draining
            finally:
                draining.cancel()
            await self._drain_the_old()
        finally:
            for customer in self._customers:
                customer.closing.set()
            async with asyncio.timeout(UNTIL_DONE_S):
                await asyncio.gather(*buying)
        await self._close()

    # ── What is done ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _bad_build(self, purchases: list[Purchase]) -> None:
        old, form, trade = self._old, self._form, self._trade
        in_the_meantime, on_bad = purchases.pop(), purchases.pop()
        async with self._step(f"orders in {len(STATES)} states, {form.each} of each; the bad build beside them"):
            await trade.shop.provider.set_faults(fail_reversals=True, slow_ms=100)
            starting = asyncio.create_task(self._platform.start_worker(self._trees[BAD_BUILD], BAD_BUILD))
            self._waiting = await make_all(trade, purchases, form.each)
            asked = await held(trade, in_the_meantime)
            self._own[asked] = "held for review, approved while the bad build is current"
            await starting
            await self._look("status")
        async with self._step("the bad build is checked, and refused"):
            said = await self._check(BAD_BUILD, code=1)
            named = [order for order in self._of_old() if order in said]
            self._require(bool(named), f"the check of the bad build names no order that it would break:\n{said}")
        async with self._step("the bad build is forced: ramped to 50 %, promoted"):
            await self._ramp(BAD_BUILD, 50)
            await self._promote(BAD_BUILD)
            order = await held(trade, on_bad)
            self._own[order] = "held for review, approved after the rollback"
            self._require(await self._build_of(order) == BAD_BUILD, f"order {order} did not go to the promoted build")
            await decided("approve")(trade, asked)
            await trade.shop.reaches(asked, OrderStatus.CONFIRMED)
        async with self._step("it is rolled back; its orders go on on its own worker"):
            await self._look("rollback", code=1)
            async with self._rerouted(old):
                await self._commerce("release", "rollback", "--yes")
            await self._arrive(old)
            await decided("approve")(trade, order)
            await trade.shop.reaches(order, OrderStatus.CONFIRMED)

    async def _good_build(self) -> None:
        async with self._step("the bad build begins to drain, and the good build comes"):
            await self._platform.start_worker(self._trees[GOOD_BUILD], GOOD_BUILD)

            async def are_home() -> bool:
                return not await self._deployment.orders(BAD_BUILD, 1)

            await until(are_home, "the bad build's orders, which no other could take, to end", UNTIL_DONE_S)
        async with self._step("the good build is checked: it could take every order"):
            await self._check(GOOD_BUILD, code=0)
        async with self._step("the good build is ramped to 50 %, and rolled back"):
            await self._ramp(GOOD_BUILD, 50)
            async with self._rerouted(self._old):
                await self._commerce("release", "rollback", "--yes")
            await self._arrive(self._old)
        async with self._step("it is ramped to 50 and 100 % again, and promoted"):
            await self._ramp(GOOD_BUILD, 50)
            await self._ramp(GOOD_BUILD, 100)
            await self._promote(GOOD_BUILD)

    async def _drain_the_old(self) -> None:
        old, trade = self._old, self._trade
        async with self._step(f"build {old} drains as its orders end"):
            said = await self._commerce("release", "drain", old, "--wait", 0, code=1)
            self._require(f"Build {old} has not drained yet" in said, f"drain of {old} says: {said}")
            await self._commerce("release", "status")
            await trade.shop.provider.set_faults()
            ends = [(waiting.state.finish, waiting.order_id) for waiting in self._waiting]
            await asyncio.gather(*(finish(trade, order_id) for finish, order_id in ends if finish is not by_itself))
            await self._drained(old)
            await self._look("status")
            await self._arrive(GOOD_BUILD)

    async def _close(self) -> None:
        async with self._step("closing time: everything is delivered, and all books are compared"):
            shop = self._trade.shop
            await deliver_everything(shop)
            for customer in self._customers:
                await customer.look_back()
            report = await run_audit(AuditSettings.of(self._platform.env), wait_s=UNTIL_QUIET_S)
            broken = check(self._history.calls)
            self._console.print(f"  {summary(self._history.calls, broken)}", markup=False)
            self._result.problems += [f"audit: {violation}" for violation in report.violations]
            self._result.problems += [f"a promise to a client: {violation}" for violation in broken]
            self._result.problems += unanswered(self._history.calls)
            await self._judge_orders()

    # ── How ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        self._console.print(f"{name} …", markup=False)
        began = time.monotonic()
        yield
        self._result.steps.append((name, time.monotonic() - began))

    @asynccontextmanager
    async def _rerouted(self, *builds: str) -> AsyncIterator[None]:
        """The block makes new orders go to these builds: meanwhile they may still go where they went."""
        before = self._routes[-1]
        self._routes[-1] = Route(before.builds, before.since, datetime.now(UTC))
        yield
        self._routes.append(Route(frozenset(builds), datetime.now(UTC)))

    async def _ramp(self, build_id: str, percent: int) -> None:
        """And wait until new orders have gone to each that gets some."""
        builds = (build_id,) if percent == 100 else (build_id, self._old)
        async with self._rerouted(*builds):
            await self._commerce("release", "ramp", percent, build_id)
        await self._arrive(*builds)

    async def _promote(self, build_id: str) -> None:
        async with self._rerouted(build_id):
            await self._commerce("release", "promote", build_id)
        await self._arrive(build_id)

    async def _look(self, *words: str, code: int = 0) -> None:
        if self._form.looks:
            await self._commerce("release", *words, code=code)

    async def _check(self, build_id: str, *, code: int) -> str:
        """What `release check` says in the candidate's own tree."""
        return await self._commerce("release", "check", tree=self._trees[build_id], build_id=build_id, code=code)

    async def _arrive(self, *builds: str) -> None:
        """Return once enough of the orders that are placed from now on have gone to each of the builds."""
        before = set(self._placed())

        async def have() -> bool:
            new = [order_id for order_id in self._placed() if order_id not in before]
            went = Counter([await self._build_of(order_id) for order_id in new])
            return all(went[build_id] >= self._form.arrive for build_id in builds)

        await until(have, f"{self._form.arrive} new orders to go to {' and '.join(builds)}", UNTIL_DONE_S)

    async def _drained(self, build_id: str) -> None:
        """Bring the parcels of a build's orders home until it has drained, and stop its worker."""
        draining = asyncio.create_task(self._commerce("release", "drain", build_id))
        try:
            async with asyncio.timeout(UNTIL_DONE_S):
                while not draining.done():
                    await self._bring_home(build_id)
                    await asyncio.wait([draining], timeout=1.0)
            await draining
        finally:
            draining.cancel()
        await self._platform.stop_worker(build_id)

    async def _bring_home(self, build_id: str) -> None:
        """Dispatch and deliver what can be of a build's orders."""
        shop = self._trade.shop
        ours = {str(order.order_id) for order in await self._deployment.orders(build_id, 1000)}
        if ours:
            booked = [item async for item in shop.every(shop.warehouse, "/shipments?status=BOOKED") if item["order_id"] in ours]
            # A refusal is fine: an order that is being cancelled has a parcel that may not leave any more.
            await in_parallel(
                lambda item: shop.ask(shop.warehouse, "POST", f"/shipments/{item['shipment_id']}/dispatch"), booked, at_once=8
            )
            await shop.scan_what_left()
            await shop.deliver(*sorted(ours))

    # ── What must be so ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            self._result.problems.append(what)

    def _placed(self) -> list[str]:
        """What the customers have ordered."""
        return [order_id for customer in self._customers for order_id in customer.placed]

    def _of_old(self) -> list[str]:
        return [waiting.order_id for waiting in self._waiting]

    async def _build_of(self, order_id: str) -> str:
        """The build that an order is pinned to; empty before its first task was done."""
        if not self._builds.get(order_id):
            described = (await self._trade.saga(order_id).describe()).raw_description
            self._builds[order_id] = described.workflow_execution_info.versioning_info.deployment_version.build_id
        return self._builds[order_id]

    async def _judge_orders(self) -> None:
        """Whether each order has ended as it should, on the build that it should be on, and was harmed by none."""
        kinds = {waiting.order_id: waiting.state.name for waiting in self._waiting} | self._own
        ends = {waiting.order_id: waiting.state.end for waiting in self._waiting}
        shop = self._trade.shop
        records = {order["order_id"]: order async for order in shop.every(shop.support, "/orders?")}
        self._require(records.keys() >= {*kinds, *self._placed()}, "an order that was placed is not listed")
        for order_id, record in records.items():
            events = await self._events(order_id)
            builds = _builds_in(events)
            first = next(event for event in events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)
            may = {self._old} if order_id in ends else may_get(self._routes, first.event_time.ToDatetime(UTC))
            self._result.orders[" and ".join(sorted(builds)), kinds.get(order_id, "by customers"), record["status"]] += 1
            self._require(record["status"] in FINAL_STATUSES, f"order {order_id} is still {record['status']}")
            self._require(record["status"] == ends.get(order_id, record["status"]), f"order {order_id} ended {record['status']}")
            self._require(len(builds) == 1, f"order {order_id} was on {' and '.join(sorted(builds)) or 'no build'}")
            self._require(builds <= may, f"order {order_id} was on {', '.join(builds)}, and only {', '.join(may)} got new ones")
            self._require(not _harms(events), f"order {order_id}: a task failed, as the code did not fit: {_harms(events)}")

    async def _events(self, order_id: str) -> list[HistoryEvent]:
        """Of all its runs, the first one first."""
        runs = self._trade.temporal.list_workflows(f"WorkflowId = '{order_workflow_id(UUID(order_id))}'")
        found = sorted([run async for run in runs], key=lambda run: run.start_time)
        handles = [self._trade.temporal.get_workflow_handle(run.id, run_id=run.run_id) for run in found]
        return [event for handle in handles for event in (await handle.fetch_history()).events]


def may_get(routes: Sequence[Route], at: datetime) -> frozenset[str]:
    """Builds that may have got a new order then. While one route is changed for the next, that is both."""
    for route in routes:
        if route.since <= at and (route.until is None or at <= route.until):
            return route.builds
    before, after = [route for route in routes if route.since <= at], [route for route in routes if route.since > at]
    return frozenset().union(*(route.builds for route in (*before[-1:], *after[:1])))


def _builds_in(events: Iterable[HistoryEvent]) -> set[str]:
    """The builds that did an order's tasks."""
    done = (event for event in events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    return {event.workflow_task_completed_event_attributes.deployment_version.build_id for event in done}


def _harms(events: Iterable[HistoryEvent]) -> list[str]:
    failed = [event.workflow_task_failed_event_attributes for event in events]
    return [f"{WorkflowTaskFailedCause.Name(it.cause)}: {it.failure.message}" for it in failed if it.cause in HARMS]


def unanswered(calls: Iterable[Call]) -> list[str]:
    """Faults that no repetition of the same request has turned into an answer."""
    calls = list(calls)
    answered = (call for call in calls if call.key and call.status is not None and call.status < 500)
    last = {(call.who, call.key): call.invoked_at for call in in_order(answered)}
    faults = [call for call in calls if call.status is None or call.status >= 500]
    found = [call for call in faults if last.get((call.who, call.key), -1.0) < call.answered_at]
    return [f"a fault, and no retry under the same key: {call}" for call in found]
