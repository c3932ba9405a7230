"""Goods that suppliers have announced: who waits for goods is told by them when to expect them."""

from datetime import date
from uuid import UUID

from chassis.access import Grant
from chassis.idempotency import IdempotencyKey
from chassis.store import UnitOfWork, transaction
from services.inventory.model import ExpectedReceipt, Warehouse, idempotency, unknown_receipt, unknown_warehouse


@transaction
async def announce_receipt(
    work: UnitOfWork,
    caller: Grant,
    warehouse_id: str,
    product_id: str,
    quantity: int,
    expected_on: date,
    key: IdempotencyKey,
    *,
    reference: str,
) -> ExpectedReceipt:
    """Goods should arrive at a warehouse. Refusals: warehouse_unknown, idempotency_key_reused."""
    if not caller.reaches(warehouse=warehouse_id) or await work.read(Warehouse, warehouse_id) is None:
        raise unknown_warehouse(warehouse_id)
    if (earlier := await idempotency.earlier_reply(work, key)) is not None:
        return ExpectedReceipt.model_validate(earlier)
    receipt = ExpectedReceipt(
        warehouse_id=warehouse_id,
        product_id=product_id,
        announced=quantity,
        quantity=quantity,
        expected_on=expected_on,
        reference=reference,
        actor=caller.subject,
    )
    work.add(receipt)
    await idempotency.remember(work, key, receipt.model_dump(mode="json"))
    return receipt


@transaction
async def move_receipt(
    work: UnitOfWork, caller: Grant, receipt_id: UUID, expected_on: date, seen: int | None = None
) -> ExpectedReceipt:
    """It will arrive on another day. Refusals: not_found, conflict, stale_version."""
    receipt = await _announced(work, caller, receipt_id)
    receipt.require_version(seen)
    receipt.move(expected_on)
    return receipt


@transaction
async def cancel_receipt(work: UnitOfWork, caller: Grant, receipt_id: UUID, seen: int | None = None) -> ExpectedReceipt:
    """It will not arrive. Refusals: not_found, conflict, stale_version."""
    receipt = await _announced(work, caller, receipt_id)
    receipt.require_version(seen)
    receipt.cancel()
    return receipt


async def _announced(work: UnitOfWork, caller: Grant, receipt_id: UUID) -> ExpectedReceipt:
    receipt = await work.get(ExpectedReceipt, receipt_id)
    if receipt is None or not caller.reaches(warehouse=receipt.warehouse_id):
        raise unknown_receipt()
    return receipt
