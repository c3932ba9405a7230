"""What changes an order's record: the saga's word. Each function is one transaction; each is idempotent."""

from sqlalchemy.dialects.postgresql import insert

from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.orders import AdvanceOrder, OpenOrder, OrderProgress
from services.order.model import Order, metadata, outbox

_ORDERS = metadata.tables["orders"]
_OPEN = insert(_ORDERS).on_conflict_do_nothing().returning(_ORDERS.c.order_id)


async def open_order(database: Database, command: OpenOrder) -> OrderProgress:
    """Write a new order down. Refusal: order_exists, if another saga opened it."""
    async with database.transaction() as session:
        order = Order.opened(command)
        if (await session.execute(_OPEN, order.model_dump())).scalar() is not None:
            await outbox.add(session, order.created())
            return order.progress()
        existing = await session.get_one(Order, command.order.order_id)
        existing.require_opened_by(command.workflow_run_id)
        return existing.progress()


async def advance_order(database: Database, command: AdvanceOrder) -> OrderProgress:
    """Note how far the order got. Refusals: order_unknown, illegal_transition."""
    async with database.transaction() as session:
        order = await session.get(Order, command.order_id, with_for_update=True)
        if order is None:
            raise Refusal(ErrorCode.ORDER_UNKNOWN, "This order was never opened.")
        await outbox.add(session, *order.advance(command))
        return order.progress()
