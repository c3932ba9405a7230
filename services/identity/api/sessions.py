"""Sessions: logging in and out, and who is logged in where."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, showing
from chassis.origin import ClientOrigin
from chassis.paging import Cursor, Limit
from chassis.tokens import Principal, TokenVerifier, bearer
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api.dependencies import NOT_STORED, REFUSED_TOKENS_RECORDED, Hashing, Issuer, Security
from services.identity.commands import rights, sessions
from services.identity.schemas import (
    LoginRequest,
    LoginTokens,
    LogoutRequest,
    PasswordRequest,
    RefreshRequest,
    SessionView,
    TokenPair,
    UserView,
)

auth = ACCESS.router(prefix="/api/v1/auth", tags=["identity"], dependencies=[NOT_STORED])
users = ACCESS.router(prefix="/api/v1/users", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@auth.post("/login", summary="Log in with e-mail and password")
async def log_in(
    db: Db, passwords: Hashing, issuer: Issuer, security: Security, request: LoginRequest, origin: ClientOrigin
) -> LoginTokens:
    tokens, device_token = await sessions.log_in(
        db,
        passwords,
        issuer,
        security,
        origin,
        email=request.email,
        password=request.password,
        device_token=request.device_token,
    )
    return LoginTokens.of(tokens, device_token=device_token)


@auth.post("/refresh", summary="Exchange a refresh token for the next pair of tokens")
async def refresh(db: Db, issuer: Issuer, security: Security, request: RefreshRequest, origin: ClientOrigin) -> TokenPair:
    return TokenPair.of(await sessions.refresh(db, issuer, security, origin, refresh_token=request.refresh_token))


async def _ending_caller(
    verifier: Annotated[TokenVerifier, from_app(TokenVerifier)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Principal | None:
    """Whose access token it is, also if the session has ended already: logging out twice does no harm. None if it has expired:
    the refresh token may still be good."""
    if credentials is None:
        return None
    try:
        return await verifier.read(credentials.credentials)
    except Refusal as refusal:
        if refusal.code != ErrorCode.UNAUTHENTICATED:
            raise
        return None


@auth.post("/logout", status_code=204, summary="End the session of the access token, or that of a refresh token")
async def log_out(
    db: Db, caller: Annotated[Principal | None, Depends(_ending_caller)], request: LogoutRequest | None = None
) -> None:
    given = request.refresh_token if request is not None else None
    if caller is None and given is None:
        raise Refusal(ErrorCode.UNAUTHENTICATED, "Send a valid access token, or a refresh token.")
    await sessions.log_out(db, caller, given)


@auth.post(
    "/password",
    status_code=204,
    dependencies=[REFUSED_TOKENS_RECORDED],
    summary="Change my password; ends every session of mine, and forgets my devices",
)
async def change_password(
    db: Db,
    passwords: Hashing,
    security: Security,
    caller: Caller,
    request: PasswordRequest,
    origin: ClientOrigin,
    seen: OptionalSeenVersion,
) -> None:
    with showing(UserView.of):
        await sessions.change_password(
            db,
            passwords,
            security,
            caller.principal,
            origin,
            current_password=request.current_password,
            new_password=request.new_password,
            version=seen,
        )


@users.get("/me/sessions", summary="Where I am logged in, newest login first")
async def list_my_sessions(db: Db, caller: Caller, cursor: Cursor = None, limit: Limit = 50) -> Page[SessionView]:
    return await queries.list_sessions(db, caller.subject, caller.principal.session_id, cursor, limit)


@users.delete("/me/sessions", status_code=204, summary="Log out everywhere else")
async def end_my_other_sessions(db: Db, caller: Caller) -> None:
    await sessions.end_others(db, caller.principal)


@users.delete("/me/sessions/{session_id}", status_code=204, summary="End one session of mine")
async def end_my_session(db: Db, caller: Caller, session_id: UUID) -> None:
    await sessions.end_own(db, caller.principal, session_id)


@users.get("/{user_id}/sessions", summary="Where a user is logged in, newest login first")
async def list_sessions(db: Db, caller: Caller, user_id: UUID, cursor: Cursor = None, limit: Limit = 50) -> Page[SessionView]:
    return await queries.list_sessions(db, user_id, caller.principal.session_id, cursor, limit)


@users.delete("/{user_id}/sessions", status_code=204, summary="End every session of a user")
async def end_sessions(db: Db, caller: Caller, user_id: UUID, origin: ClientOrigin) -> None:
    await rights.end_sessions_of(db, user_id, by=caller.principal, origin=origin)


@users.delete("/{user_id}/sessions/{session_id}", status_code=204, summary="End one session of a user")
async def end_session(db: Db, caller: Caller, user_id: UUID, session_id: UUID, origin: ClientOrigin) -> None:
    await rights.end_sessions_of(db, user_id, session_id, by=caller.principal, origin=origin)
