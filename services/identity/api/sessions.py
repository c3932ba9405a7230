"""Sessions: logging in and out."""

from fastapi import APIRouter

from chassis.dependencies import Db
from chassis.tokens import Caller
from services.identity.api.dependencies import NOT_STORED, Hashing, Issuer
from services.identity.commands import sessions
from services.identity.schemas import LoginRequest, PasswordRequest, RefreshRequest, TokenPair

auth = APIRouter(prefix="/api/v1/auth", tags=["identity"], dependencies=[NOT_STORED])


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
