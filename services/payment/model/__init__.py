"""Attempts to pay, the movements of their money, and the ledger: state, rules, and the events that tell of a change."""

from services.payment.model.attempt import FINAL, UNDECIDED, Change, LedgerMismatch, charge_request
from services.payment.model.debts import Debt, DebtKind, settle_by_disputes
from services.payment.model.disputes import Dispute
from services.payment.model.giving_back import refunds_for
from services.payment.model.ledger import Account, LedgerEntry
from services.payment.model.movements import CHARGE, UNDO, Movement, base_of
from services.payment.model.news import NewsItem, NewsState
from services.payment.model.payments import Payment, agree
from services.payment.model.tables import inbox, metadata, outbox
from services.payment.model.transfers import (
    REVERSAL,
    BankEntry,
    BankOrder,
    OrderState,
    Transfer,
    TransferAccount,
    creditor_reference,
    is_creditor_reference,
    order_name,
    reference_in,
)
from services.payment.model.velocity import NEVER_TAKEN, VELOCITY, Recent, Subject, Velocity

__all__ = [
    "CHARGE",
    "FINAL",
    "NEVER_TAKEN",
    "REVERSAL",
    "UNDECIDED",
    "UNDO",
    "VELOCITY",
    "Account",
    "BankEntry",
    "BankOrder",
    "Change",
    "Debt",
    "DebtKind",
    "Dispute",
    "LedgerEntry",
    "LedgerMismatch",
    "Movement",
    "NewsItem",
    "NewsState",
    "OrderState",
    "Payment",
    "Recent",
    "Subject",
    "Transfer",
    "TransferAccount",
    "Velocity",
    "agree",
    "base_of",
    "charge_request",
    "creditor_reference",
    "inbox",
    "is_creditor_reference",
    "metadata",
    "order_name",
    "outbox",
    "reference_in",
    "refunds_for",
    "settle_by_disputes",
]
