"""Accounts: how a person gets one, proves an address, changes it, and gets back in without the password.

No answer tells whether an address has an account; only the mail does, to whoever reads it (docs/adr/0014).
"""

from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import bindparam, delete, select
from sqlmodel import col

from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from chassis.origin import Origin
from chassis.statements import locked, prepared
from chassis.store import UnitOfWork, in_transaction, transaction
from chassis.tokens import Principal
from contracts.accounts import AccountMail
from contracts.identity import Role
from contracts.notifications import NotificationKind
from services.identity.commands.ending import end_sessions_and_forget_devices
from services.identity.commands.guessing import Guesses
from services.identity.commands.security import SecurityLog
from services.identity.commands.sessions import open_session, prove_password
from services.identity.commands.users import holder_of, locked_user
from services.identity.model import (
    EMAIL_CHANGE,
    MAIL_WINDOW,
    AccountLink,
    LinkPurpose,
    MailGuard,
    SecurityEvent,
    SecurityRecord,
    User,
    invalid_link,
    outbox,
    secret_tokens,
)
from services.identity.passwords import Passwords, require_strong
from services.identity.tokens import TokenIssuer, Tokens

PAGES = {
    LinkPurpose.VERIFY_EMAIL: "verify-email",
    LinkPurpose.PASSWORD_RESET: "password-reset",
    LinkPurpose.EMAIL_CHANGE_OLD: "email-change",
    LinkPurpose.EMAIL_CHANGE_NEW: "email-change",
}
"""The page of each link, under `/api/v1/auth/links/`."""
_WITH_TOKEN = prepared(
    select(col(AccountLink.request_id), col(AccountLink.user_id)).where(col(AccountLink.token_hash) == bindparam("token_hash"))
)
_LINKS_OF = locked(AccountLink, col(AccountLink.user_id) == bindparam("user"))
log = logger(__name__)


async def register(
    database: Database, passwords: Passwords, issuer: TokenIssuer, origin: Origin, *, email: str, password: SecretStr, name: str
) -> tuple[User, Tokens]:
    """A new account, logged in, whose address is still to be verified. Refusal: validation_failed (a weak password)."""
    require_strong(password, email=email, name=name)
    return await _register(database, issuer, origin, email, name, await passwords.hash(password))


@transaction
async def _register(
    work: UnitOfWork, issuer: TokenIssuer, origin: Origin, email: str, name: str, password_hash: str
) -> tuple[User, Tokens]:
    user, _ = await work.get_or_add(User(email=email, name=name, password_hash=password_hash))  # at once: its link refers to it
    tokens = open_session(work, issuer, user, origin)
    outbox.add(work, user.registered())
    await _ask_for_mails(work, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))
    return user, tokens


async def ensure_admin(database: Database, passwords: Passwords, *, email: str, password: SecretStr, name: str) -> None:
    """Make the first admin, unless the address has an account; that one is left as it is."""
    holder = await _holder(database, email)
    if holder is None:
        await _add_admin(database, email, name, await passwords.hash(password))
    elif Role.ADMIN not in holder.roles:
        log.warning("first_admin_is_no_admin", user_id=str(holder.user_id))


@transaction
async def _holder(work: UnitOfWork, email: str) -> User | None:
    user_id = await holder_of(work, email)
    return await work.read(User, user_id) if user_id else None


@transaction
async def _add_admin(work: UnitOfWork, email: str, name: str, password_hash: str) -> None:
    if await _is_free(work, email):  # else another replica was faster, or whoever verified the address
        admin = User(email=email, email_verified_at=utc_now(), name=name, password_hash=password_hash, roles=[Role.ADMIN])
        work.add(admin)
        outbox.add(work, admin.registered())


@transaction
async def ask_for_verification(work: UnitOfWork, user_id: UUID) -> None:
    """Send the verification mail again, if it is still needed. Refusal: not_found."""
    user = await locked_user(work, user_id)
    if not user.is_verified:
        await _ask_for_mails(work, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))


