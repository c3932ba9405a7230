"""Users: who they are and what they may do."""

from uuid import UUID

from fastapi import Response

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.origin import From
from chassis.paging import Cursor, Limit
from contracts.paging import Page
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api.dependencies import REFUSED_TOKENS_RECORDED, IfMatch
from services.identity.commands import profile, rights
from services.identity.schemas import DisableRequest, ProfileRequest, RolesRequest, UserView

users = ACCESS.router(prefix="/api/v1/users", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@users.get("/me", summary="Who I am")
async def get_me(db: Db, caller: Caller, response: Response) -> UserView:
    return tagged(response, await queries.get_user(db, caller, caller.subject))


@users.patch("/me", summary="Change my profile")
async def change_profile(db: Db, caller: Caller, request: ProfileRequest, if_match: IfMatch, response: Response) -> UserView:
    version = int(if_match.strip('"'))
    return tagged(response, await profile.change_profile(db, caller.subject, request, version=version))


@users.get("", summary="List users, oldest first")
async def list_users(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[UserView]:
    return await queries.list_users(db, cursor, limit)


@users.get("/{user_id}", summary="One user")
async def get_user(db: Db, caller: Caller, user_id: UUID, response: Response) -> UserView:
    return tagged(response, await queries.get_user(db, caller, user_id))


@users.put("/{user_id}/roles", summary="Set all roles of a user; ends their sessions")
async def set_roles(
    db: Db, caller: Caller, user_id: UUID, request: RolesRequest, if_match: IfMatch, response: Response, origin: From
) -> UserView:
    version = int(if_match.strip('"'))
    return tagged(response, await rights.set_roles(db, user_id, request, by=caller.principal, origin=origin, version=version))


@users.post("/{user_id}/disable", summary="Shut a user out; ends their sessions")
async def disable(db: Db, caller: Caller, user_id: UUID, request: DisableRequest, response: Response, origin: From) -> UserView:
    return tagged(response, await rights.disable(db, user_id, request.reason, by=caller.principal, origin=origin))


@users.post("/{user_id}/enable", summary="Let a user log in again")
async def enable(db: Db, caller: Caller, user_id: UUID, response: Response, origin: From) -> UserView:
    return tagged(response, await rights.enable(db, user_id, by=caller.principal, origin=origin))


def tagged(response: Response, user: UserView) -> UserView:
    """The user, with the version as ETag."""
    response.headers["ETag"] = f'"{user.version}"'
    return user
