"""What notification needs of identity, who knows addresses. What it needs of providers is in channels.py."""

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from contracts.accounts import AccountMail


class Directory(Protocol):
    """Where people are reached. Each call raises Unavailable while nobody can say."""

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        """The addresses of those whose address is verified."""

    async def account_mail(self, request_id: UUID) -> AccountMail:
        """Address and link of a mail about an account. Refusal: link_invalid, if it is not wanted any more."""