@transaction
async def verify_email(work: UnitOfWork, token: str) -> None:
    """The account holds its address from now on. Refusal: link_invalid, also if another account was first."""
    user, link = await _follow(work, token, LinkPurpose.VERIFY_EMAIL)
    await _require_free(work, link.email)
    await work.delete(link)
    outbox.add(work, user.verify_email())


@transaction
async def ask_for_reset(work: UnitOfWork, email: str) -> None:
    """Send a link to whoever holds the address. Does the same work where nobody does."""
    await _ask_for_mails(work, AccountLink.of_reset(email))


async def reset_password(database: Database, passwords: Passwords, token: str, password: SecretStr, origin: Origin) -> None:
    """A new password, after which every login and every other link has ended. Refusals: link_invalid, validation_failed."""
    user, _ = await in_transaction(database, lambda work: _follow(work, token, LinkPurpose.PASSWORD_RESET))
    require_strong(password, email=user.email, name=user.name, field="new_password")
    await _reset_password(database, token, await passwords.hash(password), origin)


@transaction
async def _reset_password(work: UnitOfWork, token: str, new_hash: str, origin: Origin) -> None:
    user, _ = await _follow(work, token, LinkPurpose.PASSWORD_RESET)
    await work.delete(*await work.all(_LINKS_OF, user=user.user_id))
    outbox.add(work, user.reset_password(new_hash))
    await end_sessions_and_forget_devices(work, user.user_id)
    work.add(_record(SecurityEvent.PASSWORD_CHANGED, user, origin, "with a link"))


async def ask_for_email_change(
    database: Database,
    passwords: Passwords,
    security: SecurityLog,
    caller: Principal,
    origin: Origin,
    *,
    email: str,
    current_password: SecretStr,
    version: int | None = None,
) -> None:
    """Ask both addresses; until the present one is verified, the new one takes its place at once.

    Refusals: invalid_credentials, rate_limited, not_found, stale_version."""
    await prove_password(database, passwords, security, caller, current_password, origin)
    await _ask_for_email_change(database, caller, email, version)


@transaction
async def _ask_for_email_change(work: UnitOfWork, caller: Principal, email: str, version: int | None) -> None:
    await Guesses.in_session(caller.session_id).forgive(work)
    user = await locked_user(work, caller.subject)
    user.require_version(version)
    if not user.is_verified:
        user.email = email
        await _ask_for_mails(work, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))
    elif email != user.email:
        await _ask_for_mails(
            work,
            AccountLink.of_user(user, LinkPurpose.EMAIL_CHANGE_OLD),
            AccountLink.of_user(user, LinkPurpose.EMAIL_CHANGE_NEW, email),
        )


@transaction
async def confirm_email_change(work: UnitOfWork, token: str, origin: Origin) -> bool:
    """One address agrees; whether the other one had, so that the change is done. Refusal: link_invalid."""
    user, link = await _follow(work, token, *EMAIL_CHANGE)
    link.confirm()
    links = {other.purpose: other for other in await _email_change_of(work, user)}
    if len(links) < len(EMAIL_CHANGE) or not all(other.confirmed_at for other in links.values()):
        return False
    new = links[LinkPurpose.EMAIL_CHANGE_NEW].email
    await _require_free(work, new)
    await work.delete(*links.values())
    work.add(_record(SecurityEvent.EMAIL_CHANGED, user, origin))
    outbox.add(work, user.change_email(new))
    return True


@transaction
async def stop_email_change(work: UnitOfWork, token: str) -> None:
    """The present address does not agree. Refusal: link_invalid."""
    user, _ = await _follow(work, token, LinkPurpose.EMAIL_CHANGE_OLD)
    await work.delete(*await _email_change_of(work, user))


