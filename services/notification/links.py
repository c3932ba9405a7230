"""Where messages lead: to an order's page, and by links that need no login. Who has one of these may unsubscribe the person that
it names, from what it names, and nothing else."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts.errors import ErrorCode, Refusal
from services.notification.channels import Channel
from services.notification.kinds import Group

PATH = "/api/v1/notifications/unsubscribe"
LONGEST_TOKEN = 200
_SIGNATURE = 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Unsubscribing:
    """What a link is for."""

    person_id: UUID
    group: Group
    channel: Channel


class Links:
    """Makes and reads them. The first secret signs; what an older one has signed is still good, since mails are kept for long."""

    def __init__(self, public_url: str, secrets: Sequence[bytes], order_page: str | None = None) -> None:
        """`order_page`: where customers look at an order, with `{order_id}` in it; None: the shop has no such page."""
        self._public_url, self._secrets, self._order_page = public_url.rstrip("/"), tuple(secrets), order_page

    @property
    def secret(self) -> bytes:
        """The one that is used now."""
        return self._secrets[0]

    def unsubscribe_url(self, what: Unsubscribing) -> str:
        content = what.person_id.bytes + f"{what.group}/{what.channel}".encode()
        return f"{self._public_url}{PATH}?token={_text(content + _signature(self.secret, content))}"

    def order_url(self, order_id: str) -> str | None:
        """Where a customer looks at the order."""
        return self._order_page.replace("{order_id}", order_id) if self._order_page else None

    def read(self, token: str) -> Unsubscribing:
        """What a link is for. Refusal: link_invalid."""
        try:
            found = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            content, signature = found[:-_SIGNATURE], found[-_SIGNATURE:]
            genuine = [hmac.compare_digest(_signature(secret, content), signature) for secret in self._secrets]
            if not any(genuine):
                raise ValueError("nobody of us has signed it")
            group, _, channel = content[16:].decode().partition("/")
            return Unsubscribing(UUID(bytes=content[:16]), Group(group), Channel(channel))
        except ValueError as error:
            raise Refusal(ErrorCode.LINK_INVALID, "This link is not one of ours. Is it complete?") from error


def _signature(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, b"unsubscribe:" + content, "sha256")[:_SIGNATURE]


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
