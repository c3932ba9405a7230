"""Group commit: what is asked for while one transaction runs is done together by the next one.

    reserve = Together(lambda commands: reserve_all(database, commands))
    reservation = await reserve(command)

Whoever comes first waits for nothing. Under load a transaction's round trips, its locks and its commit are shared by as many as
came meanwhile; so a row that everybody wants is locked once for all of them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

LARGEST = 64
Command = TypeVar("Command")
Reply = TypeVar("Reply")


class Together(Generic[Command, Reply]):
    """Asks `do` for one reply or exception for each command, in their order; what it raises itself everybody gets."""

    def __init__(self, do: Callable[[Sequence[Command]], Awaitable[Sequence[Reply | Exception]]], largest: int = LARGEST) -> None:
        self._do, self._largest = do, largest
        self._waiting: deque[tuple[Command, asyncio.Future[Reply]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, command: Command) -> Reply:
        """The command's own reply; raises its own exception. Who stops waiting stops nobody, and perhaps not the command."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, reply))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await reply

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._largest))]
                await self._do_batch([item for item in batch if not item[1].done()])
        finally:
            self._running = None
            while self._waiting:  # only if the process stops
                self._waiting.popleft()[1].cancel()

    async def _do_batch(self, batch: Sequence[tuple[Command, asyncio.Future[Reply]]]) -> None:
        if not batch:
            return
        try:
            replies = await self._do([command for command, _ in batch])
        except Exception as error:
            replies = [error] * len(batch)
        except asyncio.CancelledError:
            for _, waiting in batch:
                waiting.cancel()
            raise
        for (_, waiting), reply in zip(batch, replies, strict=True):
            if waiting.done():
                continue
            if isinstance(reply, Exception):
                waiting.set_exception(reply)
            else:
                waiting.set_result(reply)
