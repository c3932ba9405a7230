"""Accounts: how a person gets one, proves an address, changes it, and gets back in without the password.

No answer tells whether an address has an account; only the mail does, to whoever reads it (docs/adr/0014).
"""

from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from chassis.clock import utc_now
from chassis.database import Database, lock
from chassis.logs import logger
from chassis.origin import Origin
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
log = logger(__name__)


async def register(
    database: Database, passwords: Passwords, issuer: TokenIssuer, origin: Origin, *, email: str, password: SecretStr, name: str
) -> tuple[User, Tokens]:
    """A new account, logged in, whose address is still to be verified. Refusal: validation_failed (a weak password)."""
    require_strong(password, email=email, name=name)
    user = User(email=email, name=name, password_hash=await passwords.hash(password))
    async with database.transaction() as session:
        session.add(user)
        await session.flush()
        tokens = open_session(session, issuer, user, origin)
        await outbox.add(session, user.registered())
        await _ask_for_mails(session, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))
        return user, tokens


async def ensure_admin(database: Database, passwords: Passwords, *, email: str, password: SecretStr, name: str) -> None:
    """Make the first admin, unless the address has an account; that one is left as it is."""
    async with database.reading() as session:
        holder = await holder_of(session, email)
    if holder is None:
        admin = User(
            email=email,
            email_verified_at=utc_now(),
            name=name,
            password_hash=await passwords.hash(password),
            roles=[Role.ADMIN],
        )
        unless_held = insert(User).on_conflict_do_nothing(
            index_elements=["email"], index_where=col(User.email_verified_at).is_not(None)
        )
        async with database.transaction() as session:
            added = await session.execute(unless_held.values(admin.model_dump()).returning(col(User.user_id)))
            if added.first() is not None:  # else another replica was faster
                await outbox.add(session, admin.registered())
    elif Role.ADMIN not in holder.roles:
        log.warning("first_admin_is_no_admin", user_id=str(holder.user_id))


async def ask_for_verification(database: Database, user_id: UUID) -> None:
    """Send the verification mail again, if it is still needed. Refusal: not_found."""
    async with database.transaction() as session:
        user = await locked_user(session, user_id)
        if not user.is_verified:
            await _ask_for_mails(session, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))


async def verify_email(database: Database, token: str) -> None:
    """The account holds its address from now on. Refusal: link_invalid, also if another account was first."""
    async with database.transaction() as session:
        user, link = await _follow(session, token, LinkPurpose.VERIFY_EMAIL)
        await _require_free(session, link.email)
        await session.delete(link)
        await outbox.add(session, user.verify_email())


async def ask_for_reset(database: Database, email: str) -> None:
    """Send a link to whoever holds the address. Does the same work where nobody does."""
    async with database.transaction() as session:
        await _ask_for_mails(session, AccountLink.of_reset(email))


async def reset_password(database: Database, passwords: Passwords, token: str, password: SecretStr, origin: Origin) -> None:
    """A new password, after which every login and every other link has ended. Refusals: link_invalid, validation_failed."""
    async with database.reading() as session:
        user, _ = await _follow(session, token, LinkPurpose.PASSWORD_RESET)
    require_strong(password, email=user.email, name=user.name, field="new_password")
    new_hash = await passwords.hash(password)
    async with database.transaction() as session:
        user, _ = await _follow(session, token, LinkPurpose.PASSWORD_RESET)
        await session.exec(delete(AccountLink).where(col(AccountLink.user_id) == user.user_id))
        await outbox.add(session, user.reset_password(new_hash))
        await end_sessions_and_forget_devices(session, user.user_id)
        session.add(_record(SecurityEvent.PASSWORD_CHANGED, user, origin, "with a link"))


async def ask_for_email_change(
    database: Database,
    passwords: Passwords,
    security: SecurityLog,
    caller: Principal,
    origin: Origin,
    *,
    email: str,
    current_password: SecretStr,
) -> None:
    """Ask both addresses; until the present one is verified, the new one takes its place at once.

    Refusals: invalid_credentials, rate_limited, not_found."""
    await prove_password(database, passwords, security, caller, current_password, origin)
    async with database.transaction() as session:
        await Guesses.in_session(caller.session_id).forgive(session)
        user = await locked_user(session, caller.subject)
        if not user.is_verified:
            user.email = email
            await _ask_for_mails(session, AccountLink.of_user(user, LinkPurpose.VERIFY_EMAIL))
        elif email != user.email:
            await _ask_for_mails(
                session,
                AccountLink.of_user(user, LinkPurpose.EMAIL_CHANGE_OLD),
                AccountLink.of_user(user, LinkPurpose.EMAIL_CHANGE_NEW, email),
            )


