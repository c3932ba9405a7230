"""Sessions: logging in and out, refreshing, ending others of one's own."""

from datetime import timedelta
from uuid import UUID

from pydantic import SecretStr
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database
from chassis.origin import Origin
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from services.identity.commands.ending import end_sessions, end_sessions_and_forget_devices
from services.identity.commands.guessing import Guesses
from services.identity.commands.security import SecurityLog
from services.identity.commands.users import holder_of, locked_user
from services.identity.model import (
    DEVICES_KEPT,
    FORGOTTEN_AFTER,
    Device,
    EndReason,
    LoginGuard,
    SecurityEvent,
    SecurityRecord,
    Session,
    User,
    outbox,
    secret_tokens,
    unknown_user,
    wrong_credentials,
)
from services.identity.passwords import Passwords, require_strong
from services.identity.tokens import TokenIssuer, Tokens


async def log_in(
    database: Database,
    passwords: Passwords,
    issuer: TokenIssuer,
    security: SecurityLog,
    origin: Origin,
    *,
    email: str,
    password: SecretStr,
    device_token: SecretStr | None = None,
) -> tuple[Tokens, str]:
    """Tokens for an e-mail and its password, and the one by which the device is known from now on.

    Refusals: invalid_credentials, account_disabled (only after the right password), rate_limited."""
    async with database.reading() as session:
        seen = await holder_of(session, email)
        device = await _known_device(session, email, device_token)
        guesses = Guesses.at_login(email, origin, device)
        await guesses.check(session)
    kept_hash = await passwords.verify(password, seen.password_hash if seen else None)
    if seen is None or kept_hash is None:
        async with database.transaction() as session:
            await guesses.count_failure(session)
            user_id = seen.user_id if seen else None
            security.add(session, SecurityEvent.LOGIN_FAILED, origin, account=email, user_id=user_id)
        raise wrong_credentials()
    try:
        async with database.transaction() as session:
            await guesses.forgive(session)
            user = await locked_user(session, seen.user_id)
            event = user.log_in(seen.password_hash, kept_hash)
            pair = open_session(session, issuer, user, origin)
            await outbox.add(session, event)
            return pair, await _remember(session, user, device, device_token)
    except Refusal as refusal:
        if refusal.code == ErrorCode.ACCOUNT_DISABLED:
            async with database.transaction() as session:
                kind, detail = SecurityEvent.LOGIN_FAILED, refusal.code
                security.add(session, kind, origin, account=email, user_id=seen.user_id, detail=detail)
        raise


def open_session(session: AsyncSession, issuer: TokenIssuer, user: User, origin: Origin) -> Tokens:
    """The first tokens of a new login."""
    login = Session(user_id=user.user_id, device=origin.device)
    session.add(login)
    return _pair(issuer, user, login, login.first_token())


async def refresh(
    database: Database, issuer: TokenIssuer, security: SecurityLog, origin: Origin, *, refresh_token: SecretStr
) -> Tokens:
    """The next pair of tokens. Refusals: unauthenticated; refresh_token_reused, after which no token of that login is good: it or
    its thief must log in again."""
    token = refresh_token.get_secret_value()
    async with database.transaction() as session:
        login = await _login_of(session, token)
        if login is not None and login.is_live and login.is_last(token):
            user = await session.get_one(User, login.user_id)
            return _pair(issuer, user, login, login.next_token(token))
        user_id = login.user_id if login else None
        if login is None or login.is_last(token):
            refusal = Refusal(ErrorCode.UNAUTHENTICATED, "The refresh token is not valid, or no longer.")
            security.add(session, SecurityEvent.REFRESH_TOKEN_REFUSED, origin, user_id=user_id)
        else:
            refusal = Refusal(ErrorCode.REFRESH_TOKEN_REUSED, "This refresh token was used before; log in again.")
            await end_sessions(session, col(Session.session_id) == login.session_id, EndReason.REFRESH_TOKEN_REUSED)
            security.add(session, SecurityEvent.REFRESH_TOKEN_REUSED, origin, user_id=user_id)
    raise refusal


async def log_out(database: Database, caller: Principal | None, refresh_token: SecretStr | None) -> None:
    """End the session of an access token, and that of a refresh token. Ended already, or no such token: nothing to do."""
    async with database.transaction() as session:
        if caller is not None:
            await end_sessions(session, col(Session.session_id) == caller.session_id, EndReason.LOGGED_OUT)
        login = await _login_of(session, refresh_token.get_secret_value()) if refresh_token else None
        if login is not None:
            await end_sessions(session, col(Session.session_id) == login.session_id, EndReason.LOGGED_OUT)


