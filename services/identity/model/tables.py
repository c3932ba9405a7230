"""The tables of identity's database, and its outbox."""

from typing import ClassVar

from sqlalchemy import MetaData

from chassis.database import new_metadata
from chassis.outbox import Outbox
from chassis.statements import Record

metadata = new_metadata()
outbox = Outbox("identity", metadata)


class Table(Record):
    metadata: ClassVar[MetaData] = metadata
