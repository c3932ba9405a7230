"""Money is kept alike in every table: as a whole number of minor units, in a column that holds any amount (review-1.md, I8)."""

import pytest
from sqlalchemy import text

from chassis.database import Database
from tests.conftest import Databases

COLUMNS = text("select column_name, data_type from information_schema.columns where table_schema = 'public'")
FRACTIONS = {"numeric", "real", "double precision", "money"}


@pytest.mark.parametrize("service", ["analytics", "payment", "shipping"])
async def test_i8_money_is_minor_units_in_every_table(databases: Databases, service: str) -> None:
    database = Database(await databases.new(service))
    async with database.reading() as session:
        columns = (await session.execute(COLUMNS)).all()
    await database.close()
    assert {kind for name, kind in columns if name.endswith("_minor")} == {"bigint"}
    assert not FRACTIONS & {kind for _, kind in columns}
