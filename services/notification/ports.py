"""What notification needs of identity, who knows addresses, and of the mailbox that mails come back to. What it needs of
providers is in channels.py."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from contracts.accounts import AccountMail


class Directory(Protocol):
    """Where people are reached. Each call raises Unavailable while nobody can say."""

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        """The addresses of those whose address is verified."""

    async def account_mail(self, request_id: UUID) -> AccountMail:
        """Address and link of a mail about an account. Refusal: link_invalid, if it is not wanted any more."""


class Handled(StrEnum):
    """What becomes of a mail in the mailbox of bounces."""

    TAKEN = "taken"
    """It was a report of a mail of ours, and may be deleted."""
    LEFT = "left"
    """It was something else: it stays, for people to look at."""


class Mailbox(Protocol):
    """Where mails come back to."""

    async def read(self, handle: Callable[[bytes], Awaitable[Handled]]) -> int:
        """Hand over the mails that nobody has seen; how many they were. One that cannot be handled stays as it is, with all after
        it, and comes again. Raises Unavailable, and what `handle` raises."""
