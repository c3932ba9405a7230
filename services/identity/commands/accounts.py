"""Accounts: how a person gets one."""

from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from chassis.database import Database
from chassis.logs import logger
from contracts.errors import ErrorCode, Refusal
from contracts.identity import Role
from services.identity.model import User, outbox
from services.identity.passwords import Passwords
from services.identity.schemas import RegisterRequest, UserView

log = logger(__name__)


async def register(
    database: Database, passwords: Passwords, request: RegisterRequest, roles: Iterable[Role] = (Role.CUSTOMER,)
) -> UserView:
    """A new user. Refusal: email_taken, which also makes a retry harmless."""
    user = User(email=request.email, name=request.name, password_hash=await passwords.hash(request.password))
    user.roles = [role.value for role in roles]
    async with database.transaction() as session:
        added = (
            insert(User).values(user.model_dump()).on_conflict_do_nothing(index_elements=["email"]).returning(col(User.user_id))
        )
        if (await session.execute(added)).first() is None:
            raise Refusal(ErrorCode.EMAIL_TAKEN, "There is an account with this e-mail already.")
        await outbox.add(session, user.registered())
        return UserView.of(user)


async def ensure_admin(database: Database, passwords: Passwords, request: RegisterRequest) -> None:
    """Register the first admin, unless the e-mail has an account; that one is left as it is."""
    async with database.reading() as session:
        user = (await session.exec(select(User).where(User.email == request.email))).one_or_none()
    if user is None:
        with suppress(Refusal):  # another replica was faster
            await register(database, passwords, request, [Role.ADMIN])
    elif Role.ADMIN not in user.roles:
        log.warning("first_admin_is_no_admin", user_id=str(user.user_id))
