"""Users: who they are and what they may do."""

from uuid import UUID

from fastapi import APIRouter, Response

from chassis.dependencies import Db
from chassis.origin import From
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller
from contracts.identity import Role
from contracts.paging import Page
from services.identity import queries
from services.identity.api.dependencies import ADMIN, REFUSED_TOKENS_RECORDED, IfMatch
from services.identity.commands import profile, rights
from services.identity.schemas import DisableRequest, ProfileRequest, RolesRequest, UserView

users = APIRouter(prefix="/api/v1/users", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@users.get("/me", summary="Who I am")
async def get_me(db: Db, caller: Caller, response: Response) -> UserView:
    return tagged(response, await queries.get_user(db, caller.subject))


@users.patch("/me", summary="Change my profile")
async def change_profile(db: Db, caller: Caller, request: ProfileRequest, if_match: IfMatch, response: Response) -> UserView:
    version = int(if_match.strip('"'))
    return tagged(response, await profile.change_profile(db, caller.subject, request, version=version))


@users.get("", dependencies=[ADMIN], summary="List users, oldest first")
async def list_users(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[UserView]:
    return await queries.list_users(db, cursor, limit)


@users.get("/{user_id}", summary="One user: myself, or anybody for support and admins")
async def get_user(db: Db, caller: Caller, user_id: UUID, response: Response) -> UserView:
    if caller.subject != user_id and not caller.roles & {Role.SUPPORT, Role.ADMIN}:
        raise queries.unknown_user()
    return tagged(response, await queries.get_user(db, user_id))


@users.put("/{user_id}/roles", dependencies=[ADMIN], summary="Set all roles of a user; ends their sessions")
async def set_roles(
    db: Db, caller: Caller, user_id: UUID, request: RolesRequest, if_match: IfMatch, response: Response, origin: From
) -> UserView:
    version = int(if_match.strip('"'))
    return tagged(response, await rights.set_roles(db, user_id, request, by=caller, origin=origin, version=version))


@users.post("/{user_id}/disable", dependencies=[ADMIN], summary="Shut a user out; ends their sessions")
async def disable(db: Db, caller: Caller, user_id: UUID, request: DisableRequest, response: Response, origin: From) -> UserView:
    return tagged(response, await rights.disable(db, user_id, request.reason, by=caller, origin=origin))


@users.post("/{user_id}/enable", dependencies=[ADMIN], summary="Let a user log in again")
async def enable(db: Db, caller: Caller, user_id: UUID, response: Response, origin: From) -> UserView:
    return tagged(response, await rights.enable(db, user_id, by=caller, origin=origin))


def tagged(response: Response, user: UserView) -> UserView:
    """The user, with the version as ETag."""
    response.headers["ETag"] = f'"{user.version}"'
    return user
