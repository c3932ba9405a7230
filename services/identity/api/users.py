"""Users: who they are and what they may do."""

from uuid import UUID

from fastapi import Response

from chassis.access import Caller
from chassis.dependencies import Db
from chassis.etags import OptionalSeenVersion, SeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.origin import ClientOrigin
from chassis.paging import Cursor, Limit
from contracts.paging import Page
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api.dependencies import REFUSED_TOKENS_RECORDED
from services.identity.commands import erasure, profile, rights
from services.identity.schemas import DisableRequest, ErasureOfUserRequest, ErasureView, ProfileRequest, RolesRequest, UserView

users = ACCESS.router(prefix="/api/v1/users", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@users.get("/me", summary="Who I am")
async def get_me(db: Db, caller: Caller, response: Response) -> UserView:
    return tagged(response, await queries.get_user(db, caller, caller.subject))


@users.patch("/me", summary="Change my profile")
async def change_profile(db: Db, caller: Caller, request: ProfileRequest, seen: SeenVersion, response: Response) -> UserView:
    changes = request.model_dump(mode="json", include=request.model_fields_set)
    with showing(UserView.of):
        user = await profile.change_profile(db, caller.subject, changes, version=seen)
    return tagged(response, UserView.of(user))


@users.get("", summary="List users, oldest first")
async def list_users(db: MayLag, cursor: Cursor = None, limit: Limit = 50) -> Page[UserView]:
    return await queries.list_users(db, cursor, limit)


@users.get("/{user_id}", summary="One user")
async def get_user(db: Db, caller: Caller, user_id: UUID, response: Response) -> UserView:
    return tagged(response, await queries.get_user(db, caller, user_id))


@users.put("/{user_id}/roles", summary="Set all roles of a user; ends their sessions")
async def set_roles(
    db: Db, caller: Caller, user_id: UUID, request: RolesRequest, seen: SeenVersion, response: Response, origin: ClientOrigin
) -> UserView:
    with showing(UserView.of):
        user = await rights.set_roles(
            db, user_id, request.roles, request.warehouses, by=caller.principal, origin=origin, version=seen
        )
    return tagged(response, UserView.of(user))


@users.post("/{user_id}/disable", summary="Shut a user out; ends their sessions")
async def disable(
    db: Db,
    caller: Caller,
    user_id: UUID,
    request: DisableRequest,
    response: Response,
    origin: ClientOrigin,
    seen: OptionalSeenVersion,
) -> UserView:
    with showing(UserView.of):
        user = await rights.disable(db, user_id, request.reason, by=caller.principal, origin=origin, version=seen)
    return tagged(response, UserView.of(user))


@users.post("/{user_id}/enable", summary="Let a user log in again")
async def enable(
    db: Db, caller: Caller, user_id: UUID, response: Response, origin: ClientOrigin, seen: OptionalSeenVersion
) -> UserView:
    with showing(UserView.of):
        user = await rights.enable(db, user_id, by=caller.principal, origin=origin, version=seen)
    return tagged(response, UserView.of(user))


@users.post(
    "/{user_id}/erasure", status_code=202, summary="End a user's account and forget the person; open orders are finished first"
)
async def erase_user(db: Db, caller: Caller, user_id: UUID, request: ErasureOfUserRequest) -> ErasureView:
    return ErasureView.of(await erasure.erase_user(db, user_id, request.reason, by=caller.principal))
