"""Builds of the worker: their names, their zips, and a platform that goes on with the orders of an earlier one."""

import sys
import zipfile
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console
from temporalio.client import Client

from cli.operators import history_codec
from cli.stocking import stock_platform
from contracts.ids import order_workflow_id
from contracts.orders import OrderStatus
from data.baskets import write_baskets
from embedded.builds import CODE, BuildStore, environment
from embedded.platform import ROOT
from embedded.supervisor import ProcessSpec
from temporal.client import TemporalSettings, connect
from temporal.versions import VersionSettings, tree_build_id
from testing.edited_tree import NEW_STEP, edited_tree
from testing.households import purchase_of
from testing.platform_process import PlatformProcess
from testing.shop import UNHINDERED, open_shop
from testing.stage import small_baskets
from tests.conftest import eventually


def tree(folder: Path) -> Path:
    """A small tree with the saga's packages."""
    for name in ("activities", "chassis", "contracts", "temporal", "workflows"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f'"""{name}"""\n')
    (folder / "worker.py").write_text("print('works')\n")
    return folder


def test_a_build_is_named_after_the_files_that_decide_how_an_order_goes_on(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    assert tree_build_id(one) == tree_build_id(other)
    (other / "workflows" / "__pycache__").mkdir()
    (other / "workflows" / "__pycache__" / "order.cpython-311.pyc").write_bytes(b"compiled")
    (other / "chassis" / "more.py").write_text("")
    assert tree_build_id(one) == tree_build_id(other)
    for file in ("worker.py", "contracts/__init__.py"):
        content = (other / file).read_text()
        (other / file).write_text(f"{content}# edited\n")
        assert tree_build_id(one) != tree_build_id(other)
        (other / file).write_text(content)
    (other / "workflows" / "more.py").write_text("")
    assert tree_build_id(one) != tree_build_id(other)


def test_a_release_names_its_build_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TEMPORAL_WORKER_BUILD_ID", raising=False)
    assert VersionSettings().build_id == tree_build_id(ROOT)
    monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", "1.0.0")
    assert VersionSettings().build_id == "1.0.0"
    for bad in ("a b", "x'", "../up", "-1", "a" * 64):
        monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", bad)
        with pytest.raises(ValueError, match="temporal_worker_build_id"):
            VersionSettings()
    with pytest.raises(RuntimeError, match="TEMPORAL_WORKER_BUILD_ID"):
        tree_build_id(tmp_path / "archive.zip")


def test_the_same_files_make_the_same_zip_and_another_file_another_one(tmp_path: Path) -> None:
    code, store = tree(tmp_path / "code"), BuildStore(tmp_path / "builds")
    first = store.keep(code, "a").read_bytes()
    written = store.path("a").stat().st_mtime_ns
    (code / "worker.py").touch()
    assert store.keep(code, "a").stat().st_mtime_ns == written, "it is not made again"
    assert store.keep(tree(tmp_path / "elsewhere"), "b").read_bytes() == first
    (code / "chassis" / "__init__.py").write_text("# edited\n")
    assert store.keep(code, "a").read_bytes() != first
    assert store.keep(store.path("b"), "1.0.0").read_bytes() == first
    assert store.known() == {"a", "b", "1.0.0"}
    store.drop("b")
    assert store.known() == {"a", "1.0.0"}
    assert store.path("a").stat().st_mode & 0o777 == 0o600


def test_a_zip_is_never_run_by_a_process_that_has_loaded_the_tree(tmp_path: Path) -> None:
    argv = (sys.executable, "-m", "worker")
    assert ProcessSpec(name="worker", argv=argv).can_be_forked
    assert not ProcessSpec(name="worker", argv=argv, env=environment(tmp_path / "a.zip", "a")).can_be_forked


def test_a_zip_has_all_that_a_worker_imports(tmp_path: Path) -> None:
    with zipfile.ZipFile(BuildStore(tmp_path).keep(ROOT, "all")) as archive:
        names = set(archive.namelist())
    assert {"worker.py", "workflows/order.py", "chassis/service.py", "temporal/versions.py"} <= names
    assert {Path(name).parts[0] for name in names} == set(CODE)


async def test_a_platform_whose_tree_was_edited_goes_on_with_the_orders_of_the_tree_before(tmp_path: Path) -> None:
    edited = edited_tree(tmp_path / "edited", NEW_STEP)
    was, will_be = tree_build_id(ROOT), tree_build_id(edited)
    data = tmp_path / "data"
    baskets = small_baskets(3)
    write_baskets(tmp_path / "baskets.csv", baskets)
    first = PlatformProcess(data, settings=UNHINDERED)
    second = PlatformProcess(data, settings=UNHINDERED, tree=edited)
    async with first:
        env = first.running.env
        await stock_platform(env, Console(quiet=True), tmp_path / "baskets.csv")
        async with open_shop(env) as shop:
            customers = {basket.household_id: shop.customer(basket.household_id) for basket in baskets}
            for customer in customers.values():
                await shop.welcome(customer)
            held, cancelled, new = (purchase_of(basket, customers, "builds") for basket in baskets)
            old = (await shop.place(held.paid_with("pm_card_riskLevelElevated"))).order_id
            other = (await shop.place(cancelled.paid_with("pm_card_riskLevelElevated"))).order_id
            await first.kill()

            async with second, history_codec(second.running.env) as codec:
                temporal = await connect(TemporalSettings(temporal_address=second.running.env["TEMPORAL_ADDRESS"]), codec)
                assert f"worker-{was}" in second.running.pids
                assert (await shop.decide(old, "approve", "known customer")).status == 200
                await shop.reaches(old, OrderStatus.CONFIRMED)
                assert (await version(temporal, old), await confirmed(temporal, old)) == (was, "Confirmed")

                latest = (await shop.place(new)).order_id
                await shop.reaches(latest, OrderStatus.CONFIRMED)
                assert (await version(temporal, latest), await confirmed(temporal, latest)) == (
                    will_be,
                    "Confirmed by the edited build",
                )

                for order in (old, other):
                    assert (await shop.cancel(shop.support, order)).status == 200

                async def is_forgotten() -> bool:
                    running = second.running
                    return f"worker-{was}" not in running.pids and not BuildStore(data / "builds").path(was).exists()

                await eventually(is_forgotten, what="the drained build's worker and zip are gone")
                assert (await shop.order(latest))["status"] == OrderStatus.CONFIRMED


async def version(temporal: Client, order_id: str) -> str:
    """The build that an order is pinned to."""
    described = await temporal.get_workflow_handle(order_workflow_id(UUID(order_id))).describe()
    return described.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def confirmed(temporal: Client, order_id: str) -> str:
    """What the order's timeline says of its confirmation: words of the code that did it."""
    timeline: list[dict[str, str]] = await temporal.get_workflow_handle(order_workflow_id(UUID(order_id))).query("timeline")
    return next(entry["what"] for entry in timeline if entry["what"].startswith("Confirmed"))
