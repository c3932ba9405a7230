"""The inbox, live: one look a second at the database serves all who listen at this process, whichever process wrote.

Ids rise with time, but a notification may be committed a moment after one with a higher id. So each look begins some seconds
back, and each listener remembers what it was sent."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID

from chassis.access import Grant
from chassis.clients import Unavailable
from chassis.database import Database, is_passing
from chassis.logs import logger
from contracts.errors import ErrorCode, Refusal
from services.notification import figures
from services.notification.model import Notification
from services.notification.queries import inbox as queries
from services.notification.schemas import InboxItem

LOOK_SECONDS = 1.0
LOOK_BACK_SECONDS = 10.0
HEARTBEAT_SECONDS = 15.0
"""Shorter than any proxy on the way waits for a service that says nothing."""
PER_PERSON = 5
IN_ALL = 1000
MOST_AT_ONCE = 500
"""Notifications of one look, and of what somebody missed."""
WAITING_FOR_A_LISTENER = 200
REMEMBERED = 2000
log = logger(__name__)


class _Listener:
    """One open stream."""

    def __init__(self, caller: Grant, last: UUID | None) -> None:
        self.caller, self._last = caller, last
        self.waiting: asyncio.Queue[InboxItem | None] = asyncio.Queue(WAITING_FOR_A_LISTENER)
        """None: the stream ends."""
        self._sent: OrderedDict[UUID, None] = OrderedDict()
        self._has_ended = False

    def is_new(self, notification_id: UUID) -> bool:
        """Whether it was not sent yet; then it counts as sent."""
        if notification_id in self._sent or (self._last is not None and notification_id <= self._last):
            return False
        self._sent[notification_id] = None
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        return True

    def give(self, item: InboxItem) -> None:
        """To one that does not read, nothing more: it comes back and gets what it missed."""
        if self.waiting.full():
            self.end()
        elif not self._has_ended:
            self.waiting.put_nowait(item)

    def end(self) -> None:
        """What still waits is not sent any more."""
        self._has_ended = True
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


class Streams:
    """All open streams of this process."""

    def __init__(self, database: Database, *, lasts_s: float) -> None:
        """`lasts_s`: after so long a stream ends, and its client comes back."""
        self._database, self._lasts_s = database, lasts_s
        self._listeners: dict[UUID, list[_Listener]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def follow(self, caller: Grant, last: UUID | None, is_valid: Callable[[], Awaitable[object]]) -> AsyncIterator[str]:
        """The stream of a caller, beginning after `last`. `is_valid` raises a Refusal once the login has ended. Refusal:
        rate_limited, if the caller has too many open."""
        listener = self._open(caller, last)
        try:
            missed = await queries.since(self._database, caller, last, MOST_AT_ONCE) if last else []
            items = await queries.items_of(self._database, [one for one in missed if listener.is_new(one.notification_id)])
        except BaseException:
            self._close(listener)
            raise
        return self._events(listener, items, is_valid)

    def stop(self) -> None:
        """End all streams: the process stops."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()

    def _open(self, caller: Grant, last: UUID | None) -> _Listener:
        own = self._listeners.get(caller.subject, [])
        if len(own) >= PER_PERSON or sum(map(len, self._listeners.values())) >= IN_ALL:
            raise Refusal(ErrorCode.RATE_LIMITED, "Too many streams are open; close another one.", extra={"retry_after": 10})
        listener = _Listener(caller, last)
        self._listeners[caller.subject] = [*own, listener]
        figures.streams_open.inc()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_ever())
        return listener

    def _close(self, listener: _Listener) -> None:
        others = [one for one in self._listeners.get(listener.caller.subject, []) if one is not listener]
        if others:
            self._listeners[listener.caller.subject] = others
        else:
            self._listeners.pop(listener.caller.subject, None)
        figures.streams_open.dec()

    async def _events(
        self, listener: _Listener, missed: Sequence[InboxItem], is_valid: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[str]:
        try:
            yield "retry: 2000\n\n"
            for one in missed:
                yield _event(one)
            ends_at, said_at = time.monotonic() + self._lasts_s, time.monotonic()
            while (now := time.monotonic()) < ends_at:
                with suppress(Unavailable):
                    await is_valid()
                try:
                    async with asyncio.timeout(min(LOOK_SECONDS, ends_at - now)):
                        item = await listener.waiting.get()
                except TimeoutError:
                    if time.monotonic() - said_at >= HEARTBEAT_SECONDS:
                        said_at = time.monotonic()
                        yield ": still here\n\n"
                    continue
                if item is None:
                    return
                said_at = time.monotonic()
                yield _event(item)
        except Refusal:  # the login has ended, and so does this
            return
        finally:
            self._close(listener)

    async def _look_for_ever(self) -> None:
        """While somebody listens."""
        looked_at = time.time()
        while self._listeners:
            await asyncio.sleep(LOOK_SECONDS)
            began = time.time()
            try:
                await self._look(_least_id(looked_at - LOOK_BACK_SECONDS))
                looked_at = began
            except Exception as error:
                if not is_passing(error):
                    log.error("inbox_look_failed", exc_info=error)

    async def _look(self, after: UUID) -> None:
        found = await queries.all_since(self._database, list(self._listeners), after, MOST_AT_ONCE)
        for_whom: list[tuple[Notification, list[_Listener]]] = []
        for one in found:
            listeners = self._listeners_of(one)
            new = [each for each in listeners if queries.is_for(each.caller, one) and each.is_new(one.notification_id)]
            if new:
                for_whom.append((one, new))
        items = await queries.items_of(self._database, [one for one, _ in for_whom])
        for item, (_, listeners) in zip(items, for_whom, strict=True):
            for listener in listeners:
                listener.give(item)

    def _listeners_of(self, notification: Notification) -> list[_Listener]:
        if notification.customer_id is not None:
            return list(self._listeners.get(notification.customer_id, ()))
        return [listener for listeners in self._listeners.values() for listener in listeners]


def _event(item: InboxItem) -> str:
    return f"event: notification\nid: {item.notification_id}\ndata: {item.model_dump_json()}\n\n"


def _least_id(at: float) -> UUID:
    """The smallest id (UUIDv7) of this moment."""
    return UUID(int=(int(at * 1000) << 80) | (7 << 76) | (2 << 62))
