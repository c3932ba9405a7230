"""Transactional outbox: a domain event is a row in the same commit as the change it tells of; `relay.py` publishes it later."""

import re
from collections.abc import Sequence
from functools import cache, partial

import uuid_utils.compat as uuids
from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, MetaData, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUuid

from chassis.clock import utc_now
from chassis.logs import logger
from chassis.statements import Write
from chassis.store import UnitOfWork
from chassis.telemetry import RequestContext
from contracts.events import CloudEvent, Event

log = logger(__name__)
CHANNEL = "outbox"
"""The relay listens here; a trigger on the table notifies it at commit."""
LOGGED = ("parcel", "warehouse_id", "amount", "total", "refunded", "status", "kind", "code", "trouble")
"""What the log line of an event about an order says of it, beside the order."""
MAX_BYTES = 250_000
"""Of one event. A broker refuses what is larger than its limit (1 MB) for ever, and everything behind it would wait."""
_ADD = """
    insert into outbox (event_id, topic, key, envelope)
    select event_id, topic, key, cast(envelope as jsonb)
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as new (event_id, topic, key, envelope, n)
    order by n
    returning 1"""


def outbox_table(metadata: MetaData) -> Table:
    """Adds the outbox to a service's tables. `published_at` null: still to be sent. `partition` and `offset`: where it went."""
    table = Table(
        "outbox",
        metadata,
        Column("seq", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", PgUuid(as_uuid=True), nullable=False, unique=True),
        Column("topic", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("envelope", JSONB, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("published_at", DateTime(timezone=True)),
        Column("partition", Integer),
        Column("offset", BigInteger),
    )
    Index("ix_outbox_unpublished", table.c.seq, postgresql_where=table.c.published_at.is_(None))
    Index("ix_outbox_position", table.c.topic, table.c.partition, table.c.offset)
    return table


class Outbox:
    """Where a service's commands put their events."""

    def __init__(self, service: str, metadata: MetaData) -> None:
        self.service = service
        self.table = outbox_table(metadata)

    def add(self, work: UnitOfWork, *events: Event, causes: Sequence[RequestContext] | None = None) -> None:
        """Record events; they exist if and only if the transaction commits. Then those about an order are told in the log.

        They are written last, when the rows that they tell of are locked: then the events of one aggregate get rising numbers.
        They belong to the current trace, or each to that of `causes`, for a job that does many things at once. Raises ValueError
        for an event that is too large to be published.
        """
        if not events:
            return
        causes = causes or [RequestContext()] * len(events)
        envelopes = [self._envelope(event, cause.traceparent) for event, cause in zip(events, causes, strict=True)]
        arguments = [
            [envelope.id for envelope in envelopes],
            [event.topic for event in events],
            [envelope.partitionkey for envelope in envelopes],
            [_as_json(envelope) for envelope in envelopes],
        ]
        work.at_last(Write(_ADD, arguments, len(events)))
        work.when_committed(partial(_tell, events, causes))

    def _envelope(self, event: Event, traceparent: str | None) -> CloudEvent:
        return CloudEvent(
            id=uuids.uuid7(),
            source=f"/services/{self.service}",
            type=type(event).__name__,
            subject=event.key,
            time=utc_now(),
            partitionkey=event.key,
            traceparent=traceparent,
            data=event.model_dump(mode="json"),
        )


def _tell(events: Sequence[Event], causes: Sequence[RequestContext]) -> None:
    """One line for each event about an order."""
    for event, cause in zip(events, causes, strict=True):
        if (order_id := getattr(event, "order_id", None)) is None:
            continue
        log.info(
            _action_of(type(event).__name__),
            order_id=order_id,
            **cause.for_log(),
            **{name: value for name in LOGGED if (value := getattr(event, name, None)) is not None},
        )


@cache
def _action_of(kind: str) -> str:
    """`inventory_reserved` of `InventoryReserved`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def _as_json(envelope: CloudEvent) -> str:
    found = envelope.model_dump_json(exclude_none=True)
    if len(found.encode()) > MAX_BYTES:
        raise ValueError(f"{envelope.type} of {envelope.subject} is larger than {MAX_BYTES} bytes")
    return found
