"""Sessions: logging in and out, and who is logged in where."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials

from chassis.dependencies import Db
from chassis.origin import From
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller, Principal, TokenVerifier, bearer
from contracts.errors import ErrorCode, Refusal
from contracts.paging import Page
from services.identity import queries
from services.identity.api.dependencies import ADMIN, NOT_STORED, REFUSED_TOKENS_RECORDED, Hashing, Issuer, Security
from services.identity.commands import rights, sessions
from services.identity.schemas import (
    LoginRequest,
    LoginTokens,
    LogoutRequest,
    PasswordRequest,
    RefreshRequest,
    SessionView,
    TokenPair,
)

auth = APIRouter(prefix="/api/v1/auth", tags=["identity"], dependencies=[NOT_STORED])
users = APIRouter(prefix="/api/v1/users", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@auth.post("/login", summary="Log in with e-mail and password")
async def log_in(
    db: Db, passwords: Hashing, issuer: Issuer, security: Security, request: LoginRequest, origin: From
) -> LoginTokens:
    return await sessions.log_in(db, passwords, issuer, security, request, origin)


@auth.post("/refresh", summary="Exchange a refresh token for the next pair of tokens")
async def refresh(db: Db, issuer: Issuer, security: Security, request: RefreshRequest, origin: From) -> TokenPair:
    return await sessions.refresh(db, issuer, security, request, origin)


async def _ending_caller(
    http: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Principal | None:
    """Whose access token it is, also if the session has ended already: logging out twice does no harm. None if it has expired:
    the refresh token may still be good."""
    if credentials is None:
        return None
    verifier: TokenVerifier = http.app.state.verifier
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
    db: Db, passwords: Hashing, security: Security, caller: Caller, request: PasswordRequest, origin: From
) -> None:
    await sessions.change_password(db, passwords, security, caller, request, origin)


@users.get("/me/sessions", summary="Where I am logged in, newest login first")
async def list_my_sessions(db: Db, caller: Caller, cursor: Cursor = None, limit: Limit = 50) -> Page[SessionView]:
    return await queries.list_sessions(db, caller.subject, caller.session_id, cursor, limit)


@users.delete("/me/sessions", status_code=204, summary="Log out everywhere else")
async def end_my_other_sessions(db: Db, caller: Caller) -> None:
    await sessions.end_others(db, caller)


@users.delete("/me/sessions/{session_id}", status_code=204, summary="End one session of mine")
async def end_my_session(db: Db, caller: Caller, session_id: UUID) -> None:
    await sessions.end_own(db, caller, session_id)


@users.get("/{user_id}/sessions", dependencies=[ADMIN], summary="Where a user is logged in, newest login first")
async def list_sessions(db: Db, caller: Caller, user_id: UUID, cursor: Cursor = None, limit: Limit = 50) -> Page[SessionView]:
    return await queries.list_sessions(db, user_id, caller.session_id, cursor, limit)


@users.delete("/{user_id}/sessions", status_code=204, dependencies=[ADMIN], summary="End every session of a user")
async def end_sessions(db: Db, caller: Caller, user_id: UUID, origin: From) -> None:
    await rights.end_sessions_of(db, user_id, by=caller, origin=origin)


@users.delete("/{user_id}/sessions/{session_id}", status_code=204, dependencies=[ADMIN], summary="End one session of a user")
async def end_session(db: Db, caller: Caller, user_id: UUID, session_id: UUID, origin: From) -> None:
    await rights.end_sessions_of(db, user_id, session_id, by=caller, origin=origin)
