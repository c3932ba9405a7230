"""What all tables of notification share."""

from typing import ClassVar

from sqlalchemy import MetaData

from chassis.database import new_metadata
from chassis.inbox import Inbox
from chassis.outbox import Outbox
from chassis.statements import Record

metadata = new_metadata()
outbox = Outbox("notification", metadata)
inbox = Inbox(metadata)


class Table(Record):
    metadata: ClassVar[MetaData] = metadata
