"""The profile: what customers tell us about themselves."""

from uuid import UUID

from chassis.database import Database
from services.identity.commands.locked import locked_user
from services.identity.schemas import ProfileRequest, UserView


async def change_profile(database: Database, user_id: UUID, request: ProfileRequest, *, version: int) -> UserView:
    """Change what the request names, and nothing else. Refusals: not_found, stale_version."""
    changes = request.model_dump(mode="json", include=request.model_fields_set)
    async with database.transaction() as session:
        user = await locked_user(session, user_id)
        user.change_profile(changes, version=version)
        await session.flush()
        return UserView.of(user)
