"""SQL as asyncpg takes it: statements written by SQLAlchemy, and how rows of a SQLModel table become objects and rows again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import asyncpg
from sqlalchemy import Select, TextClause, and_, bindparam, delete, insert, inspect, select
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
_DIALECT: Any = dialect_of_asyncpg.dialect()  # type: ignore[no-untyped-call]


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
    which: ColumnElement[bool],
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
class Adding:
    """How a row is inserted. `is_numbered`: its key is given by the database."""

    sql: str
    names: tuple[str, ...]
    is_numbered: bool

    def of(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] for name in self.names]


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
        self._updates: dict[tuple[str, ...], str] = {}
        self._adds: dict[tuple[bool, bool], Adding] = {}
        self._gets: dict[tuple[str, ...], str] = {}
        self.get = self.getting(self.key)
        self.read = self._sql(self._select(self.key))
        self.delete = self._sql(delete(self._table).where(self._where(self.key)))

    def getting(self, by: tuple[str, ...]) -> str:
        """Select one row by these columns, and lock it."""
        if by not in self._gets:
            self._gets[by] = self._sql(self._select(by).with_for_update())
        return self._gets[by]

    def adding(self, row: SQLModel, *, or_ignore: bool = False) -> Adding:
        """Insert a row. A key that is None is given by the database."""
        is_numbered = any(getattr(row, name) is None for name in self.key)
        if (is_numbered, or_ignore) not in self._adds:
            names = tuple(name for name in self.names if not (is_numbered and name in self.key))
            values = {self.columns[name].name: bindparam(name, type_=self.columns[name].type) for name in names}
            adding = postgresql.insert(self._table) if or_ignore else insert(self._table)
            statement = prepared(adding.values(values).on_conflict_do_nothing() if or_ignore else adding.values(values))  # type: ignore[attr-defined]
            self._adds[is_numbered, or_ignore] = Adding(statement.sql, statement.names, is_numbered)
        return self._adds[is_numbered, or_ignore]

    def updating(self, changed: tuple[str, ...]) -> str:
        """Update one row: parameters are the changed columns, the key, the version."""
        if changed not in self._updates:
            sets = [f'"{self.columns[name].name}" = ${n}' for n, name in enumerate(changed, 1)]
            where = [f'"{self.columns[name].name}" = ${n}' for n, name in enumerate((*self.key, *self.version), len(changed) + 1)]
            rising = [f"{name} = {name} + 1" for name in self.version]
            self._updates[changed] = (
                f'update "{self.name}" set {", ".join([*sets, *rising])} where {" and ".join(where)} returning 1'  # noqa: S608 - names only
            )
        return self._updates[changed]

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

    def _select(self, by: Iterable[str]) -> Select[Any]:
        return select(*[self.columns[name] for name in self.names]).where(self._where(by))

    def _where(self, by: Iterable[str]) -> ColumnElement[bool]:
        return and_(*[self.columns[name] == bindparam(name, type_=self.columns[name].type) for name in by])

    def _sql(self, statement: Executable) -> str:
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
