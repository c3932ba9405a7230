"""What processes of the platform ask identity."""

from fastapi import APIRouter, Response

from chassis.dependencies import Db
from chassis.tokens import require
from contracts.accounts import AccountMail, Contacts, LookUpContacts, PrepareAccountMail
from contracts.identity import Role, ServiceToken, ServiceTokenRequest
from services.identity import queries
from services.identity.api.dependencies import NOT_STORED, Issuer, PublicUrl
from services.identity.commands import accounts

KEYS_MAX_AGE_S = 300

keys = APIRouter(tags=["identity"])
# Its caller has no token yet: the client secret is the proof.
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[NOT_STORED])

mails = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[NOT_STORED, require(Role.SERVICE)])


@keys.get("/.well-known/jwks.json", summary="The keys that verify access tokens (JWKS)")
async def key_set(issuer: Issuer, response: Response) -> dict[str, list[dict[str, str]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    return issuer.jwks


@internal.post("/service-tokens", summary="A token for a process of the platform")
async def service_token(issuer: Issuer, request: ServiceTokenRequest) -> ServiceToken:
    return issuer.service_token(request)


@mails.post("/contacts/lookup", summary="Where customers are reached")
async def look_up_contacts(db: Db, request: LookUpContacts) -> Contacts:
    return await queries.contacts(db, request.customer_ids)


@mails.post("/account-mails", summary="The address and the link of a mail that is sent now")
async def prepare_mail(db: Db, public_url: PublicUrl, request: PrepareAccountMail) -> AccountMail:
    return await accounts.prepare_mail(db, public_url, request.request_id)
