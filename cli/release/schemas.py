"""Which of the values that one JSON Schema describes another one does not accept: pure, for the schemas that pydantic makes.

Asked of a writer's schema and a reader's: what the one writes, the other must be able to read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

Json = dict[str, Any]
Problem = tuple[str, str]
"""Path of a field, and what is wrong with it."""
AT_MOST = {"maxLength": "long", "maxItems": "items", "maximum": "", "exclusiveMaximum": ""}
AT_LEAST = {"minLength": "long", "minItems": "items", "minimum": "", "exclusiveMinimum": ""}


@dataclass(frozen=True)
class Schema:
    """A schema with the document that its references point into."""

    schema: Json
    document: Json

    def at(self, schema: Json) -> "Schema":
        return replace(self, schema=schema)

    def alternatives(self) -> list["Schema"]:
        """The schema without references; one for each of its types."""
        schema = self.schema
        while "$ref" in schema:
            schema = {**_found(self.document, schema["$ref"]), **{key: value for key, value in schema.items() if key != "$ref"}}
        for part in schema.get("allOf", ()):
            for resolved in self.at(part).alternatives():
                schema = {**resolved.schema, **{key: value for key, value in schema.items() if key != "allOf"}}
        several = schema.get("anyOf") or schema.get("oneOf")
        if several:
            return [alternative for each in several for alternative in self.at(each).alternatives()]
        if isinstance(schema.get("type"), list):
            return [self.at({**schema, "type": kind}) for kind in schema["type"]]
        return [self.at(schema)]

    @property
    def type(self) -> str | None:
        """`object`, `string`, …; None if it takes anything."""
        if "type" in self.schema:
            return str(self.schema["type"])
        return "object" if "properties" in self.schema else None

    def properties(self) -> Mapping[str, "Schema"]:
        return {name: self.at(schema) for name, schema in self.schema.get("properties", {}).items()}

    def requires(self) -> frozenset[str]:
        return frozenset(self.schema.get("required", ()))


class Older(Enum):
    """Which side is from the release before: the other one must fit it."""

    WRITER = "writer"
    """What it wrote is read now. A field that nobody reads any more is lost."""
    READER = "reader"
    """It reads what is written now. A field that it does not know is passed over; one that is not written any more is missed."""


def unread(written: Schema, reader: Schema, older: Older, *, bounds: bool = True) -> set[Problem]:
    """What of that which is written so cannot be read so.

    Without `bounds`, of a reader that does not mind how long a text is, or how large a number."""
    return set(_Comparison(older, bounds).problems(written, reader, ""))


class _Comparison:
    def __init__(self, older: Older, bounds: bool) -> None:
        self._older, self._bounds = older, bounds
        self._under_way: list[tuple[int, int]] = []

    def problems(self, written: Schema, reader: Schema, path: str) -> Iterator[Problem]:
        accepted = reader.alternatives()
        for alternative in written.alternatives():
            yield from self._one(alternative, accepted, path)

    def _one(self, written: Schema, accepted: Sequence[Schema], path: str) -> Iterator[Problem]:
        if any(reader.type is None for reader in accepted):
            return
        fitting = [reader for reader in accepted if written.type == reader.type or (written.type, reader.type) in _NUMBERS]
        if not fitting:
            types = " or ".join(str(reader.type) for reader in accepted)
            yield path, f"is {written.type or 'anything'} where {types} is expected"
            return
        yield from min((list(self._fit(written, reader, path)) for reader in fitting), key=len)

    def _fit(self, written: Schema, reader: Schema, path: str) -> Iterator[Problem]:
        yield from self._values(written.schema, reader.schema, path)
        if self._bounds:
            yield from _bounds(written.schema, reader.schema, path)
        if reader.type == "array":
            yield from self.problems(
                written.at(written.schema.get("items", {})), reader.at(reader.schema.get("items", {})), f"{path}[]"
            )
        if reader.type == "object":
            pair = (id(written.schema.get("properties")), id(reader.schema.get("properties")))
            if pair in self._under_way and "properties" in reader.schema:
                return  # a type that contains itself
            self._under_way.append(pair)
            yield from self._fields(written, reader, path)
            self._under_way.pop()

    def _values(self, written: Json, reader: Json, path: str) -> Iterator[Problem]:
        known, given = _values(reader), _values(written)
        if known is None:
            return
        if given is None:
            yield path, f"is any {written.get('type')} where one of {', '.join(map(str, known))} is expected"
            return
        for value in given:
            if value not in known:
                yield path, f"{value} is not known"

    def _fields(self, written: Schema, reader: Schema, path: str) -> Iterator[Problem]:
        ours, theirs = written.properties(), reader.properties()
        for name, field in ours.items():
            if name in theirs:
                yield from self.problems(field, theirs[name], f"{path}.{name}")
            elif self._older is Older.WRITER and "additionalProperties" not in reader.schema:
                yield f"{path}.{name}", "removed"
            elif reader.schema.get("additionalProperties") is False:
                yield f"{path}.{name}", "removed" if self._older is Older.WRITER else "is refused by readers that do not know it"
        for name in theirs:
            if name not in ours and self._older is Older.READER:
                yield f"{path}.{name}", "removed"
            elif name not in ours and name in reader.requires():
                yield f"{path}.{name}", "is required, and is new"
            elif name in reader.requires() - written.requires():
                yield f"{path}.{name}", "is required, and was optional"
        values, read = written.schema.get("additionalProperties"), reader.schema.get("additionalProperties")
        if isinstance(values, dict) and isinstance(read, dict):
            yield from self.problems(written.at(values), reader.at(read), f"{path}{{}}")


_NUMBERS = {("integer", "number")}


def _found(document: Json, reference: str) -> Json:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def _values(schema: Json) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _bounds(written: Json, reader: Json, path: str) -> Iterator[Problem]:
    for limit, of in AT_MOST.items():
        if limit in reader and (limit not in written or written[limit] > reader[limit]):
            yield path, f"at most {_number(reader[limit])} {of}".strip() + f", and was {_number(written.get(limit))}"
    for limit, of in AT_LEAST.items():
        if limit in reader and (limit not in written or written[limit] < reader[limit]):
            yield path, f"at least {_number(reader[limit])} {of}".strip() + f", and was {_number(written.get(limit))}"
    for rule in ("pattern", "format", "multipleOf"):
        if rule in reader and written.get(rule) != reader[rule]:
            yield path, f"{rule} {reader[rule]}, and was {written.get(rule, 'without')}"


def _number(value: float | None) -> str:
    """As a person writes it: 1000000 and not 1e+06."""
    return "without limit" if value is None else str(int(value)) if value == int(value) else str(value)
