"""Inventory over HTTP: the public endpoints, and the internal ones of the saga."""

from collections.abc import Awaitable
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, Limit
from contracts import inventory as contract
from contracts.base import ParcelNumber, ProductId, ShortText, WarehouseId
from contracts.inventory import (
    MovementKind,
    MoveReservation,
    ReceiveReturn,
    ReleaseInventory,
    ReserveInventory,
    RestockInventory,
    ShipInventory,
    SplitReservation,
)
from contracts.paging import Page
from services.inventory import queries
from services.inventory.access import ACCESS
from services.inventory.commands import announcing, reservations, returns, warehousing
from services.inventory.commands.reservations import Reservations
from services.inventory.model import ExpectedStatus, Stock
from services.inventory.schemas import (
    AdjustmentRequest,
    AnnouncementRequest,
    BackorderView,
    CountRequest,
    ExpectedReceiptView,
    MovedReceipt,
    MovementView,
    OutlookView,
    ReceiptRequest,
    StockView,
    TransferRequest,
    WarehouseView,
    announced,
    versions_seen,
    why,
)

public = ACCESS.router(prefix="/api/v1", tags=["inventory"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


Reserving = Annotated[Reservations, from_app(Reservations)]


@public.get("/warehouses", summary="List warehouses")
async def list_warehouses(db: MayLag, caller: Caller, cursor: Cursor = None, limit: Limit = 50) -> Page[WarehouseView]:
    return await queries.list_warehouses(db, caller, cursor, limit)


@public.get("/warehouses/{warehouse_id}", summary="Get a warehouse")
async def get_warehouse(db: Db, caller: Caller, warehouse_id: WarehouseId, response: Response) -> WarehouseView:
    return tagged(response, await queries.get_warehouse(db, caller, warehouse_id))


@public.put("/warehouses/{warehouse_id}", summary="Add or rename a warehouse, or say where it is")
async def put_warehouse(
    db: Db,
    caller: Caller,
    warehouse_id: WarehouseId,
    name: Annotated[ShortText, Query()],
    seen: OptionalSeenVersion,
    response: Response,
    country: Annotated[str | None, Query(pattern=r"^[A-Z]{2}$", description="Where it is. Absent: as it was.")] = None,
    region: Annotated[ShortText | None, Query()] = None,
    postal_code: Annotated[str, Query(max_length=16)] = "",
) -> WarehouseView:
    place = contract.Place(country=country, region=region, postal_code=postal_code) if country else None
    with showing(WarehouseView.of):
        warehouse = await warehousing.put_warehouse(db, caller, warehouse_id, name, seen, place=place)
    return tagged(response, WarehouseView.of(warehouse))


@public.get("/stock", summary="List stock levels")
async def list_stock(
    db: MayLag,
    caller: Caller,
    warehouse_id: WarehouseId | None = None,
    product_id: ProductId | None = None,
    low: Annotated[bool, Query(description="Only what is at or under its alert threshold.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[StockView]:
    return await queries.list_stock(
        db, caller, warehouse_id=warehouse_id, product_id=product_id, low=low, cursor=cursor, limit=limit
    )


@public.get("/stock/movements", summary="The ledger of stock, newest first")
async def list_movements(
    db: Db,
    caller: Caller,
    warehouse_id: WarehouseId | None = None,
    product_id: ProductId | None = None,
    kind: MovementKind | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[MovementView]:
    return await queries.list_movements(
        db, caller, warehouse_id=warehouse_id, product_id=product_id, kind=kind, cursor=cursor, limit=limit
    )


@public.get("/stock/{warehouse_id}/{product_id}", summary="Get the stock of a product at a warehouse")
async def get_stock(db: Db, caller: Caller, warehouse_id: WarehouseId, product_id: ProductId, response: Response) -> StockView:
    return tagged(response, await queries.get_stock(db, caller, warehouse_id, product_id))


@public.post("/stock/receipts", status_code=201, summary="Receive goods")
async def receive_stock(db: Db, caller: Caller, receipt: ReceiptRequest, key: RequiredKey) -> list[StockView]:
    return await _levels(
        warehousing.receive_stock(
            db,
            caller,
            receipt.warehouse_id,
            receipt.lines,
            key,
            reference=receipt.reference,
            low_stock_threshold=receipt.low_stock_threshold,
            seen=versions_seen(receipt.lines),
            announced=announced(receipt.lines),
        )
    )


@public.post("/stock/adjustments", status_code=201, summary="Write down what was found, lost or damaged")
async def adjust_stock(db: Db, caller: Caller, adjustment: AdjustmentRequest, key: RequiredKey) -> list[StockView]:
    changes = {line.product_id: line.change for line in adjustment.lines}
    return await _levels(warehousing.adjust_stock(db, caller, adjustment.warehouse_id, changes, key, **why(adjustment)))


@public.post("/stock/counts", status_code=201, summary="Write down what was counted")
async def count_stock(db: Db, caller: Caller, count: CountRequest, key: RequiredKey) -> list[StockView]:
    counted = {line.product_id: line.counted for line in count.lines}
    return await _levels(warehousing.count_stock(db, caller, count.warehouse_id, counted, key, **why(count)))


@public.post("/stock/transfers", status_code=201, summary="Take goods from one warehouse to another")
async def transfer_stock(db: Db, caller: Caller, transfer: TransferRequest, key: RequiredKey) -> list[StockView]:
    """Answers with the levels at the one, then at the other."""
    quantities = {line.product_id: line.quantity for line in transfer.lines}
    places = (transfer.from_warehouse_id, transfer.to_warehouse_id)
    return await _levels(warehousing.transfer_stock(db, caller, *places, quantities, key, **why(transfer)))


@public.post("/expected-receipts", status_code=201, summary="Announce goods that should arrive")
async def announce_receipt(
    db: Db, caller: Caller, announcement: AnnouncementRequest, key: RequiredKey, response: Response
) -> ExpectedReceiptView:
    receipt = await announcing.announce_receipt(db, caller, key=key, **dict(announcement))
    return tagged(response, ExpectedReceiptView.of(receipt))


@public.get("/expected-receipts", summary="Goods that were announced, the first to arrive first")
async def list_expected_receipts(
    db: Db,
    caller: Caller,
    warehouse_id: WarehouseId | None = None,
    product_id: ProductId | None = None,
    status: ExpectedStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ExpectedReceiptView]:
    return await queries.list_expected_receipts(
        db, caller, warehouse_id=warehouse_id, product_id=product_id, status=status, cursor=cursor, limit=limit
    )


@public.get("/expected-receipts/{receipt_id}", summary="Get announced goods")
async def get_expected_receipt(db: Db, caller: Caller, receipt_id: UUID, response: Response) -> ExpectedReceiptView:
    return tagged(response, await queries.get_expected_receipt(db, caller, receipt_id))


@public.post("/expected-receipts/{receipt_id}/move", summary="Announced goods come on another day")
async def move_receipt(
    db: Db, caller: Caller, receipt_id: UUID, moved: MovedReceipt, seen: OptionalSeenVersion, response: Response
) -> ExpectedReceiptView:
    """Whoever waits for them is told."""
    with showing(ExpectedReceiptView.of):
        receipt = await announcing.move_receipt(db, caller, receipt_id, moved.expected_on, seen)
    return tagged(response, ExpectedReceiptView.of(receipt))


@public.post("/expected-receipts/{receipt_id}/cancel", summary="Announced goods do not come")
async def cancel_receipt(
    db: Db, caller: Caller, receipt_id: UUID, seen: OptionalSeenVersion, response: Response
) -> ExpectedReceiptView:
    """Whoever waits for them is told."""
    with showing(ExpectedReceiptView.of):
        receipt = await announcing.cancel_receipt(db, caller, receipt_id, seen)
    return tagged(response, ExpectedReceiptView.of(receipt))


@public.get("/backorders", summary="Parcels that wait for goods, those that wait longest first")
async def list_backorders(
    db: Db, caller: Caller, product_id: ProductId | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[BackorderView]:
    """Who works at some warehouses sees those that may come from there."""
    return await queries.list_backorders(db, caller, product_id=product_id, cursor=cursor, limit=limit)


@public.get("/backorders/products/{product_id}", summary="When there will be some of a product")
async def get_outlook(db: Db, product_id: ProductId) -> OutlookView:
    return await queries.get_outlook(db, product_id)


async def _levels(changed: Awaitable[list[Stock]]) -> list[StockView]:
    """The levels after a change; a refusal as stale says what they are now."""
    with showing(StockView.of):
        return [StockView.of(level) for level in await changed]


@internal.post("/reservations", summary="Reserve what an order wants")
async def reserve(saga: Reserving, command: ReserveInventory) -> contract.Reservation:
    return await saga.reserve(command)


@internal.post("/reservations/release", summary="Undo a reservation")
async def release(db: Db, command: ReleaseInventory) -> contract.Reservation:
    return await reservations.release_inventory(db, command)


@internal.post("/reservations/ship", summary="The reserved goods leave")
async def ship(db: Db, command: ShipInventory) -> contract.Reservation:
    return await reservations.ship_inventory(db, command)


@internal.post("/reservations/restock", summary="The goods have come back")
async def restock(db: Db, command: RestockInventory) -> contract.Reservation:
    return await returns.restock_inventory(db, command)


@internal.post("/inventory/receive-return", summary="Some goods have come back by a return")
async def receive_return(db: Db, command: ReceiveReturn) -> contract.ReturnReceived:
    return await returns.receive_return(db, command)


@internal.post("/reservations/split", summary="Some of what a parcel was promised goes in a parcel of its own")
async def split(db: Db, command: SplitReservation) -> contract.Reservation:
    return await reservations.split_reservation(db, command)


@internal.post("/reservations/move", summary="What a parcel was promised goes under another number")
async def move(db: Db, command: MoveReservation) -> contract.Reservation:
    return await reservations.move_reservation(db, command)


@internal.get("/reservations/{order_id}", summary="What a parcel of an order has been promised")
async def get_reservation(db: Db, order_id: UUID, parcel: ParcelNumber = 1) -> contract.Reservation:
    return await queries.get_reservation(db, order_id, parcel)
