"""Payment over HTTP: to look, to settle what is owed, the provider's webhook, and the saga's internal endpoints."""

import asyncio
import time
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.responses import HTMLResponse

from chassis.access import Caller
from chassis.clients import NotUnderstood
from chassis.dependencies import Db, from_app
from chassis.etags import OptionalSeenVersion, showing, tagged
from chassis.freshness import MayLag
from chassis.pages import plain_page
from chassis.paging import Cursor, Limit
from chassis.webhooks import WebhookSecrets, verify_signature
from contracts import payments as contract
from contracts.errors import ErrorCode, FieldError, Problem, Refusal
from contracts.paging import Page
from contracts.payments import (
    CapturePayment,
    GiveBack,
    GivenBack,
    MovementKey,
    PaymentStatus,
    ProcessPayment,
    RefundPayment,
    ReleaseHold,
)
from services.payment import commands, queries
from services.payment.access import ACCESS
from services.payment.model import Account, DebtKind, NewsState, OrderState, Velocity
from services.payment.ports import DisputeState, PaymentProvider, Statements
from services.payment.schemas import (
    BankEntryView,
    BankOrderView,
    DebtView,
    DisputeView,
    LedgerEntryView,
    MovementView,
    NewsView,
    PaymentDetail,
    PaymentView,
    SettleDebtRequest,
    StatementTaken,
    TransactionView,
)

UNKNOWN_OUTCOME: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The outcome is not known yet: repeat the request"}
}

public = ACCESS.router(prefix="/api/v1/payments", tags=["payment"])
internal = ACCESS.router(prefix="/internal/v1/payments", tags=["internal"], responses=UNKNOWN_OUTCOME)


LOOK_AGAIN_S = 5
_TAKEN = ("Thank you", "Your payment is confirmed, and your order goes on. You may close this page.")
_TOLD = {
    PaymentStatus.AUTHORIZED: _TAKEN,
    PaymentStatus.CAPTURED: _TAKEN,
    PaymentStatus.DECLINED: (
        "The payment was not confirmed",
        "Nothing was charged. If the shop still keeps your goods, you can pay your order with another card.",
    ),
    PaymentStatus.VOIDED: ("The order was cancelled", "Nothing was charged."),
    PaymentStatus.REFUNDED: ("The order was cancelled", "What was charged goes back to your card."),
}
_WAITS = ("One moment", "Your bank has not told us yet whether you confirmed the payment. This page looks again by itself.")
STRIPE_EVENT = {
    "type": "object",
    "title": "StripeEvent",
    "description": "An Event of Stripe's API, about a charge, refund or dispute.",
}
Wake = Annotated[asyncio.Event, from_app(asyncio.Event)]
ChargeName = Annotated[str, Query(max_length=100, pattern=r"^[A-Za-z0-9_]*$", description="The provider's name for a charge.")]
Provider = Annotated[PaymentProvider, from_app(PaymentProvider)]
Limits = Annotated[Velocity, from_app(Velocity)]
Reader = Annotated[Statements, from_app(Statements)]
TransferName = Annotated[str | None, Query(max_length=25, pattern=r"^[A-Z0-9]+$", description="The creditor reference.")]
XML_BODY = {"required": True, "content": {"application/xml": {"schema": {"type": "string", "maxLength": 1_000_000}}}}


async def signed_by_provider(
    request: Request,
    secrets: Annotated[WebhookSecrets, from_app(WebhookSecrets)],
    signature: Annotated[
        str | None, Header(alias="Stripe-Signature", max_length=1000, description="`t=<unix time>,v1=<HMAC-SHA256>`")
    ] = None,
) -> None:
    """Refusal: invalid_signature."""
    verify_signature(signature, await request.body(), secrets, time.time())


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


@public.get("/owed", summary="What the shop owes, or cannot place, the oldest first")
async def list_owed(
    db: MayLag, caller: Caller, kind: DebtKind | None = None, settled: bool = False, cursor: Cursor = None, limit: Limit = 50
) -> Page[DebtView]:
    return await queries.list_owed(db, caller, kind=kind, settled=settled, cursor=cursor, limit=limit)


@public.post("/owed/{debt_id}/settle", summary="Say how something owed was settled by hand")
async def settle_debt(
    db: Db, caller: Caller, debt_id: UUID, seen: OptionalSeenVersion, request: SettleDebtRequest, response: Response
) -> DebtView:
    with showing(DebtView.of):
        debt = await commands.settle_debt(db, debt_id, seen, request.reason, caller.subject)
        return tagged(response, DebtView.of(debt))


