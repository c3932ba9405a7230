"""Sessions: logging in and out, refreshing, and the guard against guessing."""

from uuid import UUID

from pydantic import SecretStr
from sqlmodel import col, delete, update
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database, lock
from chassis.logs import logger
from contracts.errors import ErrorCode, Refusal
from services.identity.commands.locked import locked_user
from services.identity.model import (
    FAILURE_WINDOW,
    REFRESH_TOKEN_LASTS,
    LoginGuard,
    RefreshFamily,
    User,
    outbox,
    wrong_credentials,
)
from services.identity.passwords import Passwords, require_strong
from services.identity.queries import holder_of, unknown_user
from services.identity.schemas import LoginRequest, PasswordRequest, RefreshRequest, TokenPair
from services.identity.tokens import USER_TOKEN_LASTS, TokenIssuer

log = logger(__name__)


async def log_in(database: Database, passwords: Passwords, issuer: TokenIssuer, request: LoginRequest) -> TokenPair:
    """Tokens for an e-mail and its password. Refusals: invalid_credentials, rate_limited."""
    async with database.reading() as session:
        (await _guard(session, request.email)).check()
        seen = await holder_of(session, request.email)
    kept_hash = await passwords.verify(request.password, seen.password_hash if seen else None)
    if seen is None or kept_hash is None:
        raise await _failure(database, request.email)
    async with database.transaction() as session:
        await _forgive(session, request.email)
        user = await locked_user(session, seen.user_id)
        event = user.log_in(seen.password_hash, kept_hash)
        await outbox.add(session, event)
        return open_session(session, issuer, user)


def open_session(session: AsyncSession, issuer: TokenIssuer, user: User) -> TokenPair:
    """The first tokens of a new login."""
    family = RefreshFamily(user_id=user.user_id)
    session.add(family)
    return _pair(issuer, user, family)


async def end_sessions(session: AsyncSession, user_id: UUID) -> None:
    """No login of the user is good any more."""
    open_families = (col(RefreshFamily.user_id) == user_id) & col(RefreshFamily.revoked_at).is_(None)
    await session.exec(update(RefreshFamily).where(open_families).values(revoked_at=utc_now()))


async def refresh(database: Database, issuer: TokenIssuer, request: RefreshRequest) -> TokenPair:
    """The next pair of tokens, with the roles of now. Refusals: unauthenticated; refresh_token_reused, after which no token of
    that login is good: it or its thief must log in again."""
    token = request.refresh_token.get_secret_value()
    async with database.transaction() as session:
        family = await _family(session, token)
        if family is None:
            raise invalid_refresh_token()
        if family.is_last(token):
            if not family.is_live:
                raise invalid_refresh_token()
            return _pair(issuer, await session.get_one(User, family.user_id), family)
        family.revoke()
    log.warning("refresh_token_reused", user_id=str(family.user_id), family_id=str(family.family_id))
    raise Refusal(ErrorCode.REFRESH_TOKEN_REUSED, "This refresh token was used before; log in again.")


async def log_out(database: Database, request: RefreshRequest) -> None:
    """End one login. Done already, or no such token: nothing to do."""
    async with database.transaction() as session:
        family = await _family(session, request.refresh_token.get_secret_value())
        if family is not None:
            family.revoke()


async def change_password(database: Database, passwords: Passwords, user_id: UUID, request: PasswordRequest) -> None:
    """A new password ends every login. Refusals: validation_failed, invalid_credentials, rate_limited, not_found."""
    seen = await prove_password(database, passwords, user_id, request.current_password)
    require_strong(request.new_password, email=seen.email, name=seen.name, field="new_password")
    new_hash = await passwords.hash(request.new_password)
    async with database.transaction() as session:
        await _forgive(session, seen.email)
        user = await locked_user(session, user_id)
        event = user.change_password(seen.password_hash, new_hash)
        await end_sessions(session, user_id)
        await outbox.add(session, event)


async def prove_password(database: Database, passwords: Passwords, user_id: UUID, password: SecretStr) -> User:
    """The user as the password was checked. Refusals: invalid_credentials, rate_limited, not_found."""
    async with database.reading() as session:
        seen = await session.get(User, user_id)
        if seen is None:
            raise unknown_user()
        (await _guard(session, seen.email)).check()
    if await passwords.verify(password, seen.password_hash) is None:
        raise await _failure(database, seen.email)
    return seen


async def forget_expired(database: Database) -> None:
    """Delete what no longer matters: logins that have expired, failures whose window has passed."""
    async with database.transaction() as session:
        await session.exec(delete(RefreshFamily).where(col(RefreshFamily.expires_at) < utc_now()))
        await session.exec(delete(LoginGuard).where(col(LoginGuard.since) < utc_now() - FAILURE_WINDOW))


async def _family(session: AsyncSession, token: str) -> RefreshFamily | None:
    family_id = RefreshFamily.id_in(token)
    return await session.get(RefreshFamily, family_id, with_for_update=True) if family_id else None


def _pair(issuer: TokenIssuer, user: User, family: RefreshFamily) -> TokenPair:
    return TokenPair(
        access_token=issuer.access_token(user.user_id, user.roles),
        expires_in=int(USER_TOKEN_LASTS.total_seconds()),
        refresh_token=family.next_token(),
        refresh_expires_in=int(REFRESH_TOKEN_LASTS.total_seconds()),
    )


async def _guard(session: AsyncSession, email: str) -> LoginGuard:
    return await session.get(LoginGuard, email) or LoginGuard(email=email)


async def _locked_guard(session: AsyncSession, email: str) -> LoginGuard:
    """Asked again after the hashing, one login at a time: many guesses sent at once get no more answers than ten."""
    await lock(session, f"login {email}")
    guard = await _guard(session, email)
    guard.check()
    return guard


async def _failure(database: Database, email: str) -> Refusal:
    """Count a failed login; what to answer. Refusal: rate_limited."""
    async with database.transaction() as session:
        guard = await _locked_guard(session, email)
        guard.count_failure()
        session.add(guard)
    return wrong_credentials()


async def _forgive(session: AsyncSession, email: str) -> None:
    """A login that succeeded forgets the failures before it. Refusal: rate_limited."""
    guard = await _locked_guard(session, email)
    if guard.failures:
        await session.delete(guard)


def invalid_refresh_token() -> Refusal:
    return Refusal(ErrorCode.UNAUTHENTICATED, "The refresh token is not valid, or no longer.")
