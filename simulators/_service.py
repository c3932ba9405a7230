"""What every simulator's process has in common: the gate before its routes, and how it runs."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from simulators._faults import HttpFaults, Switches
from simulators._refusals import LostReply, Refused, Unauthorized, Unavailable
from simulators._requests import read_body

Lifespan = Callable[[object], AbstractAsyncContextManager[None]]


class Simulator:
    """The ASGI application: checks the key, applies the faults, and turns refusals into replies.

    A bare router behind one plain ASGI callable: a framework's middleware would cost more than the work.
    """

    def __init__(self, routes: Sequence[BaseRoute], *, api_key: str | None, switches: Switches, lifespan: Lifespan) -> None:
        self._authorizations = authorizations(api_key) if api_key else ()
        self._faults = switches if isinstance(switches, HttpFaults) else HttpFaults()
        self._router = Router(
            [*routes, Route("/health/live", live), *fault_routes(switches)],
            redirect_slashes=False,
            default=unknown_path,
            lifespan=lifespan,
        )

    def running(self) -> AbstractAsyncContextManager[object]:
        """Its background work and its ledger, for as long as the process (or a test) lives."""
        return self._router.lifespan_context(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        lost, reply = False, self.wrapped(send)
        try:
            self._check_key(scope)
            lost = await self._disturb(scope)
            await self._router(scope, receive, discard if lost else reply)
        except Refused as refusal:
            if not lost:
                await self.answer(refusal)(scope, receive, reply)
        except LostReply:
            lost = True
        if lost:
            await drop_connection(receive, send)

    def wrapped(self, send: Send) -> Send:
        """What every answer goes through."""
        return send

    def answer(self, refusal: Refused) -> Response:
        return refusal.response()

    def is_open(self, path: str) -> bool:
        """Whether anybody may ask for it."""
        return path == "/health/live"

    def _check_key(self, scope: Scope) -> None:
        if not self._authorizations or self.is_open(scope["path"]):
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not any(hmac.compare_digest(given, right) for right in self._authorizations):
            raise Unauthorized

    async def _disturb(self, scope: Scope) -> bool:
        """Apply the faults, and say whether the reply to this request gets lost."""
        if not scope["path"].startswith(("/v1/", "/v2/", "/2010-04-01/", "/push/")):
            return False  # control and health answer even when the company is "down"
        faults = self._faults
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if faults.down:
            raise Unavailable
        if faults.fail_next:
            faults.fail_next -= 1
            raise Unavailable
        if faults.lose_replies_next and scope["method"] == "POST":
            faults.lose_replies_next -= 1
            return True
        return False


def authorizations(api_key: str) -> tuple[bytes, bytes]:
    """The two ways in which such companies take a key: as a token, or as a user's name without a password."""
    return f"Bearer {api_key}".encode(), b"Basic " + base64.b64encode(f"{api_key}:".encode())


async def discard(message: Message) -> None:
    """A `send` that nobody hears."""


async def drop_connection(receive: Receive, send: Send) -> None:
    """Close the socket without a byte of reply.

    ASGI has no word for this, and uvicorn answers 500 for an application that stays silent; its `send` is a
    method of the object that holds the transport. Without one (a test calls the application directly) raise.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise LostReply
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def live(request: Request) -> JSONResponse:
    return JSONResponse({"status": "live"})


async def unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise Refused(404, "not_found", "There is no such resource.")


def fault_routes(switches: Switches) -> list[Route]:
    async def change(request: Request) -> JSONResponse:
        switches.change((await read_body(request)).document)
        return JSONResponse(switches.shown())

    async def show(request: Request) -> JSONResponse:
        return JSONResponse(switches.shown())

    async def reset(request: Request) -> JSONResponse:
        switches.reset()
        return JSONResponse(switches.shown())

    path = "/_control/faults"
    return [
        Route(path, change, methods=["POST"]),
        Route(path, show, methods=["GET"]),
        Route(path, reset, methods=["DELETE"]),
    ]


def required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SystemExit(f"{name} must be set")
    return value


def data_directory(environment: Mapping[str, str]) -> Path:
    return Path(required(environment, "SIMULATOR_DATA_DIR"))


def serve(simulator: Simulator, environment: Mapping[str, str] = os.environ) -> None:
    uvicorn.run(
        simulator,
        host=environment.get("HOST", "127.0.0.1"),
        port=int(required(environment, "PORT")),
        ws="none",
        proxy_headers=False,  # would wrap the application for nothing: nobody proxies a simulator
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
