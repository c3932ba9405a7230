"""Addresses from identity."""

from collections.abc import Collection, Mapping
from uuid import UUID

from chassis.clients import ServiceClient
from contracts.accounts import AccountMail, Contacts, LookUpContacts, PrepareAccountMail


class IdentityDirectory:
    """Asks identity; nothing is kept here."""

    def __init__(self, identity: ServiceClient) -> None:
        self._identity = identity

    async def verified(self, customer_ids: Collection[UUID]) -> Mapping[UUID, str]:
        request = LookUpContacts(customer_ids=tuple(customer_ids))
        found = await self._identity.post("/internal/v1/contacts/lookup", request, Contacts)
        return {contact.customer_id: contact.email for contact in found.contacts}

    async def account_mail(self, request_id: UUID) -> AccountMail:
        request = PrepareAccountMail(request_id=request_id)
        return await self._identity.post("/internal/v1/account-mails", request, AccountMail)
