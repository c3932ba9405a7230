"""Identity over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from chassis.dependencies import Db
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller, require
from contracts.identity import Role, ServiceToken, ServiceTokenRequest
from contracts.paging import Page
from services.identity import queries
from services.identity.commands import accounts, rights, sessions
from services.identity.passwords import Passwords
from services.identity.schemas import (
    LoginRequest,
    PasswordRequest,
    RefreshRequest,
    RegisterRequest,
    RolesRequest,
    TokenPair,
    UserView,
)
from services.identity.tokens import TokenIssuer

KEYS_MAX_AGE_S = 300


async def _passwords(request: Request) -> Passwords:
    passwords: Passwords = request.app.state.passwords
    return passwords


async def _issuer(request: Request) -> TokenIssuer:
    issuer: TokenIssuer = request.app.state.issuer
    return issuer


async def _not_stored(response: Response) -> None:
    """What holds tokens must not be kept by anything on the way (RFC 6749, 5.1)."""
    response.headers["Cache-Control"] = "no-store"


Hashing = Annotated[Passwords, Depends(_passwords)]
Issuer = Annotated[TokenIssuer, Depends(_issuer)]
IfMatch = Annotated[str, Header(alias="If-Match", pattern=r'^"[0-9]{1,9}"$', description="The ETag of the user as you read it.")]
ADMIN = require(Role.ADMIN)

keys = APIRouter(tags=["identity"])
auth = APIRouter(prefix="/api/v1/auth", tags=["identity"], dependencies=[Depends(_not_stored)])
users = APIRouter(prefix="/api/v1/users", tags=["identity"])
# Its caller has no token yet: the client secret is the proof.
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[Depends(_not_stored)])


@keys.get("/.well-known/jwks.json", summary="The keys that verify access tokens (JWKS)")
async def key_set(issuer: Issuer, response: Response) -> dict[str, list[dict[str, str]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_S}"
    return issuer.jwks


@auth.post("/register", status_code=201, summary="Open an account")
async def register(db: Db, passwords: Hashing, request: RegisterRequest) -> UserView:
    return await accounts.register(db, passwords, request)


@auth.post("/login", summary="Log in with e-mail and password")
async def log_in(db: Db, passwords: Hashing, issuer: Issuer, request: LoginRequest) -> TokenPair:
    return await sessions.log_in(db, passwords, issuer, request)


@auth.post("/refresh", summary="Exchange a refresh token for the next pair of tokens")
async def refresh(db: Db, issuer: Issuer, request: RefreshRequest) -> TokenPair:
    return await sessions.refresh(db, issuer, request)


@auth.post("/logout", status_code=204, summary="End the login that a refresh token belongs to")
async def log_out(db: Db, request: RefreshRequest) -> None:
    await sessions.log_out(db, request)


@auth.post("/password", status_code=204, summary="Change my password; ends every login of mine")
async def change_password(db: Db, passwords: Hashing, caller: Caller, request: PasswordRequest) -> None:
    await sessions.change_password(db, passwords, caller.subject, request)


@users.get("/me", summary="Who I am")
async def get_me(db: Db, caller: Caller, response: Response) -> UserView:
    return _tagged(response, await queries.get_user(db, caller.subject))


@users.get("", dependencies=[ADMIN], summary="List users, oldest first")
async def list_users(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[UserView]:
    return await queries.list_users(db, cursor, limit)


@users.get("/{user_id}", summary="One user: myself, or anybody for support and admins")
async def get_user(db: Db, caller: Caller, user_id: UUID, response: Response) -> UserView:
    if caller.subject != user_id and not caller.roles & {Role.SUPPORT, Role.ADMIN}:
        raise queries.unknown_user()
    return _tagged(response, await queries.get_user(db, user_id))


@users.put("/{user_id}/roles", dependencies=[ADMIN], summary="Set all roles of a user")
async def set_roles(
    db: Db, caller: Caller, user_id: UUID, request: RolesRequest, if_match: IfMatch, response: Response
) -> UserView:
    version = int(if_match.strip('"'))
    return _tagged(response, await rights.set_roles(db, user_id, request.roles, by=caller.subject, version=version))


@internal.post("/service-tokens", summary="A token for a process of the platform")
async def service_token(issuer: Issuer, request: ServiceTokenRequest) -> ServiceToken:
    return issuer.service_token(request)


def _tagged(response: Response, user: UserView) -> UserView:
    response.headers["ETag"] = f'"{user.version}"'
    return user
