"""Payment over HTTP. Public endpoints are to look; money moves by the saga's internal ones only."""

from typing import Annotated, Any
from uuid import UUID

from chassis.access import Caller
from chassis.dependencies import Db, from_app
from chassis.freshness import MayLag
from chassis.paging import Cursor, Limit
from contracts import payments as contract
from contracts.errors import Problem
from contracts.paging import Page
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment import commands, queries
from services.payment.access import ACCESS
from services.payment.model import Account, Velocity
from services.payment.ports import PaymentProvider
from services.payment.schemas import LedgerEntryView, MovementView, PaymentDetail, PaymentView, TransactionView

UNKNOWN_OUTCOME: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The outcome is not known yet: repeat the request"}
}

public = ACCESS.router(prefix="/api/v1/payments", tags=["payment"])
internal = ACCESS.router(prefix="/internal/v1/payments", tags=["internal"], responses=UNKNOWN_OUTCOME)


Provider = Annotated[PaymentProvider, from_app(PaymentProvider)]
Limits = Annotated[Velocity, from_app(Velocity)]


@public.get("", summary="List payments, newest first")
async def list_payments(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    status: PaymentStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[PaymentView]:
    return await queries.list_payments(db, caller, order_id=order_id, status=status, cursor=cursor, limit=limit)


@public.get("/ledger", summary="The ledger, newest entries first")
async def list_ledger(
    db: MayLag,
    caller: Caller,
    payment_id: UUID | None = None,
    account: Account | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[LedgerEntryView]:
    return await queries.list_ledger(db, caller, payment_id=payment_id, account=account, cursor=cursor, limit=limit)


@public.get("/{payment_id}", summary="One payment, with its movements")
async def get_payment(db: Db, caller: Caller, payment_id: UUID) -> PaymentDetail:
    return await queries.get_payment(db, caller, payment_id)


@public.get("/{payment_id}/movements", summary="How a payment's money moves")
async def list_movements(
    db: Db, caller: Caller, payment_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[MovementView]:
    return await queries.list_movements(db, caller, payment_id, cursor, limit)


@public.get("/{payment_id}/transactions", summary="Those movements of a payment that succeeded", deprecated=True)
async def list_transactions(
    db: Db, caller: Caller, payment_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[TransactionView]:
    return await queries.list_transactions(db, caller, payment_id, cursor, limit)


@internal.post("/process", summary="Take the money, or hold it")
async def process(db: Db, provider: Provider, velocity: Limits, command: ProcessPayment) -> contract.Payment:
    return await commands.process_payment(db, provider, command, velocity=velocity)


@internal.post("/capture", summary="Take what is held, or some of it")
async def capture(db: Db, provider: Provider, command: CapturePayment) -> contract.Payment:
    return await commands.capture_payment(db, provider, command)


@internal.post("/refund", summary="Give some of it back, or undo a payment")
async def refund(db: Db, provider: Provider, command: RefundPayment) -> contract.Payment:
    return await commands.refund_payment(db, provider, command)
