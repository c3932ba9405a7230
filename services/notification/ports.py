"""What notification needs of the world outside: somebody who takes mails."""

from dataclasses import dataclass
from typing import Protocol


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


class MailServerAway(Exception):
    """The mail server takes nothing from us at the moment, whatever the mail."""


class Mailer(Protocol):
    """A way to the mail server."""

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail. Raises MailRefused, MailDeferred or MailServerAway.

        The connection is kept for the next one."""

    async def close(self) -> None:
        """Hang up; the next `send` connects again."""
