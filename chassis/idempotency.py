"""Idempotency keys of public writes: the reply is stored in the same commit as the change, so that a retry gets it again.

See the IETF draft "The Idempotency-Key HTTP Header Field".
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from sqlalchemy import Column, DateTime, MetaData, Table, Text, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from chassis.access import Caller
from chassis.store import UnitOfWork, transaction
from contracts.errors import ErrorCode, Refusal

FORGET_BATCH = 1000
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Makes a retry safe: the same key and body get the first reply again.",
    ),
]


@dataclass(frozen=True)
class IdempotencyKey:
    """One client's key for one operation. `scope` keeps clients and operations apart; `fingerprint` is of the body."""

    scope: str
    key: str
    fingerprint: str


async def optional_key(request: Request, caller: Caller, key: KeyHeader = None) -> IdempotencyKey | None:
    """The request's key, if it has one."""
    if key is None:
        return None
    body = await request.body()
    scope = f"{caller.subject} {request.method} {request.url.path}"
    return IdempotencyKey(scope, key, hashlib.sha256(body).hexdigest())


async def required_key(request: Request, caller: Caller, key: KeyHeader = None) -> IdempotencyKey:
    """The request's key; refused without one."""
    found = await optional_key(request, caller, key)
    if found is None:
        raise Refusal(ErrorCode.IDEMPOTENCY_KEY_MISSING, "Send an Idempotency-Key header, so that a retry is safe.")
    return found


OptionalKey = Annotated[IdempotencyKey | None, Depends(optional_key)]
RequiredKey = Annotated[IdempotencyKey, Depends(required_key)]


class Idempotency:
    """The replies that this service has given, by key."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "idempotency_keys",
            metadata,
            Column("scope", Text, primary_key=True),
            Column("key", Text, primary_key=True),
            Column("fingerprint", Text, nullable=False),
            Column("reply", JSONB),
            Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
        )

    async def earlier_reply(self, work: UnitOfWork, key: IdempotencyKey | None) -> Any | None:
        """The stored reply if this key was served before, else None (and the key is now taken).

        A concurrent request with the same key waits here for the first one's commit. Refusal: idempotency_key_reused.
        """
        if key is None:
            return None
        taken = insert(self.table).values(scope=key.scope, key=key.key, fingerprint=key.fingerprint)
        if await work.rows(taken.on_conflict_do_nothing().returning(self.table.c.key)):
            return None
        of_key = (self.table.c.scope == key.scope) & (self.table.c.key == key.key)
        [row] = await work.rows(select(self.table.c.fingerprint, self.table.c.reply).where(of_key))
        if row["fingerprint"] != key.fingerprint:
            raise Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was used with another body.")
        return row["reply"]

    async def remember(self, work: UnitOfWork, key: IdempotencyKey | None, reply: Any) -> None:
        """Keep the reply (JSON) for retries."""
        if key is not None:
            of_key = (self.table.c.scope == key.scope) & (self.table.c.key == key.key)
            await work.rows(update(self.table).where(of_key).values(reply=reply))


@transaction
async def forget_keys(work: UnitOfWork, table: Table, kept: timedelta) -> bool:
    """Delete some of the keys that are older than this; returns whether there may be more."""
    columns = (table.c.scope, table.c.key)
    old = select(*columns).where(table.c.created_at < func.now() - kept).order_by(table.c.created_at).limit(FORGET_BATCH)
    gone = await work.rows(delete(table).where(tuple_(*columns).in_(old)).returning(table.c.key))
    return len(gone) == FORGET_BATCH
