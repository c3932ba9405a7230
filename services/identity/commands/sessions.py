"""Sessions: logging in and out, refreshing, and the guard against guessing."""

from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database, lock
from chassis.logs import logger
from contracts.errors import ErrorCode, Refusal
from contracts.events import SessionEnded
from contracts.identity import USER_TOKEN_LASTS
from services.identity.commands.locked import locked_user
from services.identity.model import (
    FAILURE_WINDOW,
    REFRESH_TOKEN_LASTS,
    EndReason,
    LoginGuard,
    Session,
    User,
    outbox,
    secret_tokens,
    wrong_credentials,
)
from services.identity.passwords import Passwords
from services.identity.queries import unknown_user
from services.identity.schemas import LoginRequest, PasswordRequest, RefreshRequest, TokenPair
from services.identity.tokens import TokenIssuer

log = logger(__name__)


async def log_in(database: Database, passwords: Passwords, issuer: TokenIssuer, request: LoginRequest) -> TokenPair:
    """Tokens for an e-mail and its password. Refusals: invalid_credentials, rate_limited."""
    async with database.reading() as session:
        (await _guard(session, request.email)).check()
        seen = (await session.exec(select(User).where(User.email == request.email))).one_or_none()
    kept_hash = await passwords.verify(request.password, seen.password_hash if seen else None)
    if seen is None or kept_hash is None:
        raise await _failure(database, request.email)
    async with database.transaction() as session:
        await _forgive(session, request.email)
        user = await locked_user(session, seen.user_id)
        event = user.log_in(seen.password_hash, kept_hash)
        login = Session(user_id=user.user_id)
        pair = _pair(issuer, user, login)
        session.add(login)
        await outbox.add(session, event)
        return pair


async def refresh(database: Database, issuer: TokenIssuer, request: RefreshRequest) -> TokenPair:
    """The next pair of tokens, with the roles of now. Refusals: unauthenticated; refresh_token_reused, after which no token of
    that login is good: it or its thief must log in again."""
    token = request.refresh_token.get_secret_value()
    async with database.transaction() as session:
        login = await _login_of(session, token)
        if login is None:
            raise invalid_refresh_token()
        if login.is_last(token):
            if not login.is_live:
                raise invalid_refresh_token()
            return _pair(issuer, await session.get_one(User, login.user_id), login)
        await end_sessions(session, col(Session.session_id) == login.session_id, EndReason.REFRESH_TOKEN_REUSED)
    log.warning("refresh_token_reused", user_id=str(login.user_id), session_id=str(login.session_id))
    raise Refusal(ErrorCode.REFRESH_TOKEN_REUSED, "This refresh token was used before; log in again.")


async def log_out(database: Database, request: RefreshRequest) -> None:
    """End one login. Done already, or no such token: nothing to do."""
    async with database.transaction() as session:
        login = await _login_of(session, request.refresh_token.get_secret_value())
        if login is not None:
            await end_sessions(session, col(Session.session_id) == login.session_id, EndReason.LOGGED_OUT)


async def change_password(database: Database, passwords: Passwords, user_id: UUID, request: PasswordRequest) -> None:
    """A new password ends every login. Refusals: invalid_credentials, rate_limited, not_found."""
    async with database.reading() as session:
        seen = await session.get(User, user_id)
        if seen is None:
            raise unknown_user()
        (await _guard(session, seen.email)).check()
    if await passwords.verify(request.current_password, seen.password_hash) is None:
        raise await _failure(database, seen.email)
    new_hash = await passwords.hash(request.new_password)
    async with database.transaction() as session:
        await _forgive(session, seen.email)
        user = await locked_user(session, user_id)
        event = user.change_password(seen.password_hash, new_hash)
        await outbox.add(session, event)
        await end_sessions(session, col(Session.user_id) == user_id, EndReason.PASSWORD_CHANGED)


async def forget_expired(database: Database) -> None:
    """Delete what no longer matters: logins that have expired, failures whose window has passed."""
    async with database.transaction() as session:
        await session.exec(delete(Session).where(col(Session.expires_at) < utc_now()))
        await session.exec(delete(LoginGuard).where(col(LoginGuard.since) < utc_now() - FAILURE_WINDOW))


async def end_sessions(session: AsyncSession, which: ColumnElement[bool], reason: EndReason) -> None:
    """End those that have not ended yet: within a second or so every process refuses their tokens."""
    transaction = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    ended = await session.execute(
        update(Session)
        .where(which, col(Session.ended_at).is_(None))
        .values(ended_at=utc_now(), ended_in=transaction)
        .returning(col(Session.user_id), col(Session.session_id))
        .execution_options(synchronize_session=False)
    )
    events = [SessionEnded(customer_id=user_id, session_id=session_id, reason=reason) for user_id, session_id in ended.all()]
    await outbox.add(session, *events)


async def _login_of(session: AsyncSession, refresh_token: str) -> Session | None:
    session_id = secret_tokens.id_in(refresh_token)
    return await session.get(Session, session_id, with_for_update=True) if session_id else None


def _pair(issuer: TokenIssuer, user: User, login: Session) -> TokenPair:
    return TokenPair(
        access_token=issuer.access_token(user.user_id, user.roles, login.session_id),
        expires_in=int(USER_TOKEN_LASTS.total_seconds()),
        refresh_token=login.next_token(),
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
