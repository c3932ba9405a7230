"""A row that is made quickly is the row that SQLModel would make, also that of an aggregate."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import uuid_utils.compat as uuids
from sqlalchemy import Column, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from chassis.clock import utc_now
from chassis.database import enum_column, new_metadata, time_column
from chassis.statements import Record, table_of
from chassis.store import Aggregate
from contracts.payments import PaymentStatus


class _Columns(SQLModel):
    metadata: ClassVar[MetaData] = new_metadata()

    customer_id: UUID
    name: str | None = None
    amount_minor: int = 0


class Slow(_Columns, table=True):
    row_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    status: PaymentStatus = Field(default=PaymentStatus.INITIATED, sa_column=enum_column(PaymentStatus))
    lines: list[str] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


class Quick(_Columns, Record, table=True):
    row_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)
    status: PaymentStatus = Field(default=PaymentStatus.INITIATED, sa_column=enum_column(PaymentStatus))
    lines: list[str] = Field(default_factory=list, sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(default_factory=utc_now, sa_column=time_column())


class Versioned(_Columns, Aggregate, table=True):
    row_id: UUID = Field(default_factory=uuids.uuid7, primary_key=True)


GIVEN: dict[str, Any] = {"row_id": uuid4(), "lines": ["a"], "at": utc_now()}


@pytest.mark.parametrize("more", [{}, {"name": "N", "amount_minor": 5}, {"name": None, "status": PaymentStatus.VOIDED}])
def test_what_is_given_and_what_is_not(more: dict[str, Any]) -> None:
    values = GIVEN | {"customer_id": uuid4()} | more
    quick, slow = Quick(**values), Slow(**values)
    assert quick.model_dump() == slow.model_dump()
    assert table_of(Quick).encoded(quick) == table_of(Slow).encoded(slow)


def test_each_row_has_defaults_of_its_own() -> None:
    one, other = Quick(customer_id=uuid4()), Quick(customer_id=uuid4())
    one.lines.append("a")
    assert (one.lines, other.lines) == (["a"], [])
    assert one.row_id < other.row_id
    assert one.at <= other.at


def test_a_row_is_changed_copied_and_validated_as_any() -> None:
    row = Quick(customer_id=uuid4())
    row.name, row.amount_minor = "N", 7
    assert row.model_copy(update={"name": "M"}).name == "M"
    assert (row.name, row.model_dump()["amount_minor"]) == ("N", 7)
    assert Quick.model_validate(row.model_dump(mode="json")) == row


def test_values_are_checked_where_that_is_asked_for() -> None:
    made = Quick.model_validate({"customer_id": str(uuid4()), "amount_minor": "3"})
    assert (made.amount_minor, made.lines, made.status) == (3, [], PaymentStatus.INITIATED)


def test_an_aggregate_begins_with_its_first_version() -> None:
    made, validated = Versioned(customer_id=uuid4()), Versioned.model_validate({"customer_id": uuid4()})
    assert (made.version, validated.version) == (1, 1)
    assert set(made.model_dump()) == {"version", "customer_id", "name", "amount_minor", "row_id"}
