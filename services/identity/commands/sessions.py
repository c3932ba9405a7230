"""Sessions: logging in and out, refreshing, ending others of one's own."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import bindparam, delete, select
from sqlmodel import col

from chassis.clock import utc_now
from chassis.database import Database
from chassis.origin import Origin
from chassis.statements import prepared
from chassis.store import UnitOfWork, in_transaction, transaction
from chassis.tokens import Principal
from contracts.errors import ErrorCode, Refusal
from services.identity.commands.ending import (
    end_sessions,
    end_sessions_and_forget_devices,
    sessions_by_id,
    sessions_of,
)
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

_DEVICE = prepared(
    select(col(Device.device_id), col(Device.token_hash))
    .join(User, col(User.user_id) == col(Device.user_id))
    .where(col(Device.device_id) == bindparam("device"), col(User.email) == bindparam("email"))
)
_USED_LAST = (
    select(col(Device.device_id)).where(col(Device.user_id) == bindparam("user")).order_by(col(Device.last_used_at).desc())
)
_FORGET_SURPLUS = prepared(delete(Device).where(col(Device.device_id).in_(_USED_LAST.offset(DEVICES_KEPT))))
_REFUSED = {
    SecurityEvent.REFRESH_TOKEN_REFUSED: (ErrorCode.UNAUTHENTICATED, "The refresh token is not valid, or no longer."),
    SecurityEvent.REFRESH_TOKEN_REUSED: (ErrorCode.REFRESH_TOKEN_REUSED, "This refresh token was used before; log in again."),
}


@dataclass(frozen=True)
class _Seen:
    """Whose address it is, and what is known of the device, before the password is verified."""

    user: User | None
    device_id: UUID | None
    guesses: Guesses


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
    seen = await _look(database, origin, email, device_token)
    kept_hash = await passwords.verify(password, seen.user.password_hash if seen.user else None)
    if seen.user is None or kept_hash is None:
        await in_transaction(database, seen.guesses.count_failure)
        user_id = seen.user.user_id if seen.user else None
        await security.record(database, SecurityEvent.LOGIN_FAILED, origin, account=email, user_id=user_id)
        raise wrong_credentials()
    try:
        return await _log_in(database, issuer, origin, seen, seen.user, kept_hash, device_token)
    except Refusal as refusal:
        if refusal.code == ErrorCode.ACCOUNT_DISABLED:
            kind, user_id = SecurityEvent.LOGIN_FAILED, seen.user.user_id
            await security.record(database, kind, origin, account=email, user_id=user_id, detail=refusal.code)
        raise


@transaction
async def _look(work: UnitOfWork, origin: Origin, email: str, device_token: SecretStr | None) -> _Seen:
    """Refusal: rate_limited."""
    holder = await holder_of(work, email)
    device_id = await _known_device(work, email, device_token)
    guesses = Guesses.at_login(email, origin, device_id)
    await guesses.check(work)
    return _Seen(await work.read(User, holder) if holder else None, device_id, guesses)


@transaction
async def _log_in(
    work: UnitOfWork,
    issuer: TokenIssuer,
    origin: Origin,
    seen: _Seen,
    who: User,
    kept_hash: str,
    device_token: SecretStr | None,
) -> tuple[Tokens, str]:
    """The password of `who` was right."""
    await seen.guesses.forgive(work)
    user = await locked_user(work, who.user_id)
    outbox.add(work, user.log_in(who.password_hash, kept_hash))
    pair = open_session(work, issuer, user, origin)
    return pair, await _remember(work, user, seen.device_id, device_token)


def open_session(work: UnitOfWork, issuer: TokenIssuer, user: User, origin: Origin) -> Tokens:
    """The first tokens of a new login."""
    login = Session(user_id=user.user_id, device=origin.device)
    token = login.first_token()
    work.add(login)
    return _pair(issuer, user, login, token)


async def refresh(
    database: Database, issuer: TokenIssuer, security: SecurityLog, origin: Origin, *, refresh_token: SecretStr
) -> Tokens:
    """The next pair of tokens. Refusals: unauthenticated; refresh_token_reused, after which no token of that login is good: it or
    its thief must log in again."""
    user_id, result = await _refresh(database, issuer, refresh_token.get_secret_value())
    if isinstance(result, Tokens):
        return result
    await security.record(database, result, origin, user_id=user_id)
    raise Refusal(*_REFUSED[result])


@transaction
async def _refresh(work: UnitOfWork, issuer: TokenIssuer, token: str) -> tuple[UUID | None, Tokens | SecurityEvent]:
    """Whose token it is, and the next tokens; or what has to be written down instead."""
    session_id = secret_tokens.id_in(token)
    login = await work.get(Session, session_id) if session_id else None
    if login is None or not login.gave_out(token):
        return None, SecurityEvent.REFRESH_TOKEN_REFUSED
    if not login.is_last(token):
        await end_sessions(work, [login], EndReason.REFRESH_TOKEN_REUSED)
        return login.user_id, SecurityEvent.REFRESH_TOKEN_REUSED
    user = await work.read(User, login.user_id)
    if user is None or not login.is_live:
        return login.user_id, SecurityEvent.REFRESH_TOKEN_REFUSED
    return user.user_id, _pair(issuer, user, login, login.next_token(token))


@transaction
async def log_out(work: UnitOfWork, caller: Principal | None, refresh_token: SecretStr | None) -> None:
    """End the session of an access token, and that of a refresh token. Ended already, or no such token: nothing to do."""
    token = refresh_token.get_secret_value() if refresh_token else ""
    callers = caller.session_id if caller is not None else None
    named = [session_id for session_id in (callers, secret_tokens.id_in(token)) if session_id is not None]
    found = await sessions_by_id(work, *named)
    ended = [login for login in found if login.session_id == callers or login.gave_out(token)]
    await end_sessions(work, ended, EndReason.LOGGED_OUT)


@transaction
async def end_own(work: UnitOfWork, caller: Principal, session_id: UUID) -> None:
    """End one session of the caller. Ended already: nothing to do. Refusal: not_found."""
    login = await work.get(Session, session_id)
    if login is None or login.user_id != caller.subject:
        raise Refusal(ErrorCode.NOT_FOUND, "You have no such session.")
    await end_sessions(work, [login], EndReason.ENDED_BY_OWNER)


@transaction
async def end_others(work: UnitOfWork, caller: Principal) -> None:
    """End every session of the caller but the one that asks."""
    await locked_user(work, caller.subject)
    others = [login for login in await sessions_of(work, caller.subject) if login.session_id != caller.session_id]
    await end_sessions(work, others, EndReason.ENDED_BY_OWNER)


async def change_password(
    database: Database,
    passwords: Passwords,
    security: SecurityLog,
    caller: Principal,
    origin: Origin,
    *,
    current_password: SecretStr,
    new_password: SecretStr,
    version: int | None = None,
) -> None:
    """A new password ends every session.

    Refusals: validation_failed, invalid_credentials, rate_limited, not_found, stale_version."""
    seen = await prove_password(database, passwords, security, caller, current_password, origin)
    require_strong(new_password, email=seen.email, name=seen.name, field="new_password")
    new_hash = await passwords.hash(new_password)
    await _change_password(database, caller, origin, seen.password_hash, new_hash, version)


@transaction
async def _change_password(
    work: UnitOfWork, caller: Principal, origin: Origin, seen_hash: str, new_hash: str, version: int | None
) -> None:
    await Guesses.in_session(caller.session_id).forgive(work)
    user = await locked_user(work, caller.subject)
    user.require_version(version)
    outbox.add(work, user.change_password(seen_hash, new_hash))
    await end_sessions_and_forget_devices(work, user.user_id)
    kind = SecurityEvent.PASSWORD_CHANGED
    work.add(SecurityRecord(kind=kind, account=user.email, user_id=user.user_id, address=origin.address))


async def prove_password(
    database: Database, passwords: Passwords, security: SecurityLog, caller: Principal, password: SecretStr, origin: Origin
) -> User:
    """The caller as the password was checked; who then succeeds is forgiven (`Guesses.in_session`).

    Refusals: invalid_credentials, rate_limited, not_found."""
    guesses = Guesses.in_session(caller.session_id)
    seen = await _look_at_oneself(database, caller, guesses)
    if await passwords.verify(password, seen.password_hash) is None:
        await in_transaction(database, guesses.count_failure)
        await security.record(database, SecurityEvent.PASSWORD_REFUSED, origin, account=seen.email, user_id=seen.user_id)
        raise wrong_credentials()
    return seen


@transaction
async def _look_at_oneself(work: UnitOfWork, caller: Principal, guesses: Guesses) -> User:
    """Refusals: rate_limited, not_found."""
    await guesses.check(work)
    user = await work.read(User, caller.subject)
    if user is None or user.is_forgotten:
        raise unknown_user()
    return user


@transaction
async def forget_expired(work: UnitOfWork, log_retention: timedelta) -> None:
    """Delete what no longer matters: logins that have expired, failures long past, old records of the security log."""
    now = utc_now()
    await work.rows(delete(Session).where(col(Session.expires_at) < now))
    await work.rows(delete(LoginGuard).where(col(LoginGuard.failed_at) < now - FORGOTTEN_AFTER))
    await work.rows(delete(SecurityRecord).where(col(SecurityRecord.at) < now - log_retention))


async def _known_device(work: UnitOfWork, email: str, device_token: SecretStr | None) -> UUID | None:
    """The device that proves to have logged in to this account before."""
    token = device_token.get_secret_value() if device_token else ""
    device_id = secret_tokens.id_in(token) if token else None
    found = await work.rows(_DEVICE, device=device_id, email=email) if device_id else []
    return device_id if found and secret_tokens.fits(token, found[0]["token_hash"]) else None


async def _remember(work: UnitOfWork, user: User, known: UUID | None, given: SecretStr | None) -> str:
    """The token of the device that just logged in: the one it has, or a new one; then the one unused for longest is forgotten.

    The user is locked."""
    if known is not None and given is not None:
        kept = await work.get(Device, known)
        if kept is not None:
            kept.last_used_at = utc_now()
            return given.get_secret_value()
    device = Device(user_id=user.user_id)
    token = device.new_token()
    work.add(device)
    await work.rows(_FORGET_SURPLUS, user=user.user_id)
    return token


def _pair(issuer: TokenIssuer, user: User, login: Session, refresh_token: str) -> Tokens:
    return Tokens(issuer.access_token(user.user_id, user.roles, login.session_id, user.warehouses), refresh_token)
