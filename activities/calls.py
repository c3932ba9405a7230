"""What all activities have in common: each class stands for one service, and each of its public methods is an activity."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel

Reply = TypeVar("Reply", bound=BaseModel)


class Calls(Protocol):
    """One service that can be called. `chassis.clients.ServiceClient` is one."""

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Send a command; raises Refusal, or something retryable."""
        ...


class ServiceActivities:
    """Commands to one service."""

    service: ClassVar[str]

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def activities(self) -> list[Callable[..., Awaitable[Any]]]:
        """All of them, for the worker."""
        return [getattr(self, name) for name, _ in inspect.getmembers(type(self), inspect.iscoroutinefunction) if name[0] != "_"]
