"""An application behind a real socket, in this process: for what only a socket shows, and for who calls from outside."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from embedded.ports import free_port
from tests.conftest import eventually


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are pytest's."""
        yield


@asynccontextmanager
async def served(app: Any, port: int | None = None) -> AsyncIterator[str]:
    """Its URL."""
    port = port or free_port()
    server = _Server(uvicorn.Config(app, port=port, ws="none", log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())

    async def is_up() -> bool:
        return server.started

    await eventually(is_up, what="the server")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving
