"""Who may do what with payments. Nobody moves money by hand: the saga does, but for refunds that failed."""

from chassis.access import AccessTable, Open, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_LOOK_AFTER = {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_SETTLE = {Role.ADMIN: Reach.ALL}
_SAGA = {Role.SERVICE: Reach.ALL}

ACCESS = AccessTable(
    {
        "list_payments": _READ,
        "get_payment": _READ,
        "list_ledger": _SETTLE,
        "list_movements": _READ,
        "list_transactions": _READ,
        "list_owed": _LOOK_AFTER,
        "list_disputes": _LOOK_AFTER,
        "list_news": _LOOK_AFTER,
        "list_bank_entries": _LOOK_AFTER,
        "list_bank_orders": _LOOK_AFTER,
        "upload_bank_statement": _SETTLE,
        "retry_refund": _SETTLE,
        "settle_debt": _SETTLE,
        "provider_webhook": Open.PROOF,
        "payment_return": Open.PROOF,
        "process": _SAGA,
        "capture": _SAGA,
        "refund": _SAGA,
        "give_back": _SAGA,
        "release_hold": _SAGA,
    }
)
