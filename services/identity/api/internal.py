"""What processes of the platform ask identity."""

from typing import Annotated

from fastapi import Query, Response

from chassis.dependencies import Db
from chassis.origin import ClientOrigin
from contracts.accounts import AccountMail, Contacts, LookUpContacts, PrepareAccountMail
from contracts.identity import EndedSessionList, ServiceToken, ServiceTokenRequest
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api.dependencies import NOT_STORED, Clients, Issuer, Links, Security, Watch
from services.identity.commands import accounts, clients

KEYS_MAX_AGE_S = 300
LONGEST_WAIT_S = 60

keys = ACCESS.router(tags=["identity"])
# Its callers have no token yet. It is not routed by the gateway.
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"], dependencies=[NOT_STORED])

mails = ACCESS.router(prefix="/internal/v1", tags=["internal"])


@keys.get("/.well-known/jwks.json", summary="The keys that verify access tokens (JWKS)")
async def key_set(issuer: Issuer, response: Response) -> dict[str, list[dict[str, str]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    return issuer.jwks


@internal.post("/service-tokens", summary="A token for a process of the platform")
async def service_token(
    db: Db, issuer: Issuer, security: Security, known: Clients, request: ServiceTokenRequest, origin: ClientOrigin
) -> ServiceToken:
    return await clients.service_token(
        db, issuer, security, known.secrets, origin, client_id=request.client_id, client_secret=request.client_secret
    )


@internal.get("/ended-sessions", summary="Which sessions have ended; ids only, as public within the platform as the keys are")
async def ended_sessions(
    watch: Watch,
    since: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="How long the answer may take while there is none")] = 0,
) -> EndedSessionList:
    return await watch.since(since, wait_s)


@mails.post("/contacts/lookup", summary="Where customers are reached")
async def look_up_contacts(db: Db, request: LookUpContacts) -> Contacts:
    return await queries.contacts(db, request.customer_ids)


@mails.post("/account-mails", summary="The address and the link of a mail that is sent now")
async def prepare_mail(db: Db, links: Links, request: PrepareAccountMail) -> AccountMail:
    return await accounts.prepare_mail(db, links.begin_with, request.request_id)
