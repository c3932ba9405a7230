"""The digest of what runs out: gathered per warehouse, told once a day."""

from collections.abc import Sequence
from datetime import datetime, time

from sqlalchemy import bindparam
from sqlmodel import col

from chassis.clock import utc_now
from chassis.statements import locked, sql
from chassis.store import UnitOfWork, transaction
from contracts.events import CloudEvent, LowStockAlert
from contracts.notifications import NotificationKind
from services.notification.commands.queueing import Staff, Told, queue_all
from services.notification.model import Audience, LowStock, last_digest, listed

_WAREHOUSES = sql("select distinct warehouse_id from low_stock where told_at <= :before order by warehouse_id")
_OF_WAREHOUSE = locked(
    LowStock, (col(LowStock.warehouse_id) == bindparam("warehouse_id")) & (col(LowStock.told_at) <= bindparam("before"))
)


async def gather(work: UnitOfWork, alerts: Sequence[tuple[LowStockAlert, CloudEvent]]) -> None:
    """Keep what runs out for the next digest, each product once with its newest figures."""
    new = [
        LowStock(
            warehouse_id=alert.warehouse_id,
            product_id=alert.product_id,
            available=alert.available,
            threshold=alert.threshold,
            told_at=envelope.time,
        )
        for alert, envelope in alerts
    ]
    for (alert, envelope), (product, _) in zip(alerts, await work.get_or_add_all(new), strict=True):
        product.tell(alert.available, alert.threshold, envelope.time)


@transaction
async def send_digests(work: UnitOfWork, staff: Staff, at: time) -> int:
    """Tell each warehouse what was gathered until the last time of day that this is done; how many warehouses that were. Nothing
    is told of nothing."""
    due = last_digest(at, utc_now())
    warehouses = [row["warehouse_id"] for row in await work.rows(_WAREHOUSES, before=due)]
    return sum([await _send(work, staff, warehouse_id, due) for warehouse_id in warehouses])


async def _send(work: UnitOfWork, staff: Staff, warehouse_id: str, due: datetime) -> bool:
    """Whether there was something to tell: another process may have been faster."""
    products = await work.all(_OF_WAREHOUSE, warehouse_id=warehouse_id, before=due)
    if not products:
        return False
    told = Told(
        kind=NotificationKind.LOW_STOCK,
        about=f"warehouse {warehouse_id} {due.isoformat()}",
        values={"warehouse": warehouse_id, "products": listed(products), "count": str(len(products))},
        audience=Audience.WAREHOUSE,
        warehouse_id=warehouse_id,
    )
    await queue_all(work, staff, [told])
    await work.delete(*products)
    return True
