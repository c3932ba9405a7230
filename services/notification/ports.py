"""What notification needs of others: identity, who knows addresses, and somebody who takes mails."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chassis.clients import Unavailable
from contracts.accounts import AccountMail

SEND_SECONDS = 30.0
"""The longest that one mail takes to send, connecting included."""


@dataclass(frozen=True)
class Mail:
    message_id: str
    """The part before the @."""
    to: str
    subject: str
    body: str


class MailRefused(Exception):
    """This mail will never be taken."""


class MailDeferred(Exception):
    """This mail was not taken, or nobody knows whether it was; it may be sent again later."""


class MailServerAway(Unavailable):
    """The mail server takes nothing from us at the moment, whatever the mail."""


class Mailer(Protocol):
    """A way to the mail server."""

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail. Raises MailRefused, MailDeferred or MailServerAway.

        The connection is kept for the next one."""

    async def close(self) -> None:
        """Hang up; the next `send` connects again."""


class Directory(Protocol):
    """Where people are reached. Each call raises Unavailable while nobody can say."""

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        """The addresses of those whose address is verified."""

    async def account_mail(self, request_id: UUID) -> AccountMail:
        """Address and link of a mail about an account. Refusal: link_invalid, if it is not wanted any more."""
