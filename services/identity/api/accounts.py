"""Accounts: how a person gets one, proves an address, changes it, and gets back in without the password."""

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.etags import OptionalSeenVersion, showing
from chassis.origin import ClientOrigin
from services.identity.access import ACCESS
from services.identity.api.dependencies import NOT_STORED, REFUSED_TOKENS_RECORDED, Hashing, Issuer, Security
from services.identity.commands import accounts, erasure
from services.identity.schemas import (
    AddressRequest,
    EmailRequest,
    ErasureRequest,
    ErasureView,
    LinkRequest,
    RegisterRequest,
    Registration,
    ResetRequest,
    TokenPair,
    UserView,
)

auth = ACCESS.router(prefix="/api/v1/auth", tags=["identity"], dependencies=[NOT_STORED])
me = ACCESS.router(prefix="/api/v1/users/me", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@auth.post("/register", status_code=201, summary="Open an account, and log in; a mail verifies the address")
async def register(db: Db, passwords: Hashing, issuer: Issuer, request: RegisterRequest, origin: ClientOrigin) -> Registration:
    user, tokens = await accounts.register(
        db, passwords, issuer, origin, email=request.email, password=request.password, name=request.name
    )
    return Registration(user=UserView.of(user), tokens=TokenPair.of(tokens))


@auth.post("/verify-email", status_code=204, summary="Prove the address with the token that was sent there")
async def verify_email(db: Db, request: LinkRequest) -> None:
    await accounts.verify_email(db, request.token.get_secret_value())


@auth.post("/verify-email/resend", status_code=202, summary="Send me the verification mail again")
async def ask_for_verification(db: Db, caller: Caller) -> None:
    await accounts.ask_for_verification(db, caller.subject)


@auth.post("/password-reset", status_code=202, summary="Send a link that resets the password, if the address has an account")
async def ask_for_reset(db: Db, request: AddressRequest) -> None:
    await accounts.ask_for_reset(db, request.email)


@auth.post(
    "/password-reset/confirm", status_code=204, summary="Set a new password with the token that was sent; ends every login"
)
async def reset_password(db: Db, passwords: Hashing, request: ResetRequest, origin: ClientOrigin) -> None:
    await accounts.reset_password(db, passwords, request.token.get_secret_value(), request.new_password, origin)


@me.post("/email", status_code=202, summary="Change my e-mail; links to the old and the new address confirm it")
async def ask_for_email_change(
    db: Db,
    passwords: Hashing,
    security: Security,
    caller: Caller,
    request: EmailRequest,
    origin: ClientOrigin,
    seen: OptionalSeenVersion,
) -> None:
    with showing(UserView.of):
        await accounts.ask_for_email_change(
            db,
            passwords,
            security,
            caller.principal,
            origin,
            email=request.email,
            current_password=request.current_password,
            version=seen,
        )


@me.post("/erasure", status_code=202, summary="End my account and forget me; open orders are finished first")
async def erase_me(
    db: Db,
    passwords: Hashing,
    security: Security,
    caller: Caller,
    request: ErasureRequest,
    origin: ClientOrigin,
) -> ErasureView:
    password = request.current_password
    return ErasureView.of(
        await erasure.erase_oneself(db, passwords, security, caller.principal, origin, current_password=password)
    )