@public.get("/disputes", summary="List disputes, newest first")
async def list_disputes(
    db: MayLag,
    caller: Caller,
    order_id: UUID | None = None,
    state: DisputeState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DisputeView]:
    return await queries.list_disputes(db, caller, order_id=order_id, state=state, cursor=cursor, limit=limit)


@public.get("/news", summary="What the provider told and could not be applied at once")
async def list_news(
    db: MayLag, caller: Caller, state: NewsState | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[NewsView]:
    return await queries.list_news(db, caller, state=state, cursor=cursor, limit=limit)


@public.post(
    "/webhook",
    status_code=204,
    dependencies=[Depends(signed_by_provider)],
    summary="The payment provider tells what happened",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": STRIPE_EVENT}}}},
)
async def provider_webhook(db: Db, provider: Provider, wake: Wake, request: Request) -> None:
    news = provider.news(await request.body())
    if news is not None and await commands.apply_news(db, news):
        wake.set()


@public.get("/bank-entries", summary="What came in on the shop's bank account, newest first")
async def list_bank_entries(
    db: MayLag, caller: Caller, reference: TransferName = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[BankEntryView]:
    return await queries.list_bank_entries(db, caller, reference=reference, cursor=cursor, limit=limit)


@public.get("/bank-orders", summary="What the shop's bank is asked to give back, newest first")
async def list_bank_orders(
    db: MayLag, caller: Caller, state: OrderState | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[BankOrderView]:
    return await queries.list_bank_orders(db, caller, state=state, cursor=cursor, limit=limit)


@public.post(
    "/bank-statements",
    summary="Upload a statement of the shop's bank account",
    description="Of a bank that offers it only as a download, or of a day whose news was lost: camt.053 or camt.054, each entry "
    "with the bank's own reference. However often an entry is told, it has its effect once.",
    openapi_extra={"requestBody": XML_BODY},
)
async def upload_bank_statement(
    db: Db, caller: Caller, statements: Reader, provider: Provider, request: Request
) -> StatementTaken:
    body = await request.body()
    try:
        bookings = statements.bookings(body)
    except NotUnderstood as error:
        wrong = FieldError(field="body", code="not_understood", detail=str(error))
        detail, extra = "The statement cannot be booked.", {"errors": [wrong.model_dump(mode="json")]}
        raise Refusal(ErrorCode.VALIDATION_FAILED, detail, extra=extra) from error
    booked = await commands.book(db, bookings)
    await commands.tell_payments(db, provider)
    return StatementTaken(entries=booked.entries, new=booked.new)


@public.get("/return", summary="The page to which a bank sends a customer back", response_class=HTMLResponse)
async def payment_return(db: Db, provider: Provider, payment_intent: ChargeName = "") -> HTMLResponse:
    return _return_page(await commands.look_again(db, provider, payment_intent) if payment_intent else None)


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


@public.post("/{payment_id}/refunds/{key}/retry", responses=UNKNOWN_OUTCOME, summary="Try a refund that failed again")
async def retry_refund(db: Db, provider: Provider, payment_id: UUID, key: Annotated[MovementKey, Path()]) -> MovementView:
    return MovementView.of(await commands.refund_again(db, provider, payment_id, key))


@internal.post("/process", summary="Take the money, or hold it")
async def process(db: Db, provider: Provider, velocity: Limits, command: ProcessPayment) -> contract.Payment:
    return await commands.process_payment(db, provider, command, velocity=velocity)


@internal.post("/capture", summary="Take what is held, or some of it")
async def capture(db: Db, provider: Provider, command: CapturePayment) -> contract.Payment:
    return await commands.capture_payment(db, provider, command)


@internal.post("/refund", summary="Give some of it back, or undo a payment")
async def refund(db: Db, provider: Provider, command: RefundPayment) -> contract.Payment:
    return await commands.refund_payment(db, provider, command)


@internal.post("/give-back", summary="Give back so much of an order, whichever attempt took it")
async def give_back(db: Db, provider: Provider, command: GiveBack) -> GivenBack:
    return await commands.give_back(db, provider, command)


@internal.post("/release-hold", summary="Let go of what is held and not taken")
async def release_hold(db: Db, provider: Provider, command: ReleaseHold) -> contract.Payment:
    return await commands.release_hold(db, provider, command)


def _return_page(status: PaymentStatus | None) -> HTMLResponse:
    """By where the payment is; None: there is none of that name."""
    if status is None:
        return plain_page("There is no such payment", "Is the address complete?", status=HTTPStatus.NOT_FOUND)
    if status in _TOLD:
        return plain_page(*_TOLD[status])
    return plain_page(*_WAITS, reload_after_s=LOOK_AGAIN_S)
