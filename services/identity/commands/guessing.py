"""Who guesses wrong must wait: which counters a try counts against, and how they are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from sqlalchemy import ARRAY, String, any_, bindparam
from sqlmodel import col

from chassis.origin import Origin
from chassis.statements import locked
from chassis.store import UnitOfWork
from services.identity.model import PER_ACCOUNT, PER_GUESSER, Limit, LoginGuard, secret_tokens

_GUARDS = locked(LoginGuard, col(LoginGuard.key) == any_(bindparam("keys", type_=ARRAY(String))))


def account_key(email: str) -> str:
    """Of all guesses at an account. Whose address it is need not be readable: it is only to be found again."""
    return f"account {secret_tokens.hash_of(email)}"


def guesser_key(email: str, network: str) -> str:
    """Of the guesses from one network at an account."""
    return f"guesser {secret_tokens.hash_of(f'{email} {network}')}"


@dataclass(frozen=True)
class Guesses:
    """The counters of one try, by key."""

    limits: Mapping[str, Limit]

    @classmethod
    def at_login(cls, email: str, origin: Origin, device_id: UUID | None) -> Self:
        """A device that logged in before counts for itself: whoever else guesses at this account does not slow it down."""
        if device_id is not None:
            return cls({f"device {device_id}": PER_GUESSER})
        return cls({account_key(email): PER_ACCOUNT, guesser_key(email, origin.network): PER_GUESSER})

    @classmethod
    def in_session(cls, session_id: UUID | None) -> Self:
        """Whoever is logged in and gives a wrong password."""
        return cls({f"session {session_id}": PER_GUESSER})

    @classmethod
    def of_client(cls, client_id: str, origin: Origin) -> Self:
        """A process of the platform, or who says so."""
        return cls({f"client {client_id} from {origin.network}": PER_GUESSER})

    async def check(self, work: UnitOfWork) -> None:
        """Before anything is computed. Refusal: rate_limited."""
        for key, limit in self.limits.items():
            if (guard := await work.read(LoginGuard, key)) is not None:
                guard.check(limit)

    async def count_failure(self, work: UnitOfWork) -> None:
        """The try was wrong. Refusal: rate_limited, if others were faster: then it was no try at all.

        One try at a time, and checked again: many guesses sent at once get no more answers than one after the other."""
        for key in sorted(self.limits):
            guard, _ = await work.get_or_add(LoginGuard(key=key))
            guard.check(self.limits[key])
            guard.count_failure()

    async def forgive(self, work: UnitOfWork) -> None:
        """The try was right, and ends the guesser's own pauses; those of all guessers together go on. Refusal: rate_limited."""
        for guard in await work.all(_GUARDS, keys=list(self.limits)):
            guard.check(self.limits[guard.key])
            if self.limits[guard.key] is PER_GUESSER:
                await work.delete(guard)