async def confirm_email_change(database: Database, token: str, origin: Origin) -> bool:
    """One address agrees; whether the other one had, so that the change is done. Refusal: link_invalid."""
    async with database.transaction() as session:
        user, link = await _follow(session, token, *EMAIL_CHANGE)
        link.confirm()
        links = {other.purpose: other for other in await _email_change_of(session, user)}
        if len(links) < len(EMAIL_CHANGE) or not all(other.confirmed_at for other in links.values()):
            return False
        new = links[LinkPurpose.EMAIL_CHANGE_NEW].email
        await _require_free(session, new)
        for other in links.values():
            await session.delete(other)
        session.add(_record(SecurityEvent.EMAIL_CHANGED, user, origin))
        await outbox.add(session, user.change_email(new))
        return True


async def stop_email_change(database: Database, token: str) -> None:
    """The present address does not agree. Refusal: link_invalid."""
    async with database.transaction() as session:
        user, _ = await _follow(session, token, LinkPurpose.EMAIL_CHANGE_OLD)
        for link in await _email_change_of(session, user):
            await session.delete(link)


async def prepare_mail(database: Database, public_url: str, request_id: UUID) -> AccountMail:
    """Make the link of a mail that is sent now. Refusal: link_invalid, if the mail is not wanted any more, or never was."""
    async with database.transaction() as session:
        link = await session.get(AccountLink, request_id, with_for_update=True)
        if link is None or link.has_expired or link.confirmed_at:
            raise invalid_link()
        kind = NotificationKind(link.purpose.value)
        holder = await holder_of(session, link.email)
        if link.purpose is LinkPurpose.PASSWORD_RESET:
            if holder is None:
                raise invalid_link()
            link.user_id = holder.user_id
        elif holder is not None and link.purpose is not LinkPurpose.EMAIL_CHANGE_OLD:
            if holder.user_id == link.user_id:  # it was verified in the meantime
                raise invalid_link()
            # Whoever reads the address has an account already, and is offered the way back into that one.
            kind, link = NotificationKind.ACCOUNT_EXISTS, AccountLink.of_reset(link.email, holder.user_id)
            await _replace(session, link)
        url = f"{public_url.rstrip('/')}/api/v1/auth/links/{PAGES[link.purpose]}?token={link.new_token()}"
        return AccountMail(kind=kind, email=link.email, link=url)


async def forget_expired(database: Database) -> None:
    """Delete links that have expired, and counts of mails whose window has passed."""
    async with database.transaction() as session:
        await session.exec(delete(AccountLink).where(col(AccountLink.expires_at) < utc_now()))
        await session.exec(delete(MailGuard).where(col(MailGuard.since) < utc_now() - MAIL_WINDOW))


async def _ask_for_mails(session: AsyncSession, *links: AccountLink) -> None:
    """Replace these links and ask for their mails, unless there were many of late: then the last ones stay good."""
    keys = sorted({key for link in links for key in (link.email, str(link.user_id or link.email))})
    guards = []
    for key in keys:
        await lock(session, f"account mails {key}")
        guards.append(await session.get(MailGuard, key) or MailGuard(key=key))
    if not all(guard.allows_one_more() for guard in guards):
        return
    for guard in guards:
        guard.mails += 1
        session.add(guard)
    for link in links:
        await _replace(session, link)
    await outbox.add(session, *[link.requested() for link in links])


async def _replace(session: AsyncSession, link: AccountLink) -> None:
    await lock(session, f"account link {link.purpose} {link.subject}")
    same = (col(AccountLink.purpose) == link.purpose) & (col(AccountLink.subject) == link.subject)
    await session.exec(delete(AccountLink).where(same))
    session.add(link)


async def _follow(session: AsyncSession, token: str, *purposes: LinkPurpose) -> tuple[User, AccountLink]:
    """The user and the link, both locked, of a token that is good for one of these purposes. Refusal: link_invalid.

    The user comes first: two links of one user would else wait for each other."""
    is_it = (col(AccountLink.token_hash) == secret_tokens.hash_of(token)) & col(AccountLink.purpose).in_(purposes)
    seen = (await session.exec(select(AccountLink).where(is_it))).one_or_none()
    if seen is None or seen.user_id is None:
        raise invalid_link()
    user = await locked_user(session, seen.user_id)
    again = select(AccountLink).where(is_it).with_for_update().execution_options(populate_existing=True)
    link = (await session.exec(again)).one_or_none()
    if link is None or link.has_expired:
        raise invalid_link()
    if link.purpose is not LinkPurpose.EMAIL_CHANGE_NEW and link.email != user.email:
        raise invalid_link()  # the account has another address since
    return user, link


async def _email_change_of(session: AsyncSession, user: User) -> list[AccountLink]:
    theirs = (col(AccountLink.user_id) == user.user_id) & col(AccountLink.purpose).in_(EMAIL_CHANGE)
    return list((await session.exec(select(AccountLink).where(theirs))).all())


async def _require_free(session: AsyncSession, email: str) -> None:
    """Nobody else holds the address, nor gets it before this transaction ends. Refusal: link_invalid."""
    await lock(session, f"address {email}")
    if await holder_of(session, email) is not None:
        raise invalid_link()


def _record(kind: SecurityEvent, user: User, origin: Origin, detail: str = "") -> SecurityRecord:
    return SecurityRecord(kind=kind, account=user.email, user_id=user.user_id, address=origin.address, detail=detail)
