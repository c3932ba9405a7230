"""What notification asks identity: where verified customers are reached, and the mails that identity wants sent."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from contracts.base import Contract
from contracts.notifications import NotificationKind

MOST_CONTACTS = 100


class LookUpContacts(Contract):
    """Body of `POST /internal/v1/contacts/lookup`."""

    customer_ids: Annotated[tuple[UUID, ...], Field(max_length=MOST_CONTACTS)]


class Contact(Contract):
    customer_id: UUID
    email: str


class Contacts(Contract):
    """Customers whose address is verified; whoever is missing gets no mail."""

    contacts: tuple[Contact, ...]


class PrepareAccountMail(Contract):
    """Body of `POST /internal/v1/account-mails`. Each call makes a new link, and the one before it worthless.

    Refusal: link_invalid (the mail is not wanted any more, or never was)."""

    request_id: UUID
    """As `AccountMailRequested` told it."""


class AccountMail(Contract):
    """A mail to be sent at once. The link is a secret: it is never stored and never logged."""

    kind: NotificationKind
    email: str
    link: str
