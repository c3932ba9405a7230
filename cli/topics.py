"""Reads the topics of the platform for people."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import ValidationError

from chassis.logs import mask
from contracts.events import TOPICS, CloudEvent

DATA_LENGTH = 160


async def tail(
    broker: str, topics: Sequence[str], *, from_beginning: bool, order: UUID | None, as_json: bool, follow: bool
) -> int:
    """Print events; returns the exit code. Raises KafkaError if the broker is away."""
    partitions = await _partitions(broker, topics or TOPICS)
    if partitions is None:
        return 1
    show = _event_as_json if as_json else _event_as_line
    async with _reader(broker, partitions, latest=follow and not from_beginning) as reader:
        if not follow:
            for record in sorted([record async for record in _stored(reader)], key=_time):
                if _concerns(record, order):
                    printed(show(record))
        while follow:
            for record in sorted(_flat(await reader.getmany(timeout_ms=10_000)), key=_time):
                if _concerns(record, order):
                    printed(show(record))
    return 0


async def _partitions(broker: str, topics: Sequence[str]) -> list[TopicPartition] | None:
    """The partitions of these topics; None, and a word to the user, if one does not exist."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        existing = sorted(await admin.list_topics())
        if missing := [topic for topic in topics if topic not in existing]:
            typer.echo(f"No topic {', '.join(missing)}. There are: {', '.join(existing)}", err=True)
            return None
        described = await admin.describe_topics(list(topics))
        return [TopicPartition(topic["topic"], each["partition"]) for topic in described for each in topic["partitions"]]
    finally:
        await admin.close()


@asynccontextmanager
async def _reader(broker: str, partitions: Sequence[TopicPartition], *, latest: bool = False) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads from one end; it joins no group."""
    reader = AIOKafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="latest" if latest else "earliest",
        fetch_max_wait_ms=100,
    )
    await reader.start()
    try:
        reader.assign(partitions)
        yield reader
    finally:
        await reader.stop()


async def _stored(reader: AIOKafkaConsumer) -> AsyncIterator[ConsumerRecord]:
    """What there is between the reader's positions and the ends as they are now."""
    ends = await reader.end_offsets(reader.assignment())
    # The embedded broker takes the first record of the last batch for the end; the rest of that batch comes along with it.
    while any([await reader.position(partition) < end for partition, end in ends.items()]):
        for record in _flat(await reader.getmany(timeout_ms=1000)):
            yield record
    for record in _flat(await reader.getmany(timeout_ms=0)):
        yield record


def _flat(batches: dict[TopicPartition, list[ConsumerRecord]]) -> Iterable[ConsumerRecord]:
    return [record for records in batches.values() for record in records]


def _envelope(record: ConsumerRecord) -> CloudEvent | None:
    try:
        return CloudEvent.model_validate_json(record.value or b"")
    except ValidationError:
        return None


def _time(record: ConsumerRecord) -> datetime:
    envelope = _envelope(record)
    return envelope.time if envelope else datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _concerns(record: ConsumerRecord, order: UUID | None) -> bool:
    if order is None:
        return True
    envelope = _envelope(record)
    return envelope is not None and str(order) in (envelope.subject, envelope.data.get("order_id"))


def _event_as_line(record: ConsumerRecord) -> str:
    envelope = _envelope(record)
    at = f"{_time(record):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    if envelope is None:
        return f"{at}  {record.topic:<19} (no event)          {_text(record.key)}  {len(record.value or b'')} bytes"
    return f"{at}  {record.topic:<19} {envelope.type:<19} {envelope.subject}  {_short(envelope)}"


def _event_as_json(record: ConsumerRecord) -> str:
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    envelope = _envelope(record)
    if envelope is None:
        return json.dumps(place | {"key": _text(record.key), "bytes": len(record.value or b"")})
    return json.dumps(place | mask(envelope.model_dump(mode="json", exclude_none=True)))


def _short(envelope: CloudEvent) -> str:
    """The data in a few words, without personal data."""
    parts = []
    for name, value in mask(envelope.data).items():
        if value is None or value == envelope.subject:
            continue
        parts.append(f"{name}={_word(value)}")
    text = " ".join(parts)
    return text if len(text) <= DATA_LENGTH else text[: DATA_LENGTH - 1] + "…"


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['amount']} {value['currency']}" if {"amount", "currency"} <= value.keys() else f"{{{len(value)}}}"
    return f"[{len(value)}]" if isinstance(value, list) else str(value)


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def printed(line: str) -> None:
    """What is in events comes from outside: none of it may steer the terminal."""
    typer.echo("".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in line))
