"""What a replay asks for against what the history holds, and whether what it stores can still be read."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from cli.release.recorded import commands_in, ends_within_a_task, payloads_in
from cli.release.replaying import Command, Replayed, in_clear, replay
from cli.release.surface import Kind, Part, Place, surface
from temporal.names import ORDER_WORKFLOW
from worker import SANDBOX

TEXTS = frozenset({"detail", "for_staff", "message", "reason", "review_reason", "waiting_for", "what"})
"""Fields in which people tell people something. They may be worded otherwise."""
PLACES = {
    "activity": (Kind.ACTIVITY, Part.ARGUMENT, "argument"),
    "local activity": (Kind.ACTIVITY, Part.ARGUMENT, "argument"),
    "next run": (Kind.WORKFLOW, Part.ARGUMENT, "argument"),
    "update": (Kind.UPDATE, Part.RESULT, "result"),
    "result": (Kind.WORKFLOW, Part.RESULT, "result"),
}


def differences(recorded: Iterable[Command], replayed: Iterable[Command], *, is_whole: bool = True) -> Iterator[str]:
    """Where they differ: one line each, which begins with where it is. Kinds are compared one by one: Temporal itself minds the
    order among them. Not `is_whole`: the replay may ask for more, because the history ended within a task."""
    before, now = _by_kind(recorded), _by_kind(replayed)
    for kind in {**before, **now}:
        for was, be in zip_longest(before.get(kind, ()), now.get(kind, ())):
            if was is None and not is_whole:
                break
            if was is None or be is None:
                yield f"{_named(kind, (was or be).name)}: {'not asked for any more' if be is None else 'asked for, and was not'}"
                break
            if was.name != be.name:
                yield f"{_named(kind, be.name)}: takes the place of {was.name}"
                break
            yield from _changed(_named(kind, was.name), _normal(was), _normal(be))


def unreadable(history: WorkflowHistory) -> Iterator[str]:
    """Which of the payloads that the history stores this tree cannot read."""
    for place, value in payloads_in(history):
        if surface().type_of(place.kind, place.name, place.part) is None:
            if place.part == Part.ARGUMENT or place.kind == Kind.ACTIVITY:
                yield f"{place}: nobody takes it any more"
            continue
        try:
            _read(place, value)
        except ValidationError as error:
            yield from (f"{place}{_path(it['loc'])}: {it['msg']}" for it in error.errors(include_url=False, include_input=False))


def broken(replayed: Replayed, local: Iterable[Command] | None = None) -> list[str]:
    """Why this tree cannot go on with an order whose history it replayed; nothing, if it can.

    Without `local`, what its local activities were asked is not compared: it is in no history."""
    history = replayed.history
    if replayed.failure is not None:
        return [replayed.failure, *unreadable(history)]
    recorded, commands = [*commands_in(history), *(local or ())], replayed.commands
    if local is None:
        commands = tuple(command for command in commands if command.kind != "local activity")
    return [*differences(recorded, commands, is_whole=not ends_within_a_task(history)), *unreadable(history)]


async def replays(history: WorkflowHistory, converter: DataConverter) -> str | None:
    """None if this tree can go on with the order, else why not."""

    async def clear() -> AsyncIterator[WorkflowHistory]:
        yield await in_clear(history, converter.payload_codec)

    async for replayed in replay(clear(), runner=SANDBOX):
        return "; ".join(broken(replayed)) or None
    return None


def _by_kind(commands: Iterable[Command]) -> dict[str, list[Command]]:
    found: dict[str, list[Command]] = {}
    for command in commands:
        found.setdefault(command.kind, []).append(command)
    return found


def _named(kind: str, name: str) -> str:
    return f"{kind} {name}".strip()


@cache
def _adapter(place: Place) -> TypeAdapter[Any]:
    return TypeAdapter(surface().types[place])


def _read(place: Place, value: Any) -> Any:
    return _adapter(place).validate_json(json.dumps(value))


def _normal(command: Command) -> Any:
    """Its content as this tree would write it: a field that is new stands there with its default."""
    content = dict(command.content)
    if place := PLACES.get(command.kind):
        kind, part, key = place
        at = Place(kind, command.name or ORDER_WORKFLOW, part)
        if content.get(key) and at in surface().types:
            content[key] = [_as_written(at, value) for value in content[key]]
    return content


def _as_written(place: Place, value: Any) -> Any:
    try:
        return _adapter(place).dump_python(_read(place, value), mode="json")
    except ValidationError:
        return value  # `unreadable` says so


def _changed(path: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in {**was, **now}:
            if name not in TEXTS:
                yield from _changed(f"{path}.{name}", was.get(name), now.get(name))
    elif isinstance(was, Sequence) and isinstance(now, Sequence) and not isinstance(was, str) and len(was) == len(now):
        for before, be in zip(was, now, strict=True):
            yield from _changed(path, before, be)
    elif was != now:
        yield f"{path}: {now}, and was {was}"


def _path(location: Sequence[int | str]) -> str:
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in location)
