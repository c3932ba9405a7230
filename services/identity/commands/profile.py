"""The profile: what customers tell us about themselves."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from chassis.store import UnitOfWork, transaction
from services.identity.commands.users import locked_user
from services.identity.model import User


@transaction
async def change_profile(work: UnitOfWork, user_id: UUID, changes: Mapping[str, Any], *, version: int) -> User:
    """Change these fields (JSON), and nothing else. Refusals: not_found, stale_version."""
    user = await locked_user(work, user_id)
    user.require_version(version)
    user.change_profile(changes)
    return user
