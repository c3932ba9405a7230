"""SQL as asyncpg takes it: statements written by SQLAlchemy, and how rows of a SQLModel table become objects and rows again."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import asyncpg
from pydantic_core import to_json
from sqlalchemy import ARRAY, Select, TextClause, and_, bindparam, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg as dialect_of_asyncpg
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.sql import ColumnElement, Executable
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

Row = TypeVar("Row", bound=SQLModel)
VERSION = "version"
"""The column that rises with every change, in the tables that have it."""
_PARAMETER = re.compile(r"\$(\d+)")
_DIALECT: Any = dialect_of_asyncpg.dialect(json_serializer=lambda value: to_json(value).decode())  # type: ignore[no-untyped-call]


class Record(SQLModel):
    """A row of a table. It is made like any SQLModel, but quickly: SQLAlchemy need not note each value that is set, and pydantic
    need not look at the signature of each default's factory for every row again. A factory takes no arguments."""

    if not TYPE_CHECKING:  # the types are those of the columns

        def __init__(self, **values: Any) -> None:
            fixed, factories = _defaults(type(self))
            own = instance_dict(self)
            own.update(fixed)
            known = type(self).model_fields
            own.update((name, value) for name, value in values.items() if name in known)
            for name, factory in factories:
                if name not in values:
                    own[name] = factory()


@lru_cache(None)
def _defaults(kind: type[SQLModel]) -> tuple[dict[str, Any], list[tuple[str, Callable[[], Any]]]]:
    """What columns hold if nothing is said: the same for every row, or made for each."""
    fixed: dict[str, Any] = {}
    made: list[tuple[str, Callable[[], Any]]] = []
    for name, field in kind.model_fields.items():
        if field.default_factory is not None:
            made.append((name, cast(Callable[[], Any], field.default_factory)))
        elif isinstance(field.default, list | dict | set):
            made.append((name, partial(deepcopy, field.default)))
        elif not field.is_required():
            fixed[name] = field.default
    return fixed, made


