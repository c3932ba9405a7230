"""Who may do what with payments. Nobody moves money by hand: the saga does."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_SAGA = {Role.SERVICE: Reach.ALL}

ACCESS = AccessTable(
    {
        "list_payments": _READ,
        "get_payment": _READ,
        "list_ledger": {Role.ADMIN: Reach.ALL},
        "list_movements": _READ,
        "list_transactions": _READ,
        "process": _SAGA,
        "capture": _SAGA,
        "refund": _SAGA,
    }
)
