"""Bank transfers as a payment provider. What a card processor would keep of them is kept here: nobody else knows what a customer
was asked to transfer. What comes of it at the bank is told by commands/bank.py.
"""

from sqlalchemy import bindparam
from sqlmodel import col

from chassis.clients import NotUnderstood
from chassis.database import Database
from chassis.statements import locked
from chassis.store import UnitOfWork, transaction
from contracts.money import Money
from services.payment.commands import payment_named
from services.payment.model import REVERSAL, BankEntry, BankOrder, Debt, LedgerMismatch, Transfer, TransferAccount, order_name
from services.payment.ports import (
    Capabilities,
    ChargeRequest,
    Decline,
    Opened,
    ProviderCharge,
    ProviderMovement,
    ProviderMovementState,
    ProviderNews,
    ProviderStatus,
)

NOT_CAPTURABLE = "not_capturable"
"""A transfer is taken when it is there; nothing of it is ever held."""
OFF = Decline("transfers_off", "The shop takes no bank transfers.")
NOBODY_THERE = Decline("nobody_to_transfer", "A bank transfer needs a customer who is there to make it.")
_PAID_BY = locked(BankEntry, (col(BankEntry.reference) == bindparam("reference")) & (col(BankEntry.taken_minor) > 0))
_ORDERS = locked(BankOrder, col(BankOrder.reference) == bindparam("reference"))


class Transfers:
    """A `PaymentProvider`."""

    def __init__(self, database: Database, account: TransferAccount | None) -> None:
        """`account`: to which customers transfer; without one, transfers are declined."""
        self._database, self._account = database, account

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(multi_capture=False, partial_capture=False)

    async def open(self, request: ChargeRequest) -> Opened:
        if self._account is None:
            return Opened(None, None, OFF)
        if request.return_url is None:
            return Opened(None, None, NOBODY_THERE)
        return Opened(await _open(self._database, request, self._account), None)

    async def charge(self, provider_id: str, request: ChargeRequest) -> ProviderCharge:
        return await self.look(provider_id)

    async def capture(self, provider_id: str, *, amount: Money, key: str, is_last: bool) -> ProviderCharge:
        refused = ProviderMovement(None, ProviderMovementState.FAILED, amount, NOT_CAPTURABLE)
        return (await _transfer(self._database, provider_id)).told(refused)

    async def refund(self, provider_id: str, *, amount: Money, key: str, reason: str) -> ProviderMovement:
        # The bank is not told the reason: words in which somebody may have named the customer stay here.
        return await _refund(self._database, provider_id, amount, key)

    async def reverse(self, provider_id: str, reason: str) -> ProviderCharge:
        return await _reverse(self._database, provider_id)

    async def release(self, provider_id: str, reason: str) -> ProviderCharge:
        return await self.look(provider_id)

    async def look(self, provider_id: str) -> ProviderCharge:
        return (await _transfer(self._database, provider_id)).told()

    def news(self, body: bytes) -> ProviderNews | None:
        raise NotUnderstood("a bank tells nothing by webhook")


@transaction
async def _open(work: UnitOfWork, request: ChargeRequest, account: TransferAccount) -> str:
    """The reference that the customer is to state. What the charge was first opened with, it stays. Raises LedgerMismatch."""
    transfer, _ = await work.get_or_add(Transfer.asked(request, account))
    if transfer.charge != request.reference:
        raise LedgerMismatch(f"{transfer.reference} is the reference of {transfer.charge} and of {request.reference}")
    return transfer.reference


@transaction
async def _transfer(work: UnitOfWork, reference: str) -> Transfer:
    return _known(await work.read(Transfer, reference))


@transaction
async def _refund(work: UnitOfWork, reference: str, amount: Money, key: str) -> ProviderMovement:
    transfer = _known(await work.get(Transfer, reference))
    return (await _order(work, transfer, key, amount.minor)).movement


@transaction
async def _reverse(work: UnitOfWork, reference: str) -> ProviderCharge:
    transfer = _known(await work.get(Transfer, reference))
    if transfer.forbid():
        payment = await payment_named(work, reference)
        debt = Debt.of_transfer(payment, transfer, f"{reference} undone", transfer.received_minor, "order_undone")
        await work.get_or_add(debt, "kind", "subject")
    reversals = [row for row in await work.all(_ORDERS, reference=reference) if row.key.startswith(REVERSAL)]
    if transfer.status == ProviderStatus.CAPTURED:
        made = await _order(work, transfer, f"{REVERSAL}-{len(reversals) + 1}", transfer.left_minor)
        return transfer.told(made.movement)
    newest = max(reversals, key=lambda row: row.created_at, default=None)
    return transfer.told(newest.movement if newest else None)


async def _order(work: UnitOfWork, transfer: Transfer, key: str, minor: int) -> BankOrder:
    """The order under this key, new or as it is."""
    known = await work.get(BankOrder, order_name(transfer.reference, key))
    if known is not None:
        return known
    payers = [row for row in await work.all(_PAID_BY, reference=transfer.reference) if row.iban is not None]
    order = BankOrder.of(transfer, key, minor, max(payers, key=lambda row: row.seen_at, default=None))
    work.add(order)
    return order


def _known(transfer: Transfer | None) -> Transfer:
    if transfer is None:
        raise NotUnderstood("there is no such transfer")
    return transfer