@dataclass(frozen=True)
class Prepared:
    """A statement as asyncpg takes it."""

    sql: str
    names: tuple[str, ...]
    """Of its parameters, in their order."""
    given: Mapping[str, Any]
    """The values that the statement itself had."""
    encoders: Mapping[str, Callable[[Any], Any]]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters, as the database takes them. KeyError: one is missing."""
        return [self._encoded(name, values[name] if name in values else self.given[name]) for name in self.names]

    def _encoded(self, name: str, value: Any) -> Any:
        encode = self.encoders.get(name)
        return encode(value) if encode and value is not None else value


def prepared(statement: Executable) -> Prepared:
    """Compile a statement. One that is executed often is compiled once, beside the command, with `bindparam`s."""
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    names = tuple(compiled.positiontup or ())
    encoders = {name: encode for name in names if name in compiled.binds and (encode := _encoder(compiled.binds[name].type))}
    given = {
        name: value for name, value in compiled.params.items() if name not in compiled.binds or not compiled.binds[name].required
    }
    return Prepared(str(compiled), names, given, encoders)


def sql(statement: str) -> Prepared:
    """A statement that is written in SQL, with `:name` for its parameters."""
    return prepared(TextClause(statement))


@dataclass(frozen=True)
class Locked(Generic[Row]):
    """Rows of one kind that are to be changed."""

    table: "RowTable"
    statement: Prepared


def locked(
    kind: type[Row],
    which: ColumnElement[bool] | TextClause,
    *,
    order_by: Any = None,
    limit: int | ColumnElement[int] | None = None,
    skip_locked: bool = False,
) -> Locked[Row]:
    """The rows of a kind for which something holds. By default in the order of their keys: another order is safe only with
    `skip_locked`, which passes over what others work on."""
    table = table_of(kind)
    columns = [table.columns[name] for name in table.names]
    order = order_by if order_by is not None else [table.columns[name] for name in table.key]
    query = select(*columns).where(which).order_by(*(order if isinstance(order, list) else [order]))
    if limit is not None:
        query = query.limit(limit)
    return Locked(table, prepared(query.with_for_update(skip_locked=skip_locked)))


@dataclass(frozen=True)
class Write:
    """A statement that changes or adds rows, and returns one for each."""

    sql: str
    arguments: Sequence[Any]
    rows: int
    """How many it must change; 0: as many as it will, and it returns nothing."""

    def check(self, returned: Sequence[Any]) -> None:
        """AssertionError: it changed fewer rows; so somebody else has changed one that was locked."""
        if len(returned) != self.rows:
            raise AssertionError(f"{len(returned)} instead of {self.rows} rows by: {self.sql}")


def all_together(writes: Sequence[Write]) -> Write:
    """Several writes as one statement. Within a transaction: what it changed in vain, `check` tells."""
    if len(writes) == 1:
        return writes[0]
    sql = _joined(tuple((write.sql, len(write.arguments), write.rows > 0) for write in writes))
    return Write(sql, [argument for write in writes for argument in write.arguments], sum(write.rows for write in writes))


NOT_ALL = asyncpg.DivisionByZeroError
"""What a statement of `all_or_nothing` raises: PostgreSQL has no plainer way to fail in the middle of one."""


def all_or_nothing(writes: Sequence[Write]) -> Write:
    """Several writes as one statement that changes nothing if one of them changes too few rows. It needs no transaction."""
    rows = sum(write.rows for write in writes)
    sql = _joined(tuple((write.sql, len(write.arguments), write.rows > 0) for write in writes), rows)
    return Write(sql, [argument for write in writes for argument in write.arguments], 1)


@lru_cache(1000)
def _joined(statements: tuple[tuple[str, int, bool], ...], needed: int | None = None) -> str:
    parts, returning, first = [], ["select 1 where false"], 0
    for number, (sql, arguments, returns) in enumerate(statements):
        parts.append(f"w{number} as ({_PARAMETER.sub(lambda match, first=first: f'${int(match[1]) + first}', sql)})")  # type: ignore[misc]
        if returns:
            returning.append(f"select 1 from w{number}")  # noqa: S608 - our own statements
        first += arguments
    returned = " union all ".join(returning)
    if needed is not None:
        returned = f"select 1 / (count(*) = {needed})::int from ({returned}) as returned"  # noqa: S608 - our own statements
    return f"with {', '.join(parts)} {returned}"


class RowTable:
    """How rows of a kind are read and written."""

    def __init__(self, kind: type[SQLModel]) -> None:
        mapper: Mapper[Any] = inspect(kind)
        self.kind, self.mapper = kind, mapper
        self._table = cast(Any, mapper.local_table)
        self.columns: dict[str, Any] = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
        self.names = tuple(self.columns)
        self.name: str = self._table.name
        self.key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        self.version = (VERSION,) if VERSION in self.columns else ()
        self._encoders = {name: encode for name, column in self.columns.items() if (encode := _encoder(column.type))}
        self._decoders = {name: decode for name, column in self.columns.items() if (decode := _decoder(column.type))}
        self._types = {name: column.type.compile(dialect=_DIALECT) for name, column in self.columns.items()}
        self._sqls: dict[Any, str] = {}
        self._adding_if_new: dict[tuple[str, ...], Prepared] = {}
        self.get = self.getting(self.key)
        self.read = _sql(self._select(self.key))

    def getting(self, by: tuple[str, ...]) -> str:
        """Select one row by these columns, and lock it."""
        return self._once(("get", by), lambda: _sql(self._select(by).with_for_update()))

    def is_numbered(self, row: SQLModel) -> bool:
        """Whether the database gives a row its key."""
        return any(getattr(row, name) is None for name in self.key)

    def adding_if_new(self, row: SQLModel) -> Prepared:
        """Insert a row, unless one is in its way; returns the key of what it inserted."""
        names = self._to_insert(self.is_numbered(row))
        values = {self.columns[name].name: bindparam(name, type_=self.columns[name].type) for name in names}
        if names not in self._adding_if_new:
            adding: Any = postgresql.insert(self._table).values(values).on_conflict_do_nothing()
            adding = adding.returning(*[self.columns[name] for name in self.key])
            # The values come encoded.
            self._adding_if_new[names] = replace(prepared(adding), encoders={})
        return self._adding_if_new[names]

    def adding_all_if_new(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        """Statement and arguments that insert rows with keys of their own, in this order, unless one is in the way; returns the
        keys of what it inserted."""
        columns, arrays = ", ".join(map(self._quoted, self.names)), self._arrays(self.names)
        keys = ", ".join(map(self._quoted, self.key))
        sql = f"insert into {self.name} ({columns}) select * from unnest({arrays}) on conflict do nothing returning {keys}"  # noqa: S608 - names only
        return sql, *([row[name] for row in rows] for name in self.names)

    def getting_all(self, keys: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Statement and arguments that select the rows with these primary keys, and lock them in their order."""
        sql, *arguments = self.reading_all(keys)
        return f"{sql} order by {', '.join(map(self._quoted, self.key))} for update", *arguments

    def reading_all(self, keys: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Statement and arguments that select the rows with these primary keys."""
        columns = ", ".join(map(self._quoted, self.names))
        sql = f"select {columns} from {self.name} where {self._is_one_of()}"  # noqa: S608 - names only
        return sql, *map(list, zip(*keys, strict=True))

    def deleting_all(self, keys: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Statement and arguments that delete the rows with these primary keys."""
        return f"delete from {self.name} where {self._is_one_of()}", *map(list, zip(*keys, strict=True))  # noqa: S608 - names only

    def inserts(self, rows: Sequence[Mapping[str, Any]], *, is_numbered: bool, if_missing: bool = False) -> Iterator[Write]:
        """Insert rows. `if_missing`: only those of which nothing that is unique is there."""
        ending, returned = ("on conflict do nothing", 0) if if_missing else ("returning 1", 1)
        names = self._to_insert(is_numbered)
        columns = ", ".join(map(self._quoted, names))
        if len(rows) > 1 and self._fits_arrays(names):
            insert_all = f"insert into {self.name} ({columns}) select * from unnest({self._arrays(names)}) {ending}"  # noqa: S608 - names only
            yield Write(insert_all, [[row[name] for row in rows] for name in names], returned * len(rows))
            return
        places = ", ".join(f"${n}::{self._types[name]}" for n, name in enumerate(names, 1))
        insert_one = f"insert into {self.name} ({columns}) values ({places}) {ending}"  # noqa: S608 - names only
        for row in rows:
            yield Write(insert_one, [row[name] for name in names], returned)

    def updates(self, changed: tuple[str, ...], rows: Sequence[Mapping[str, Any]], *, rises: bool) -> Iterator[Write]:
        """Update the changed columns of rows, if they still have this version, which rises or stays."""
        names = (*changed, *self.key, *self.version)
        known = (*self.key, *self.version)
        if len(rows) > 1 and self._fits_arrays(names):
            sets = [f"{self._quoted(name)} = new.{self._quoted(name)}" for name in changed]
            sets += [f"{name} = old.{name} + 1" for name in self.version if rises]
            same = " and ".join(f"old.{self._quoted(name)} = new.{self._quoted(name)}" for name in known)
            update_all = (
                f"update {self.name} as old set {', '.join(sets)} "  # noqa: S608 - names only
                f"from unnest({self._arrays(names)}) as new ({', '.join(map(self._quoted, names))}) where {same} returning 1"
            )
            yield Write(update_all, [[row[name] for row in rows] for name in names], len(rows))
            return
        sets = [f"{self._quoted(name)} = ${n}::{self._types[name]}" for n, name in enumerate(changed, 1)]
        sets += [f"{name} = {name} + 1" for name in self.version if rises]
        same = self._same(known, len(changed) + 1)
        update_one = f"update {self.name} set {', '.join(sets)} where {same} returning 1"  # noqa: S608 - names only
        for row in rows:
            yield Write(update_one, [row[name] for name in names], 1)

    def holding(self, values: Mapping[str, Any]) -> Write:
        """Lock a row, if it still has this version."""
        known = (*self.key, *self.version)
        sql = self._once("hold", lambda: f"select 1 from {self.name} where {self._same(known, 1)} for update")  # noqa: S608 - names only
        return Write(sql, [values[name] for name in known], 1)

    def encoded(self, row: SQLModel) -> dict[str, Any]:
        """The values of a row as the database takes them."""
        values, encoders = instance_dict(row), self._encoders
        return {
            name: encoders[name](value) if name in encoders and value is not None else value
            for name in self.names
            for value in (values.get(name),)
        }

    def encoded_key(self, key: Sequence[Any]) -> list[Any]:
        return [
            self._encoders[name](value) if name in self._encoders else value for name, value in zip(self.key, key, strict=True)
        ]

    def made(self, found: asyncpg.Record) -> tuple[Any, dict[str, Any]]:
        """A row as an object, and its values as they were found."""
        values = dict(zip(self.names, found, strict=True))
        row: Any = self.kind.__new__(self.kind)
        self.mapper.class_manager.setup_instance(row)
        own = instance_dict(row)
        own.update(values)
        for name, decode in self._decoders.items():
            if own[name] is not None:
                own[name] = decode(own[name])
        return row, self.encoded(row)

    def copied(self, row: SQLModel) -> tuple[Any, dict[str, Any]]:
        """Another object for the same row, and its values as the database takes them."""
        copy: Any = self.kind.__new__(self.kind)
        self.mapper.class_manager.setup_instance(copy)
        values = instance_dict(row)
        instance_dict(copy).update((name, deepcopy(values.get(name))) for name in self.names)
        return copy, self.encoded(copy)

    def _same(self, names: Sequence[str], first: int) -> str:
        return " and ".join(f"{self._quoted(name)} = ${n}::{self._types[name]}" for n, name in enumerate(names, first))

    def _select(self, by: Iterable[str]) -> Select[Any]:
        return select(*[self.columns[name] for name in self.names]).where(self._where(by))

    def _where(self, by: Iterable[str]) -> ColumnElement[bool]:
        return and_(*[self.columns[name] == bindparam(name, type_=self.columns[name].type) for name in by])

    def _is_one_of(self) -> str:
        return f"({', '.join(map(self._quoted, self.key))}) in (select * from unnest({self._arrays(self.key)}))"  # noqa: S608 - names only

    def _arrays(self, names: Sequence[str]) -> str:
        return ", ".join(f"${n}::{self._types[name]}[]" for n, name in enumerate(names, 1))

    def _to_insert(self, is_numbered: bool) -> tuple[str, ...]:
        return tuple(name for name in self.names if not (is_numbered and name in self.key))

    def _fits_arrays(self, names: Sequence[str]) -> bool:
        """Whether the values of each column can be one array: PostgreSQL has no arrays of arrays."""
        return not any(isinstance(self.columns[name].type, ARRAY) for name in names)

    def _quoted(self, name: str) -> str:
        return f'"{self.columns[name].name}"'

    def _once(self, key: Any, make: Callable[[], str]) -> str:
        if key not in self._sqls:
            self._sqls[key] = make()
        return self._sqls[key]


def _sql(statement: Executable) -> str:
    return prepared(statement).sql


@lru_cache(None)
def table_of(kind: type[SQLModel]) -> RowTable:
    return RowTable(kind)


def _encoder(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    encode: Callable[[Any], Any] | None = kind.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return encode


def _decoder(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    decode: Callable[[Any], Any] | None = kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
    return decode
