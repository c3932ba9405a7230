"""Inventory over HTTP. Public endpoints are for staff; internal ones for the saga."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from chassis.dependencies import Db
from chassis.idempotency import RequiredKey
from chassis.paging import Cursor, Limit
from chassis.tokens import require
from contracts import inventory as contract
from contracts.base import ProductId, ShortText, WarehouseId
from contracts.identity import Role
from contracts.inventory import HoldReservation, ReleaseInventory, ReserveInventory, ShipInventory
from contracts.paging import Page
from services.inventory import commands, queries
from services.inventory.schemas import ReceiptRequest, StockView, WarehouseView

STAFF = require(Role.WAREHOUSE, Role.SUPPORT, Role.ADMIN, Role.SERVICE)
WAREHOUSE = require(Role.WAREHOUSE, Role.ADMIN)

public = APIRouter(prefix="/api/v1", tags=["inventory"])
internal = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[require(Role.SERVICE)])


async def unpaid_units_of(request: Request) -> int:
    """Units of one product that a customer may hold unpaid, as app.py put it into `app.state.unpaid_units`."""
    limit: int = request.app.state.unpaid_units
    return limit


UnpaidUnits = Annotated[int, Depends(unpaid_units_of)]


@public.get("/warehouses", dependencies=[STAFF], summary="List warehouses")
async def list_warehouses(db: Db, cursor: Cursor = None, limit: Limit = 50) -> Page[WarehouseView]:
    return await queries.list_warehouses(db, cursor, limit)


@public.put("/warehouses/{warehouse_id}", dependencies=[WAREHOUSE], summary="Add or rename a warehouse")
async def put_warehouse(db: Db, warehouse_id: WarehouseId, name: Annotated[ShortText, Query()]) -> WarehouseView:
    return await commands.add_warehouse(db, WarehouseView(warehouse_id=warehouse_id, name=name))


@public.get("/stock", dependencies=[STAFF], summary="List stock levels")
async def list_stock(
    db: Db,
    warehouse_id: WarehouseId | None = None,
    product_id: ProductId | None = None,
    low: Annotated[bool, Query(description="Only what is at or under its alert threshold.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[StockView]:
    return await queries.list_stock(db, warehouse_id=warehouse_id, product_id=product_id, low=low, cursor=cursor, limit=limit)


@public.post("/stock/receipts", status_code=201, dependencies=[WAREHOUSE], summary="Receive goods")
async def receive_stock(db: Db, receipt: ReceiptRequest, key: RequiredKey) -> list[StockView]:
    return await commands.receive_stock(db, receipt, key)


@internal.post("/reservations", summary="Reserve all lines or none")
async def reserve(db: Db, limit: UnpaidUnits, command: ReserveInventory) -> contract.Reservation:
    return await commands.reserve_inventory(db, command, limit=limit)


@internal.post("/reservations/hold", summary="Keep a reservation")
async def hold(db: Db, limit: UnpaidUnits, command: HoldReservation) -> contract.Reservation:
    return await commands.hold_reservation(db, command, limit=limit)


@internal.post("/reservations/release", summary="Undo a reservation")
async def release(db: Db, command: ReleaseInventory) -> contract.Reservation:
    return await commands.release_inventory(db, command)


@internal.post("/reservations/ship", summary="The reserved goods leave")
async def ship(db: Db, command: ShipInventory) -> contract.Reservation:
    return await commands.ship_inventory(db, command)


@internal.get("/reservations/{order_id}", summary="What an order has been promised")
async def get_reservation(db: Db, order_id: UUID) -> contract.Reservation:
    return await queries.get_reservation(db, order_id)
