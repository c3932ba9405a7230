"""`commerce demo`: from an empty directory to audited books, and everything stopped at the end."""

import asyncio
import shutil
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from audit import AuditSettings, run_audit
from cli.client import ApiProblem
from cli.demo import report
from cli.demo.baskets import BadBaskets, Chosen, choose
from cli.demo.play import Played, play, progress_on
from cli.stocking import stock_platform
from data.baskets import BadRow
from embedded.platform import AlreadyRunning, Platform, find_running
from embedded.supervisor import PartFailed, cancelled_by_sigterm
from testing.checker import check, summary
from testing.histories import History
from testing.shop import UNHINDERED, Shop, open_shop

SETTINGS = {
    **UNHINDERED,
    "PAY_AGAIN_SECONDS": "20",
    "ACTION_SECONDS": "40",
    "REVIEW_DEADLINE_SECONDS": "20",
    "PLACE_WAIT_SECONDS": "25",
    "BANK_POLL_SECONDS": "1",
}
WORTH_A_LOOK = ("parcel lost", "fourth try", "lost reply", "review: approved")
AUDIT_WAITS_S = 120.0


class NotOurs(RuntimeError):
    """The directory holds something else than an earlier demo."""


async def run_demo(baskets: Path | None, data: Path, orders: int, keep: bool) -> int:
    """0 if every order ended as expected and the audit found nothing; 1 if not; 130 if it was stopped."""
    console, began = Console(), time.monotonic()
    try:
        async with cancelled_by_sigterm():
            chosen = choose(baskets, orders)
            _make_room(data, keep)
            good = await _demo(console, chosen, baskets, data)
    except (BadBaskets, BadRow, NotOurs, OSError, PartFailed, AlreadyRunning, ApiProblem) as error:
        console.print(f"[red]{escape(str(error))}")
        return 1
    except asyncio.CancelledError:
        console.print("Stopped.")
        return 130
    console.print(f"Took {time.monotonic() - began:.0f} s; everything is stopped. To look around: commerce up --data {data}")
    return 0 if good else 1


async def _demo(console: Console, chosen: list[Chosen], baskets: Path | None, data: Path) -> bool:
    console.print(report.rules(chosen))
    console.print("Starting the platform …")
    async with Platform(data, settings=SETTINGS) as platform:
        console.print(f"Up in {platform.up_seconds:.1f} s. Temporal Web UI: {platform.url('temporal_ui')}")
        history = History()
        await stock_platform(platform.env, console, baskets, history)
        async with open_shop(platform.env, history) as shop:
            with progress_on(console) as progress:
                played = await play(shop, chosen, progress, run=f"demo-{time.time():.0f}")
            console.print(report.outcomes(played))
            console.print(report.comparison(played))
            console.print(report.sums(played))
            await _tell_of_one(shop, played, console)
        kept = _promises_kept(history, data / "client-history.jsonl", console)
        clean = await _audit(platform, console)
        console.print("Stopping …")
    return kept and clean and all(one.as_expected for one in played)


async def _tell_of_one(shop: Shop, played: list[Played], console: Console) -> None:
    by_name = {one.scenario.name: one for one in reversed(played) if one.order_id}
    one = next((by_name[name] for name in WORTH_A_LOOK if name in by_name), next(iter(by_name.values()), None))
    if one is not None:
        told = await shop.call(shop.support, "GET", f"/orders/{one.order_id}/timeline")
        console.print(report.timeline(await shop.order(one.order_id), told["entries"]))


def _make_room(data: Path, keep: bool) -> None:
    """Remove what an earlier demo left, unless it is to be kept. Raises AlreadyRunning, NotOurs."""
    if keep or not data.exists() or not any(data.iterdir()):
        return
    if not (data / "secrets.json").exists():
        raise NotOurs(f"{data} has other things in it, which are not removed. Name another directory with --data.")
    if find_running(data):
        raise AlreadyRunning(f"a platform runs on {data} already")
    shutil.rmtree(data)


def _promises_kept(history: History, file: Path, console: Console) -> bool:
    """Whether what clients were told fits together; what does not is printed. The history stays in `file`."""
    history.write(file)
    broken = check(history.calls)
    console.print(summary(history.calls, broken))
    for violation in broken:
        console.print(f"[red]{escape(str(violation))}")
    return not broken


async def _audit(platform: Platform, console: Console) -> bool:
    console.print("Comparing all books …")
    found = await run_audit(AuditSettings.of(platform.env), wait_s=AUDIT_WAITS_S)
    found.print(console)
    return found.exit_code == 0
