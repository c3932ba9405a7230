"""What is running out, until the digest of its warehouse tells of it."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta

from sqlmodel import Field

from chassis.clock import utc_now
from chassis.database import time_column
from chassis.store import Aggregate
from services.notification.model.tables import Table

MOST_LISTED = 200


class LowStock(Table, Aggregate, table=True):
    """A product that runs out at a warehouse, with the figures that were told last."""

    __tablename__ = "low_stock"

    warehouse_id: str = Field(primary_key=True, max_length=40)
    product_id: str = Field(primary_key=True, max_length=40)
    available: int
    threshold: int
    told_at: datetime = Field(default_factory=utc_now, sa_column=time_column())

    def tell(self, available: int, threshold: int, at: datetime) -> None:
        """Newer figures; older ones change nothing."""
        if at >= self.told_at:
            self.available, self.threshold, self.told_at = available, threshold, at


def listed(products: Sequence[LowStock]) -> str:
    """One line a product, what is shortest of what is wanted first."""
    shortest = sorted(products, key=lambda one: (one.available - one.threshold, one.product_id))
    lines = [f"{one.product_id}: {one.available} left of {one.threshold} wanted" for one in shortest[:MOST_LISTED]]
    more = len(products) - MOST_LISTED
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def last_digest(at: time, now: datetime) -> datetime:
    """The moment of the last digest that is due, if it comes each day at this time (UTC)."""
    today = datetime.combine(now.date(), at, now.tzinfo)
    return today if today <= now else today - timedelta(days=1)
