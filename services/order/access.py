"""Who may do what with orders. The warehouse knows an order by its parcels only: it reads them in shipping, and may split here
what it cannot send whole; and by the returns whose goods it expects."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_DECIDE = {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_WAREHOUSE = {Role.WAREHOUSE: Reach.WAREHOUSES}
_ADMIN = {Role.ADMIN: Reach.ALL}
_SAGA = {Role.SERVICE: Reach.ALL}

ACCESS = AccessTable(
    {
        "quote_order": {Role.CUSTOMER: Reach.OWN, Role.ADMIN: Reach.OWN},
        "place_order": {Role.CUSTOMER: Reach.OWN, Role.ADMIN: Reach.OWN},
        "list_orders": _READ,
        "get_order": _READ,
        "get_timeline": _READ,
        "explain_order": _READ,
        "cancel_order": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
        "approve_order": _DECIDE,
        "reject_order": _DECIDE,
        "decide_parcel": _DECIDE,
        "split_parcel": {Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL},
        "pay_order": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
        "answer_shortage": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
        "list_returnable": _READ,
        "request_return": _READ,
        "preview_return": _READ,
        "list_returns_of_order": _READ,
        "list_returns": _READ | _WAREHOUSE,
        "get_return": _READ | _WAREHOUSE,
        "get_return_timeline": _READ | _WAREHOUSE,
        "approve_return": _DECIDE,
        "reject_return": _DECIDE,
        "cancel_return": _READ,
        "receive_return": _DECIDE | _WAREHOUSE,
        "preview_amendment": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
        "amend_order": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
        "list_amendments": _READ,
        "list_discounts": _DECIDE,
        "get_discount": _DECIDE,
        "list_redemptions": _DECIDE,
        "put_discount": _ADMIN,
        "disable_discount": _ADMIN,
        "get_erasure": _DECIDE,
        "advance_order": _SAGA,
        "tell_return": _SAGA,
        "place_replacement": _SAGA,
        "look_up_keys": _SAGA,
    }
)
