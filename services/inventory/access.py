"""Who may do what with stock. Support looks; who works in a warehouse looks after its stock, and no other's."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_READ = {Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL}
_CHANGE = {Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL}
_SAGA = {Role.SERVICE: Reach.ALL}

ACCESS = AccessTable(
    {
        "list_warehouses": _READ,
        "get_warehouse": _READ,
        "put_warehouse": _CHANGE,
        "list_stock": _READ,
        "get_stock": _READ,
        "list_movements": _READ,
        "receive_stock": _CHANGE,
        "adjust_stock": _CHANGE,
        "count_stock": _CHANGE,
        "transfer_stock": _CHANGE,
        "announce_receipt": _CHANGE,
        "list_expected_receipts": _READ,
        "get_expected_receipt": _READ,
        "move_receipt": _CHANGE,
        "cancel_receipt": _CHANGE,
        "list_backorders": _READ,
        "get_outlook": {**_READ, Role.WAREHOUSE: Reach.ALL},
        "reserve": _SAGA,
        "release": _SAGA,
        "ship": _SAGA,
        "restock": _SAGA,
        "receive_return": _SAGA,
        "split": _SAGA,
        "move": _SAGA,
        "get_reservation": _SAGA,
    }
)
