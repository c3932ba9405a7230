"""Goods that come back by returns, and whole parcels that do. Both hold all reservations of their order first, so that nothing
comes back twice; then stock, as everybody does."""

from collections import Counter

from sqlalchemy import bindparam
from sqlmodel import col

from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts import inventory as contract
from contracts.inventory import MovementKind, ReceiveReturn, RestockInventory
from services.inventory.commands.choosing import by_warehouse, stock_added, stock_of
from services.inventory.commands.ledger import record
from services.inventory.commands.waiting import fill, who_waits
from services.inventory.model import (
    Cause,
    ReceivedReturn,
    Reservation,
    Warehouse,
    outbox,
    require_still_out,
    units_of,
    unknown_reservation,
    unknown_warehouse,
)

_OF_ORDER = locked(Reservation, col(Reservation.order_id) == bindparam("order_id"))
_RETURNS_OF_ORDER = locked(ReceivedReturn, col(ReceivedReturn.order_id) == bindparam("order_id"))


@transaction
async def receive_return(work: UnitOfWork, command: ReceiveReturn) -> contract.ReturnReceived:
    """Put what is good of a return on the shelf, and write off what is damaged. Refusals: warehouse_unknown, conflict."""
    reservations = await work.all(_OF_ORDER, order_id=command.order_id)
    earlier = await work.all(_RETURNS_OF_ORDER, order_id=command.order_id)
    known = next((one for one in earlier if one.number == command.number), None)
    if known is not None:
        known.require_same(command)
        return known.reply()
    if await work.read(Warehouse, command.warehouse_id) is None:
        raise unknown_warehouse(command.warehouse_id)
    require_still_out(units_of(command.lines), reservations, earlier)
    received = ReceivedReturn.of(command)
    work.add(received)
    outbox.add(work, received.shelved())
    came = [line for line in command.lines if line.good or line.damaged]
    stock = await stock_added(work, [command.warehouse_id], sorted({line.product_id for line in came}))
    for line in came:
        shelf = stock[command.warehouse_id, line.product_id]
        record(work, shelf.take_back(line.good, line.damaged, received.reference))
    held = by_warehouse(list(stock.values()))
    await fill(work, held, await who_waits(work, held))
    return received.reply()


@transaction
async def restock_inventory(work: UnitOfWork, command: RestockInventory) -> contract.Reservation:
    """Put a parcel that was shipped, and has come back whole, on the shelf again. Refusals: conflict, not_found."""
    reservations = await work.all(_OF_ORDER, order_id=command.order_id)
    reservation = next((one for one in reservations if one.parcel == command.parcel), None)
    if reservation is None:
        raise unknown_reservation()
    earlier = await work.all(_RETURNS_OF_ORDER, order_id=command.order_id)
    if earlier and reservation.status == contract.ReservationStatus.SHIPPED:
        back = Counter({line.product_id: line.quantity for line in reservation.stock_lines})
        require_still_out(back, reservations, earlier)
    event = reservation.restock(command.reason)
    if event is not None:
        stock = await stock_of(work, reservation)
        waiting = await who_waits(work, stock)
        cause = Cause(MovementKind.RETURN, f"return of {reservation.reference}")
        shelf = stock[reservation.warehouse_id or ""]
        record(work, [shelf[line.product_id].move(line.quantity, cause) for line in event.lines])
        outbox.add(work, event)
        await fill(work, stock, waiting)
    return reservation.reply()
