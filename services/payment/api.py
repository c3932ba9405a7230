"""Payment over HTTP. Public endpoints are for customers and staff to look; money moves by the saga's internal ones only."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from chassis.dependencies import Db
from chassis.paging import Cursor, Limit
from chassis.tokens import Caller, require
from contracts import payments as contract
from contracts.errors import Problem
from contracts.identity import Role
from contracts.paging import Page
from contracts.payments import CapturePayment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment import commands, queries
from services.payment.model import Velocity
from services.payment.ports import PaymentProvider
from services.payment.schemas import PaymentView, TransactionView

UNKNOWN_OUTCOME: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The outcome is not known yet: repeat the request"}
}

public = APIRouter(prefix="/api/v1/payments", tags=["payment"])
internal = APIRouter(
    prefix="/internal/v1/payments", tags=["internal"], dependencies=[require(Role.SERVICE)], responses=UNKNOWN_OUTCOME
)


async def provider_of(request: Request) -> PaymentProvider:
    """The payment provider, as app.py put it into `app.state.provider`."""
    provider: PaymentProvider = request.app.state.provider
    return provider


async def velocity_of(request: Request) -> Velocity:
    """What may be bought in a short time, as app.py put it into `app.state.velocity`."""
    velocity: Velocity = request.app.state.velocity
    return velocity


Provider = Annotated[PaymentProvider, Depends(provider_of)]
Limits = Annotated[Velocity, Depends(velocity_of)]


@public.get("", summary="List payments: your own, or all for staff")
async def list_payments(
    db: Db,
    caller: Caller,
    order_id: UUID | None = None,
    status: PaymentStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[PaymentView]:
    return await queries.list_payments(db, caller, order_id=order_id, status=status, cursor=cursor, limit=limit)


@public.get("/{payment_id}", summary="One payment")
async def get_payment(db: Db, caller: Caller, payment_id: UUID) -> PaymentView:
    return await queries.get_payment(db, caller, payment_id)


@public.get("/{payment_id}/transactions", summary="How a payment's money moved")
async def list_transactions(
    db: Db, caller: Caller, payment_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Page[TransactionView]:
    return await queries.list_transactions(db, caller, payment_id, cursor, limit)


@internal.post("/process", summary="Take the money, or hold it")
async def process(db: Db, provider: Provider, velocity: Limits, command: ProcessPayment) -> contract.Payment:
    return await commands.process_payment(db, provider, command, velocity=velocity)


@internal.post("/capture", summary="Take what is held")
async def capture(db: Db, provider: Provider, command: CapturePayment) -> contract.Payment:
    return await commands.capture_payment(db, provider, command)


@internal.post("/refund", summary="Undo a payment")
async def refund(db: Db, provider: Provider, command: RefundPayment) -> contract.Payment:
    return await commands.refund_payment(db, provider, command)
