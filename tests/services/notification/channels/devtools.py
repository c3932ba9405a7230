"""A Chromium of one's own, driven over its DevTools protocol."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import PATIENCE_S, eventually

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


def chromium() -> str:
    """Its path; skips the test where there is none. CHROMIUM names another one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed: the page for push messages is not tried in a browser")
    return found


class DevToolsError(Exception):
    """What the browser answers to a command that it does not carry out, or what a script threw."""


@dataclass
class DevTools:
    """One connection to the browser; `session` says which page or worker a command is for."""

    socket: aiohttp.ClientWebSocketResponse
    events: list[dict[str, Any]] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _last: int = 0

    async def listen(self) -> None:
        async for message in self.socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            else:
                self.events.append(told)

    async def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        command = {"id": self._last, "method": method, "params": params}
        await self.socket.send_json(command | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(PATIENCE_S):
            told = await answer
        if "error" in told:
            raise DevToolsError(f"{method}: {told['error']}")
        result: dict[str, Any] = told["result"]
        return result

    async def attach(self, kind: str, address: str) -> str:
        """The session of the page or worker at this address, once it is there."""

        async def there() -> bool:
            return bool(await self._targets(kind, address))

        await eventually(there, what=f"a {kind} at {address}")
        target = (await self._targets(kind, address))[0]
        session: str = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        return session

    async def _targets(self, kind: str, address: str) -> list[str]:
        found = (await self.send("Target.getTargets"))["targetInfos"]
        return [each["targetId"] for each in found if each["type"] == kind and each["url"].startswith(address)]

    async def evaluate(self, session: str, script: str) -> Any:
        """The value of a script, awaited if it is a promise."""
        told = await self.send("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise DevToolsError(str(told["exceptionDetails"].get("exception", {}).get("description")))
        return told["result"].get("value")

    def happened(self, method: str) -> list[dict[str, Any]]:
        return [each["params"] for each in self.events if each["method"] == method]


@asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[DevTools]:
    """A new Chromium with a profile of its own."""
    process = await asyncio.create_subprocess_exec(
        chromium(), *OPTIONS, f"--user-data-dir={directory}", "about:blank", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        port = directory / "DevToolsActivePort"

        async def listens() -> bool:
            assert process.returncode is None, "the browser ended"
            return port.exists() and len(port.read_text().split()) == 2

        await eventually(listens, what="the browser")
        number, path = port.read_text().split()
        async with aiohttp.ClientSession() as http, http.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0) as socket:
            tools = DevTools(socket)
            listening = asyncio.create_task(tools.listen())
            yield tools
            with suppress(DevToolsError, TimeoutError, ConnectionError):
                await tools.send("Browser.close")
            listening.cancel()
    finally:
        if process.returncode is None:
            with suppress(TimeoutError, ProcessLookupError):
                async with asyncio.timeout(10):
                    await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