async def end_own(database: Database, caller: Principal, session_id: UUID) -> None:
    """End one session of the caller. Ended already: nothing to do. Refusal: not_found."""
    async with database.transaction() as session:
        login = await session.get(Session, session_id)
        if login is None or login.user_id != caller.subject:
            raise Refusal(ErrorCode.NOT_FOUND, "You have no such session.")
        await end_sessions(session, col(Session.session_id) == session_id, EndReason.ENDED_BY_OWNER)


async def end_others(database: Database, caller: Principal) -> None:
    """End every session of the caller but the one that asks."""
    async with database.transaction() as session:
        await locked_user(session, caller.subject)
        others = (col(Session.user_id) == caller.subject) & (col(Session.session_id) != caller.session_id)
        await end_sessions(session, others, EndReason.ENDED_BY_OWNER)


async def change_password(
    database: Database,
    passwords: Passwords,
    security: SecurityLog,
    caller: Principal,
    origin: Origin,
    *,
    current_password: SecretStr,
    new_password: SecretStr,
) -> None:
    """A new password ends every session. Refusals: validation_failed, invalid_credentials, rate_limited, not_found."""
    seen = await prove_password(database, passwords, security, caller, current_password, origin)
    require_strong(new_password, email=seen.email, name=seen.name, field="new_password")
    new_hash = await passwords.hash(new_password)
    async with database.transaction() as session:
        await Guesses.in_session(caller.session_id).forgive(session)
        user = await locked_user(session, caller.subject)
        await outbox.add(session, user.change_password(seen.password_hash, new_hash))
        await end_sessions_and_forget_devices(session, user.user_id)
        kind = SecurityEvent.PASSWORD_CHANGED
        session.add(SecurityRecord(kind=kind, account=user.email, user_id=user.user_id, address=origin.address))


async def prove_password(
    database: Database, passwords: Passwords, security: SecurityLog, caller: Principal, password: SecretStr, origin: Origin
) -> User:
    """The caller as the password was checked; who then succeeds is forgiven (`Guesses.in_session`).

    Refusals: invalid_credentials, rate_limited, not_found."""
    guesses = Guesses.in_session(caller.session_id)
    async with database.reading() as session:
        await guesses.check(session)
        seen = await session.get(User, caller.subject)
        if seen is None:
            raise unknown_user()
    if await passwords.verify(password, seen.password_hash) is None:
        async with database.transaction() as session:
            await guesses.count_failure(session)
            security.add(session, SecurityEvent.PASSWORD_REFUSED, origin, account=seen.email, user_id=seen.user_id)
        raise wrong_credentials()
    return seen


async def forget_expired(database: Database, log_retention: timedelta) -> None:
    """Delete what no longer matters: logins that have expired, failures long past, old records of the security log."""
    now = utc_now()
    async with database.transaction() as session:
        await session.exec(delete(Session).where(col(Session.expires_at) < now))
        await session.exec(delete(LoginGuard).where(col(LoginGuard.failed_at) < now - FORGOTTEN_AFTER))
        await session.exec(delete(SecurityRecord).where(col(SecurityRecord.at) < now - log_retention))


async def _known_device(session: AsyncSession, email: str, device_token: SecretStr | None) -> Device | None:
    """The device that proves to have logged in to this account before."""
    token = device_token.get_secret_value() if device_token else ""
    query = select(Device).join(User).where(Device.device_id == secret_tokens.id_in(token), User.email == email)
    device = (await session.exec(query)).one_or_none() if token else None
    return device if device is not None and secret_tokens.fits(token, device.token_hash) else None


async def _remember(session: AsyncSession, user: User, known: Device | None, given: SecretStr | None) -> str:
    """The token of the device that just logged in: the one it has, or a new one; then the one unused for longest is forgotten."""
    if known is not None and given is not None:
        kept = update(Device).where(col(Device.device_id) == known.device_id).values(last_used_at=utc_now())
        if (await session.exec(kept)).rowcount:
            return given.get_secret_value()
    device = Device(user_id=user.user_id)
    token = device.new_token()
    session.add(device)
    await session.flush()
    used_last = select(Device.device_id).where(Device.user_id == user.user_id).order_by(col(Device.last_used_at).desc())
    surplus = col(Device.device_id).in_(used_last.offset(DEVICES_KEPT))
    await session.exec(delete(Device).where(surplus))
    return token


async def _login_of(session: AsyncSession, refresh_token: str) -> Session | None:
    """The session that gave out this refresh token, the last one or an older one; locked."""
    session_id = secret_tokens.id_in(refresh_token)
    login = await session.get(Session, session_id, with_for_update=True) if session_id else None
    return login if login is not None and login.gave_out(refresh_token) else None


def _pair(issuer: TokenIssuer, user: User, login: Session, refresh_token: str) -> Tokens:
    return Tokens(issuer.access_token(user.user_id, user.roles, login.session_id, user.warehouses), refresh_token)