@transaction
async def prepare_mail(work: UnitOfWork, public_url: str, request_id: UUID) -> AccountMail:
    """Make the link of a mail that is sent now. Refusal: link_invalid, if the mail is not wanted any more, or never was."""
    link = await work.get(AccountLink, request_id)
    if link is None or link.has_expired or link.confirmed_at:
        raise invalid_link()
    kind = NotificationKind(link.purpose.value)
    holder = await holder_of(work, link.email)
    if link.purpose is LinkPurpose.PASSWORD_RESET:
        if holder is None:
            raise invalid_link()
        link.user_id = holder
    elif holder is not None and link.purpose is not LinkPurpose.EMAIL_CHANGE_OLD:
        if holder == link.user_id:  # it was verified in the meantime
            raise invalid_link()
        # Whoever reads the address has an account already, and is offered the way back into that one.
        kind, link = NotificationKind.ACCOUNT_EXISTS, AccountLink.of_reset(link.email, holder)
        await _replace(work, link)
    url = f"{public_url.rstrip('/')}/api/v1/auth/links/{PAGES[link.purpose]}?token={link.new_token()}"
    return AccountMail(kind=kind, email=link.email, link=url)


@transaction
async def forget_expired(work: UnitOfWork) -> None:
    """Delete links that have expired, and counts of mails whose window has passed."""
    await work.rows(delete(AccountLink).where(col(AccountLink.expires_at) < utc_now()))
    await work.rows(delete(MailGuard).where(col(MailGuard.since) < utc_now() - MAIL_WINDOW))


async def _ask_for_mails(work: UnitOfWork, *links: AccountLink) -> None:
    """Replace these links and ask for their mails, unless there were many of late: then the last ones stay good."""
    keys = sorted({key for link in links for key in _guarded_by(link)})
    guards = [(await work.get_or_add(MailGuard(key=key)))[0] for key in keys]
    if not all(guard.allows_one_more() for guard in guards):
        return
    for guard in guards:
        guard.mails += 1
    for link in links:
        await _replace(work, link)
    outbox.add(work, *[link.requested() for link in links])


def _guarded_by(link: AccountLink) -> set[str]:
    return {secret_tokens.hash_of(link.email)} | ({str(link.user_id)} if link.user_id else set())


async def _replace(work: UnitOfWork, link: AccountLink) -> None:
    former, is_new = await work.get_or_add(link, "purpose", "subject")
    if not is_new:
        await work.delete(former)
        work.add(link)


async def _follow(work: UnitOfWork, token: str, *purposes: LinkPurpose) -> tuple[User, AccountLink]:
    """The user and the link, both locked, of a token that is good for one of these purposes. Refusal: link_invalid.

    The user comes first: two links of one user would else wait for each other."""
    token_hash = secret_tokens.hash_of(token)
    found = await work.rows(_WITH_TOKEN, token_hash=token_hash)
    if not found or found[0]["user_id"] is None:
        raise invalid_link()
    user = await work.get(User, found[0]["user_id"])
    if user is None or user.is_forgotten:
        raise invalid_link()
    link = await work.get(AccountLink, found[0]["request_id"])
    if link is None or link.token_hash != token_hash or link.purpose not in purposes or link.has_expired:
        raise invalid_link()
    if link.purpose is not LinkPurpose.EMAIL_CHANGE_NEW and link.email != user.email:
        raise invalid_link()  # the account has another address since
    return user, link


async def _email_change_of(work: UnitOfWork, user: User) -> list[AccountLink]:
    return [link for link in await work.all(_LINKS_OF, user=user.user_id) if link.purpose in EMAIL_CHANGE]


async def _require_free(work: UnitOfWork, email: str) -> None:
    """Refusal: link_invalid, unless `_is_free`."""
    if not await _is_free(work, email):
        raise invalid_link()


async def _is_free(work: UnitOfWork, email: str) -> bool:
    """Whether nobody holds the address; then nobody else gets it before this transaction ends."""
    await work.lock(f"address {email}")  # there is no row of an address that nobody holds
    return await holder_of(work, email) is None


def _record(kind: SecurityEvent, user: User, origin: Origin, detail: str = "") -> SecurityRecord:
    return SecurityRecord(kind=kind, account=user.email, user_id=user.user_id, address=origin.address, detail=detail)
