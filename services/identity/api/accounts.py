"""Accounts: how a person gets one."""

from fastapi import APIRouter

from chassis.dependencies import Db
from services.identity.api.dependencies import NOT_STORED, Hashing
from services.identity.commands import accounts
from services.identity.schemas import RegisterRequest, UserView

auth = APIRouter(prefix="/api/v1/auth", tags=["identity"], dependencies=[NOT_STORED])


@auth.post("/register", status_code=201, summary="Open an account")
async def register(db: Db, passwords: Hashing, request: RegisterRequest) -> UserView:
    return await accounts.register(db, passwords, request)
