"""Who guesses wrong must wait: which counters a try counts against, and how they are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.database import lock
from chassis.origin import Origin
from services.identity.model import PER_ACCOUNT, PER_GUESSER, Device, Limit, LoginGuard


@dataclass(frozen=True)
class Guesses:
    """The counters of one try, by key."""

    limits: Mapping[str, Limit]

    @classmethod
    def at_login(cls, email: str, origin: Origin, device: Device | None) -> Self:
        """A device that logged in before counts for itself: whoever else guesses at this account does not slow it down."""
        if device is not None:
            return cls({f"device {device.device_id}": PER_GUESSER})
        return cls({f"account {email}": PER_ACCOUNT, f"account {email} from {origin.network}": PER_GUESSER})

    @classmethod
    def in_session(cls, session_id: UUID | None) -> Self:
        """Whoever is logged in and gives a wrong password."""
        return cls({f"session {session_id}": PER_GUESSER})

    @classmethod
    def of_client(cls, client_id: str, origin: Origin) -> Self:
        """A process of the platform, or who says so."""
        return cls({f"client {client_id} from {origin.network}": PER_GUESSER})

    async def check(self, session: AsyncSession) -> None:
        """Before anything is computed. Refusal: rate_limited."""
        for key, limit in self.limits.items():
            (await _guard(session, key)).check(limit)

    async def count_failure(self, session: AsyncSession) -> None:
        """The try was wrong. Refusal: rate_limited, if others were faster: then it was no try at all."""
        for guard in await self._locked(session):
            guard.count_failure()
            session.add(guard)

    async def forgive(self, session: AsyncSession) -> None:
        """The try was right, and ends the guesser's own pauses; those of all guessers together go on. Refusal: rate_limited."""
        for guard in await self._locked(session):
            if guard.failures and self.limits[guard.key] is PER_GUESSER:
                await session.delete(guard)

    async def _locked(self, session: AsyncSession) -> list[LoginGuard]:
        """One try at a time, and checked again: many guesses sent at once get no more answers than one after the other."""
        for key in sorted(self.limits):
            await lock(session, key)
        guards = [await _guard(session, key) for key in self.limits]
        for guard in guards:
            guard.check(self.limits[guard.key])
        return guards


async def _guard(session: AsyncSession, key: str) -> LoginGuard:
    return await session.get(LoginGuard, key) or LoginGuard(key=key)
