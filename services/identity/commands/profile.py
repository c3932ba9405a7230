"""The profile: what customers tell us about themselves."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.database import Database
from services.identity.commands.users import locked_user
from services.identity.model import User


async def change_profile(database: Database, user_id: UUID, changes: Mapping[str, Any], *, version: int) -> User:
    """Change these fields (JSON), and nothing else. Refusals: not_found, stale_version."""
    async with database.transaction() as session:
        user = await locked_user(session, user_id)
        user.change_profile(changes, version=version)
        await session.flush()
        return user
