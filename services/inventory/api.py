"""Inventory over HTTP: the public endpoints, and the internal ones of the saga."""

from typing import Annotated
from uuid import UUID

from fastapi import Query

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.freshness import MayLag
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, Limit
from contracts import inventory as contract
from contracts.base import ParcelNumber, ProductId, ShortText, WarehouseId
from contracts.inventory import ReleaseInventory, ReserveInventory, RestockInventory, ShipInventory
from contracts.paging import Page
from services.inventory import commands, queries
from services.inventory.access import ACCESS
from services.inventory.model import PromiseLimit
from services.inventory.schemas import ReceiptRequest, StockView, WarehouseView

public = ACCESS.router(prefix="/api/v1", tags=["inventory"])
internal = ACCESS.router(prefix="/internal/v1", tags=["internal"])


Limits = Annotated[PromiseLimit, from_app(PromiseLimit)]


@public.get("/warehouses", summary="List warehouses")
async def list_warehouses(db: MayLag, caller: Caller, cursor: Cursor = None, limit: Limit = 50) -> Page[WarehouseView]:
    return await queries.list_warehouses(db, caller, cursor, limit)


@public.put("/warehouses/{warehouse_id}", summary="Add or rename a warehouse")
async def put_warehouse(db: Db, caller: Caller, warehouse_id: WarehouseId, name: Annotated[ShortText, Query()]) -> WarehouseView:
    return WarehouseView.of(await commands.put_warehouse(db, caller, warehouse_id, name))


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


@public.post("/stock/receipts", status_code=201, summary="Receive goods")
async def receive_stock(db: Db, caller: Caller, receipt: ReceiptRequest, key: RequiredKey) -> list[StockView]:
    levels = await commands.receive_stock(
        db,
        caller,
        receipt.warehouse_id,
        receipt.lines,
        key,
        reference=receipt.reference,
        low_stock_threshold=receipt.low_stock_threshold,
    )
    return [StockView.of(level) for level in levels]


@internal.post("/reservations", summary="Reserve all lines or none")
async def reserve(db: Db, limits: Limits, command: ReserveInventory) -> contract.Reservation:
    return await commands.reserve_inventory(db, command, limit=limits.units)


@internal.post("/reservations/release", summary="Undo a reservation")
async def release(db: Db, command: ReleaseInventory) -> contract.Reservation:
    return await commands.release_inventory(db, command)


@internal.post("/reservations/ship", summary="The reserved goods leave")
async def ship(db: Db, command: ShipInventory) -> contract.Reservation:
    return await commands.ship_inventory(db, command)


@internal.post("/reservations/restock", summary="The goods have come back")
async def restock(db: Db, command: RestockInventory) -> contract.Reservation:
    return await commands.restock_inventory(db, command)


@internal.get("/reservations/{order_id}", summary="What a parcel of an order has been promised")
async def get_reservation(db: Db, order_id: UUID, parcel: ParcelNumber = 1) -> contract.Reservation:
    return await queries.get_reservation(db, order_id, parcel)
