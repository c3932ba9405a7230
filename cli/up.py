"""`commerce up`: the whole platform on this machine, until Ctrl-C or SIGTERM."""

import asyncio
import signal
from pathlib import Path

from rich.console import Console

from cli.stocking import stock_platform
from contracts.platform import GATEWAY_PORT
from embedded.platform import AlreadyRunning, Platform
from embedded.ports import is_free
from embedded.supervisor import PartFailed

FIXED_PORTS = {"PORT_GATEWAY": str(GATEWAY_PORT), "PORT_TEMPORAL_UI": "8233", "PORT_TEMPORAL": "7233"}
"""Wished for, not insisted on: one that is taken is replaced by a free one."""


async def run_platform(data: Path) -> int:
    """Run until a signal comes; 0 if it stopped cleanly, 1 if a part could not be started."""
    console = Console()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console.print("Starting …")
    try:
        wishes = {name: port for name, port in FIXED_PORTS.items() if is_free(int(port))}
        async with Platform(data, settings=wishes) as platform:
            console.print(f"Up in {platform.up_seconds:.1f} s. Loading the catalogue and the stock …")
            await stock_platform(platform.env, console)
            print(_welcome(platform), flush=True)
            await stop.wait()
            console.print("Stopping …")
    except (PartFailed, AlreadyRunning) as error:
        console.print(f"[red]{error}")
        return 1
    return 0


def _welcome(platform: Platform) -> str:
    env = platform.env
    return f"""
DistributedCommerce is running

  Gateway          {platform.url("gateway")}
  API docs         {platform.url("gateway")}/docs
  Temporal Web UI  {platform.url("temporal_ui")}   with the first user's login, or another one of support or an admin
  Mails            {platform.url("mail_sink")}/messages
  First user       {env["ADMIN_EMAIL"]}   {env["ADMIN_PASSWORD"]}
  temporal CLI     temporal --address {env["TEMPORAL_ADDRESS"]} workflow list
  Logs             {platform.data_dir / "logs"}

Ctrl-C stops everything; the data stay."""
