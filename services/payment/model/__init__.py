"""Attempts to pay, the movements of their money, and the ledger: state, rules, and the events that tell of a change."""

from services.payment.model.ledger import Account, LedgerEntry
from services.payment.model.movements import CHARGE, Movement
from services.payment.model.payments import FINAL, Change, LedgerMismatch, Payment
from services.payment.model.tables import inbox, metadata, outbox
from services.payment.model.velocity import NEVER_TAKEN, VELOCITY, Recent, Subject, Velocity

__all__ = [
    "CHARGE",
    "FINAL",
    "NEVER_TAKEN",
    "VELOCITY",
    "Account",
    "Change",
    "LedgerEntry",
    "LedgerMismatch",
    "Movement",
    "Payment",
    "Recent",
    "Subject",
    "Velocity",
    "inbox",
    "metadata",
    "outbox",
]
