"""Rights: what a user may do."""

from collections.abc import Iterable
from uuid import UUID

from chassis.database import Database
from contracts.identity import Role
from services.identity.commands.locked import locked_user
from services.identity.schemas import UserView


async def set_roles(database: Database, user_id: UUID, roles: Iterable[Role], *, by: UUID, version: int) -> UserView:
    """What a user may do, from the next access token on. Refusals: not_found, stale_version, conflict."""
    async with database.transaction() as session:
        user = await locked_user(session, user_id)
        user.set_roles(roles, by=by, version=version)
        await session.flush()
        return UserView.of(user)
