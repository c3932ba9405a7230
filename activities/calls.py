"""What an activity needs to call a service."""

from typing import Protocol, TypeVar

from pydantic import BaseModel

Reply = TypeVar("Reply", bound=BaseModel)


class Calls(Protocol):
    """One service that can be called. `chassis.clients.ServiceClient` is one."""

    async def post(self, path: str, body: BaseModel, reply: type[Reply]) -> Reply:
        """Send a command; raises Refusal, or something retryable."""
        ...
