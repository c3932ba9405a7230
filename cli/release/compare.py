"""What a change of the platform breaks, by comparing what two releases promise: pure.

Who reads what an older build wrote, and who writes what an older one reads, decides what is harmless. Services are deployed
before the worker, and orders stay with the build that began them. So an older worker's commands are read by newer services and
never the other way round, while replies, updates and signals are read by both.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli.release.schemas import Json, Older, Schema, unread

BOTH = frozenset({Older.WRITER, Older.READER})
ONLY_KEPT = frozenset({Older.WRITER})
DIRECTIONS: Mapping[tuple[str, str], frozenset[Older]] = {
    ("workflow", "argument"): BOTH,
    ("workflow", "result"): ONLY_KEPT,
    ("update", "argument"): BOTH,
    ("update", "result"): ONLY_KEPT,
    ("signal", "argument"): BOTH,
    ("query", "result"): ONLY_KEPT,
    ("activity", "argument"): ONLY_KEPT,
    ("activity", "result"): BOTH,
}
"""By kind and part of a payload. A memo is read and written by the order service."""
UNITS = re.compile(
    r"\b(milliseconds?|seconds?|minutes?|hours?|days?|weeks?|grams?|kilograms?|pounds?|cents?|minor units?|percent|bytes?|UTC)\b",
    re.I,
)
METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


def compare_surfaces(old: Json, new: Json) -> list[str]:
    """What of the saga's promises (surface.json) is broken: one line each, which begins with where it is."""
    return sorted({*_compare_facts(old["facts"], new["facts"]), *_compare_types(old, new)})


# ── Types ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _compare_types(old: Json, new: Json) -> Iterator[str]:
    for place, before in old["types"].items():
        now = new["types"].get(place)
        if now is None:
            yield f"{place}: removed"
            continue
        kind, part = place.split(" ")[0], place.split(" ")[-1]
        was = {way: Schema(schema, old) for way, schema in before.items()}
        be = {way: Schema(schema, new) for way, schema in now.items()}
        for older in DIRECTIONS.get((kind, part), BOTH):
            yield from _newly_unread(place, was, be, older)
        yield from (f"{place}{path}: {what}" for path, what in _other_meanings(was["read"], be["read"], "", ()))


def _newly_unread(place: str, old: Mapping[str, Schema], new: Mapping[str, Schema], older: Older) -> Iterator[str]:
    """Without what one release by itself seems not to read: schemas say less than the code does."""
    if older is Older.WRITER:
        problems = unread(old["written"], new["read"], older) - unread(old["written"], old["read"], older)
    else:
        problems = unread(new["written"], old["read"], older) - unread(new["written"], new["read"], older)
    return (f"{place}{path}: {what}" for path, what in problems)


def _other_meanings(old: Schema, new: Schema, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Fields that are read as before, and mean something else."""
    for before, now in zip(old.alternatives(), new.alternatives(), strict=False):
        if "items" in before.schema and "items" in now.schema:
            yield from _other_meanings(before.at(before.schema["items"]), now.at(now.schema["items"]), f"{path}[]", above)
        if id(before.schema.get("properties")) in above:
            continue
        deeper = (*above, id(before.schema.get("properties")))
        theirs = now.properties()
        for name, field in before.properties().items():
            if name in theirs:
                there = f"{path}.{name}"
                yield from _other_meaning(field.schema, theirs[name].schema, there)
                yield from _other_meanings(field, theirs[name], there, deeper)


def _other_meaning(old: Json, new: Json, path: str) -> Iterator[tuple[str, str]]:
    if "default" in old and "default" in new and old["default"] != new["default"]:
        yield path, f"by default {new['default']}, and was {old['default']}"
    before, now = _units(old), _units(new)
    if before and before != now:
        yield path, f"in {' '.join(sorted(now)) or 'no unit that is told'}, and was in {' '.join(sorted(before))}"


def _units(schema: Json) -> set[str]:
    return {unit.lower().rstrip("s") + "s" for unit in UNITS.findall(schema.get("description", ""))}


# ── Names, keys and deadlines ────────────────────────────────────────────────────────────────────────────────────────────


def _compare_facts(old: Json, new: Json) -> Iterator[str]:
    yield from _removed("workflow", old["workflows"], new["workflows"])
    for kind, names in old["handlers"].items():
        yield from _removed(kind, names, new["handlers"].get(kind, ()))
    for name, was in old["start"].items():
        yield from _changed(f"start of an order, {name.replace('_', ' ')}", was, new["start"].get(name))
    for name, was in old["ids"].items():
        if name in new["ids"]:
            yield from _changed(f"id {name}", was, new["ids"][name])
    yield from _removed("search attribute", old["search_attributes"], new["search_attributes"])
    for name, was, now in _common(old, new, "search_attributes"):
        yield from _changed(f"search attribute {name}", was, now)
    yield from _removed("activity", old["activities"], new["activities"])
    for name, was, now in _common(old, new, "activities"):
        for what in ("service", "path", "idempotent_by"):
            if was[what] is not None:
                yield from _changed(f"activity {name}, {what.replace('_', ' ')}", was[what], now[what])
    yield from _removed("step", old["steps"], new["steps"])
    for name, was, now in _common(old, new, "steps"):
        yield from (f"step {name}: {what}" for what in _shortened(was, now))
    for name, was, now in _common(old, new, "time_outs"):
        if now < was:
            yield f"time-out {name}: {now:g}, and was {was:g}"


def _shortened(old: Json, new: Json) -> Iterator[str]:
    """What of a step's promise is less than it was."""
    yield from (what for what in _changed("activity", old["activity"], new["activity"]))
    for limit, told in (("give_up_after_s", "given up after {:g} s"), ("maximum_attempts", "given up after {:g} tries")):
        if new[limit] is not None and (old[limit] is None or new[limit] < old[limit]):
            yield f"{told.format(new[limit])}, and was {'never' if old[limit] is None else told.format(old[limit])}"
    was, now = (steps["maximum_interval_s"] or float("inf") for steps in (old, new))
    if now > was:
        yield f"tried again after {now:g} s, and was after {was:g} s"
    before, after = set(old["final_refusals"]), set(new["final_refusals"])
    yield from (f"ends on {code}, which was tried again" for code in sorted(after - before))
    yield from (f"{code} is tried again for ever, and was an end" for code in sorted(before - after))


def _removed(kind: str, old: Any, new: Any) -> Iterator[str]:
    return (f"{kind} {name}: removed" for name in old if name not in new)


def _changed(where: str, old: Any, new: Any) -> Iterator[str]:
    if old != new:
        yield f"{where}: {_text(new)}, and was {_text(old)}"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | dict) else str(value)


