"""The security log, as admins read it."""

from typing import Annotated
from uuid import UUID

from pydantic import IPvAnyAddress, WithJsonSchema

from chassis.dependencies import Db
from chassis.paging import Cursor, Limit
from contracts.base import Timestamp
from contracts.paging import Page
from services.identity import queries
from services.identity.access import ACCESS
from services.identity.api.dependencies import REFUSED_TOKENS_RECORDED
from services.identity.model import SecurityEvent
from services.identity.schemas import SecurityRecordView

IpAddress = Annotated[IPvAnyAddress, WithJsonSchema({"type": "string", "format": "ip", "maxLength": 45})]

log = ACCESS.router(prefix="/api/v1/security-log", tags=["identity"], dependencies=[REFUSED_TOKENS_RECORDED])


@log.get("", summary="Refused logins and tokens, and changes of rights; newest first")
async def list_security_log(
    db: Db,
    kind: SecurityEvent | None = None,
    user_id: UUID | None = None,
    address: IpAddress | None = None,
    since: Timestamp | None = None,
    until: Timestamp | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[SecurityRecordView]:
    wanted = queries.SecurityFilter(kind, user_id, str(address) if address else None, since, until)
    return await queries.list_security_log(db, wanted, cursor, limit)
