"""`commerce up`: the whole platform on this machine, until Ctrl-C or SIGTERM."""

import asyncio
import signal
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from cli.stocking import stock_platform
from embedded.platform import AlreadyRunning, Platform
from embedded.supervisor import PartFailed

FIXED_PORTS = {"PORT_GATEWAY": "8080", "PORT_TEMPORAL_UI": "8233", "PORT_TEMPORAL": "7233"}
"""Wished for, not insisted on: a port that is taken is replaced by a free one."""


async def run_platform(data: Path) -> int:
    """Run until a signal comes; 0 if it stopped cleanly, 1 if a part could not be started."""
    console = Console()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console.print("Starting …")
    try:
        async with Platform(data) as platform:
            console.print(f"Up in {platform.up_seconds:.1f} s. Loading the catalogue and the stock …")
            await stock_platform(platform.env, console)
            console.print(_welcome(platform))
            await stop.wait()
            console.print("Stopping …")
    except (PartFailed, AlreadyRunning) as error:
        console.print(f"[red]{error}")
        return 1
    return 0


def _welcome(platform: Platform) -> Panel:
    env = platform.env
    return Panel(
        f"Gateway          {platform.url('gateway')}   (docs: {platform.url('gateway')}/docs)\n"
        f"Temporal Web UI  {platform.url('temporal_ui')}\n"
        f"First user       {env['ADMIN_EMAIL']}   {env['ADMIN_PASSWORD']}\n"
        f"temporal CLI     temporal --address {env['TEMPORAL_ADDRESS']} workflow list\n"
        f"Logs             {platform.data_dir / 'logs'}\n\n"
        "Ctrl-C stops everything; the data stay.",
        title="DistributedCommerce is running",
        expand=False,
    )
