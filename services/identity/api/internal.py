"""What processes of the platform ask identity."""

from fastapi import APIRouter, Response

from contracts.identity import ServiceToken, ServiceTokenRequest
from services.identity.api.dependencies import NOT_STORED, Issuer

KEYS_MAX_AGE_S = 300

keys = APIRouter(tags=["identity"])
# Its caller has no token yet: the client secret is the proof.
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[NOT_STORED])


@keys.get("/.well-known/jwks.json", summary="The keys that verify access tokens (JWKS)")
async def key_set(issuer: Issuer, response: Response) -> dict[str, list[dict[str, str]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    return issuer.jwks


@internal.post("/service-tokens", summary="A token for a process of the platform")
async def service_token(issuer: Issuer, request: ServiceTokenRequest) -> ServiceToken:
    return issuer.service_token(request)
