"""What every channel has in common: a message goes out by a sender, and its provider may tell later what became of it.

Each channel has an adapter of its own. What it raises says whose fault a failure is: the message's, the address's, or the
provider's; the rules of delivery hang on that alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from chassis.clients import Unavailable

SEND_SECONDS = 30.0
"""The longest that one message takes to send, connecting included."""


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    """Web push, to a browser that the person allowed it in."""
    INBOX = "inbox"
    """In the shop's own pages; nothing is sent."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, whole: nothing is looked up after this."""

    message_id: UUID
    """Ours, the same at every try, so that a second copy can be recognised; in a mail, it begins the Message-ID."""
    channel: Channel
    to: str
    """A mail address, a telephone number (E.164, e.g. `+4930123456`), or a push subscription as the browser's JSON."""
    subject: str
    """One line. An SMS has none; of a push message it is the title."""
    text: str
    html: str | None = None
    """Of a mail, beside `text`, which says the same."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """More headers of a mail, e.g. `List-Unsubscribe`: in ASCII, one line each."""
    url: str | None = None
    """Where a push message leads to when it is touched."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider took the message: that it arrived is told later, or never."""

    provider_id: str | None = None
    """The provider's own name for the message, by which it tells news; None: it has none, and uses ours."""


class Refused(Exception):
    """This message will never be taken. `gone`: nor will any other at this address (a subscription that ended, a number that
    wants nothing from us, a mailbox that does not exist)."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


class Deferred(Exception):
    """This message was not taken, or nobody knows whether it was; it may be sent again later, as the provider wants after
    `retry_after_s` seconds at the earliest. `not_taken`: the provider said so, so that to send it again, however often, makes no
    second copy."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0, not_taken: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s, self.not_taken = retry_after_s, not_taken


class ProviderAway(Unavailable):
    """The provider takes nothing from us at the moment, whatever the message: no fault of any message."""


class Sender(Protocol):
    """A way to one channel's provider."""

    @property
    def channel(self) -> Channel: ...

    async def send(self, message: Message) -> Receipt:
        """Return when the provider has taken the message, within SEND_SECONDS. Raises Refused, Deferred or ProviderAway.

        What is written into an exception is kept and shown to support: no address, no number and no secret belongs there.
        A connection is kept for the next message."""

    async def close(self) -> None:
        """Hang up; the next `send` connects again."""


class DeliveryState(StrEnum):
    """What a provider says later of a message that it took."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    """It did not arrive, and will not."""
    COMPLAINED = "complained"
    """The reader called it unwanted, or asked for no more of it (e.g. STOP)."""
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class DeliveryNews:
    """What a provider tells of a message. Exactly one of `provider_id` and `message_id` says which."""

    id: UUID
    """The same for the same news, however often it comes (e.g. `uuid5` of the provider's name of it)."""
    provider: str
    """Who tells, e.g. `twilio`, `smtp`."""
    channel: Channel
    state: DeliveryState
    occurred_at: datetime
    provider_id: str | None = None
    """As the sender's receipt named it."""
    message_id: UUID | None = None
    """Ours, as `Message.message_id` had it."""
    reason: str | None = None
    """The provider's code and words, without addresses."""
    permanent: bool = True
    """Of a bounce: the address itself is dead, so that nothing more is to be sent there."""


@dataclass(frozen=True, slots=True)
class OptOut:
    """Somebody has answered that nothing more is to be sent to a number (STOP), or that it may be again (START)."""

    id: UUID
    """The same however often it comes."""
    number: str
    """E.164."""
    stops: bool
    reason: str
    """What is kept of it, without the number."""
