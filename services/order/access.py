"""Who may do what with orders. The warehouse knows an order by its parcels only: it reads them in shipping, and may split here
what it cannot send whole."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_DECIDE = {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
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
        "list_discounts": _DECIDE,
        "get_discount": _DECIDE,
        "list_redemptions": _DECIDE,
        "put_discount": _ADMIN,
        "disable_discount": _ADMIN,
        "get_erasure": _DECIDE,
        "advance_order": _SAGA,
        "look_up_keys": _SAGA,
    }
)