def _common(old: Json, new: Json, section: str) -> list[tuple[str, Any, Any]]:
    return [(name, was, new[section][name]) for name, was in old[section].items() if name in new[section]]


# ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_events(old: Json, new: Json) -> list[str]:
    """What of the AsyncAPI document is broken. Old events are read again by new consumers, new ones by old consumers."""
    return sorted({*_compare_channels(old, new)})


def _compare_channels(old: Json, new: Json) -> Iterator[str]:
    for name, channel in old["channels"].items():
        now = new["channels"].get(name)
        if now is None:
            yield f"topic {name}: removed"
            continue
        yield from _changed(f"topic {name}, address", channel["address"], now["address"])
        yield from (f"event {event} on {name}: removed" for event in channel["messages"] if event not in now["messages"])
    for name, was, now in _common(old["components"], new["components"], "messages"):
        key, key_now = (message["bindings"]["kafka"]["key"]["description"] for message in (was, now))
        yield from _changed(f"event {name}, key", key, key_now)
        before, after = Schema(was["payload"], old), Schema(now["payload"], new)
        both = {"read": before, "written": before}, {"read": after, "written": after}
        for older in Older:
            yield from _newly_unread(f"event {name}", *both, older)
        yield from (f"event {name}{path}: {what}" for path, what in _other_meanings(before, after, "", ()))


# ── The API ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_apis(old: Json, new: Json) -> list[str]:
    """What of the OpenAPI document is broken for clients of the old one."""
    return sorted({*_compare_paths(old, new)})


def _compare_paths(old: Json, new: Json) -> Iterator[str]:
    for path, item in old["paths"].items():
        for method, was in _operations(item):
            now = dict(_operations(new["paths"].get(path, {}))).get(method)
            where = f"{method.upper()} {path}"
            if now is None:
                yield f"{where}: removed"
            else:
                yield from (f"{where} {what}" for what in _compare_operation(was, now, old, new))


def _operations(item: Json) -> list[tuple[str, Json]]:
    return [(method, item[method]) for method in METHODS if method in item]


def _compare_operation(was: Json, now: Json, old: Json, new: Json) -> Iterator[str]:
    if now.get("security") and not was.get("security"):
        yield "login: required now"
    before, after = _parameters(was, old), _parameters(now, new)
    yield from (f"{name}: removed" for name in before if name not in after)
    yield from (f"{name}: is required, and is new" for name, it in after.items() if it.get("required") and name not in before)
    for name, it in before.items():
        if name in after:
            if after[name].get("required") and not it.get("required"):
                yield f"{name}: is required, and was optional"
            yield from _unread_request(name, it.get("schema", {}), after[name].get("schema", {}), old, new)
    body, body_now = was.get("requestBody"), now.get("requestBody")
    if body_now and body_now.get("required") and not body:
        yield "body: is required, and is new"
    for media, content in (body or {}).get("content", {}).items():
        taken = (body_now or {}).get("content", {}).get(media)
        if taken is None:
            yield f"body {media}: removed"
        else:
            yield from _unread_request("body", content.get("schema", {}), taken.get("schema", {}), old, new)
    for status, answer in was.get("responses", {}).items():
        given = now.get("responses", {}).get(status)
        if given is None:
            yield f"answer {status}: removed"
            continue
        for media, content in answer.get("content", {}).items():
            if media not in given.get("content", {}):
                yield f"answer {status} {media}: removed"
            else:
                written = Schema(given["content"][media].get("schema", {}), new)
                read = Schema(content.get("schema", {}), old)
                problems = unread(written, read, Older.READER, bounds=False) | {*_other_meanings(read, written, "", ())}
                yield from (f"answer {status}{path}: {what}" for path, what in problems)


def _unread_request(where: str, was: Json, now: Json, old: Json, new: Json) -> Iterator[str]:
    problems = unread(Schema(was, old), Schema(now, new), Older.WRITER)
    yield from (f"{where}{path}: {what}" for path, what in problems)
    yield from (f"{where}{path}: {what}" for path, what in _other_meanings(Schema(was, old), Schema(now, new), "", ()))


def _parameters(operation: Json, document: Json) -> dict[str, Json]:
    found = [Schema(it, document).alternatives()[0].schema for it in operation.get("parameters", ())]
    return {f"{it['in']} {it['name']}": it for it in found}
