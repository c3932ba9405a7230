"""Looks at the consumers' dead letters, and decides about them. Each consumer has its own, in its own database."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import typer
from pydantic import ValidationError
from sqlalchemy.engine import RowMapping

from chassis import dead_letters
from chassis.database import Database
from chassis.dead_letters import LetterState
from chassis.logs import mask
from cli.databases import chosen, opened, with_table
from cli.topics import printed
from contracts.events import CloudEvent

POLL_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Selection(dead_letters.Selection):
    """Which letters are meant, and of which consumer."""

    consumer: str | None = None

    @property
    def is_everything(self) -> bool:
        return not (self.consumer or self.letters or self.order or self.type or self.since or self.until)


async def show_list(urls: Mapping[str, str], selection: Selection, *, limit: int, page: int, as_json: bool) -> int:
    """Print letters, those that failed first at first; returns the exit code."""
    found: list[tuple[str, RowMapping]] = []

    async def read(name: str, database: Database) -> None:
        async with database.reading() as session:
            rows = await dead_letters.selected(session, selection, limit=page * limit + 1)
        found.extend((name, row) for row in rows)

    await _at_each(urls, selection, read)
    found.sort(key=lambda item: (item[1]["failed_at"] or item[1]["created_at"], item[1]["seq"]))
    shown = found[(page - 1) * limit : page * limit]
    for name, row in shown:
        printed(json.dumps(_as_json(name, row)) if as_json else _as_lines(name, row))
    if not shown and not as_json:
        printed("No dead letters.")
    if len(found) > page * limit:
        typer.echo(f"There are more: --page {page + 1}", err=True)
    return 0


async def show_one(urls: Mapping[str, str], selection: Selection) -> int:
    """Print all that is known of one letter, without personal data; returns the exit code."""
    found: list[dict[str, Any]] = []

    async def read(name: str, database: Database) -> None:
        async with database.reading() as session:
            rows = await dead_letters.selected(session, selection, limit=1)
        found.extend(_as_json(name, row, whole=True) for row in rows)

    await _at_each(urls, selection, read)
    for letter in found:
        printed(json.dumps(letter, indent=2, ensure_ascii=False))
    if not found:
        typer.echo("No consumer has such a letter.", err=True)
    return 0 if found else 1


async def replay(urls: Mapping[str, str], selection: Selection, *, wait_s: float) -> int:
    """Hand letters back to the consumers that they belong to, and wait for what becomes of them; returns the exit code."""
    marked: dict[str, list[UUID]] = {}

    async def mark(name: str, database: Database) -> None:
        marked[name] = await dead_letters.hand_back(database, selection)

    await _at_each(urls, selection, mark)
    return await outcome(urls, marked, wait_s=wait_s)


async def outcome(urls: Mapping[str, str], marked: Mapping[str, Sequence[UUID]], *, wait_s: float) -> int:
    """Wait until the consumers have tried what is handed to them, and tell; 0 if all of it is applied."""
    deadline = time.monotonic() + wait_s
    code = 0
    for name, ids in marked.items():
        if not ids:
            continue
        printed(f"{name}: {len(ids)} handed back")
        async with opened(urls[name]) as database:
            while True:
                async with database.reading() as session:
                    rows = await dead_letters.states(session, ids)
                waiting = sum(row["state"] == LetterState.REPLAY for row in rows)
                if not waiting or time.monotonic() > deadline:
                    break
                await asyncio.sleep(POLL_S)
        failed = [row for row in rows if row["state"] == LetterState.OPEN]
        printed(f"{name}: {len(ids) - waiting - len(failed)} applied, {len(failed)} failed again, {waiting} still to be tried")
        for row in failed[:10]:
            printed(f"    {row['letter_id']}  {_masked(row['error'])}")
        if waiting:
            typer.echo(f"The consumer of {name} has not come to them; it will, when it runs and gets what it needs.", err=True)
        code = 1 if failed or waiting else code
    if not any(marked.values()):
        printed("Nothing to hand back.")
    return code


async def drop(urls: Mapping[str, str], selection: Selection, reason: str) -> int:
    """Settle letters without their effect; the reason is kept. Returns the exit code."""

    async def settle(name: str, database: Database) -> None:
        if count := await dead_letters.drop(database, selection, reason):
            printed(f"{name}: {count} dropped")

    await _at_each(urls, selection, settle)
    return 0


async def _at_each(urls: Mapping[str, str], selection: Selection, do: Callable[[str, Database], Awaitable[None]]) -> None:
    for name in chosen(await with_table(urls, "dead_letters"), selection.consumer, "consumer"):
        async with opened(urls[name]) as database:
            await do(name, database)


def _as_lines(consumer: str, row: RowMapping) -> str:
    at = f"{row['failed_at'] or row['created_at']:%Y-%m-%d %H:%M:%S}"
    what = f"{row['type']} {row['subject']}" if row["type"] else f"(no event) {row['size']} bytes"
    place = f"{row['topic']}/{row['partition']}/{row['offset']}"
    settled = f"\n    dropped: {mask(row['reason'])}" if row["reason"] else ""
    first = f"{at}  {consumer:<13} {row['letter_id']}  {row['state']:<8} {place:<24} {what}  attempts: {row['attempts']}"
    return f"{first}\n    {_masked(row['error'])}{settled}"


def _as_json(consumer: str, row: RowMapping, *, whole: bool = False) -> dict[str, Any]:
    names = ("topic", "partition", "offset", "type", "subject", "state", "attempts", "size")
    times = ("event_time", "created_at", "failed_at", "settled_at")
    letter = {"letter_id": str(row["letter_id"]), "consumer": consumer, **{name: row[name] for name in names}}
    letter |= {name: row[name].isoformat() for name in times if row[name]}
    letter |= {"error": _masked(row["error"]), "reason": mask(row["reason"]), "sha256": row["digest"].hex()}
    if row["value"] is None:
        letter["kept"] = "by reference: as long as the broker has the record at this offset"
    elif whole:
        letter |= _content(row["value"])
    return letter


def _content(value: bytes) -> dict[str, Any]:
    try:
        return {"event": mask(CloudEvent.model_validate_json(value).model_dump(mode="json", exclude_none=True))}
    except ValidationError:
        return {"text": mask(value[:2000].decode(errors="replace"))}


def _masked(error: str | None) -> str:
    return " ".join(str(mask(error or "")).split())
