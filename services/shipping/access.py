"""Who may do what with parcels. A warehouse has its own to dispatch, and sees of an order what is on the parcel's label."""

from chassis.access import AccessTable, Open, Reach
from contracts.identity import Role

_ASK = {Role.CUSTOMER: Reach.ALL, Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.ALL, Role.ADMIN: Reach.ALL}
_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL}
_STAFF = {Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL}
_HAND_OVER = {Role.WAREHOUSE: Reach.WAREHOUSES, Role.ADMIN: Reach.ALL}
_SAGA = {Role.SERVICE: Reach.ALL}

ACCESS = AccessTable(
    {
        "quote": _ASK,
        "check_address": _ASK,
        "list_shipments": _READ,
        "get_shipment": _READ,
        "track": _READ,
        "get_label": _READ,
        "get_packing_slip": _STAFF,
        "list_to_dispatch": _STAFF,
        "get_pick_list": _STAFF,
        "dispatch": _HAND_OVER,
        "deliver": _HAND_OVER,
        "carrier_webhook": Open.PROOF,
        "create": _SAGA,
        "cancel": _SAGA,
        "create_return_label": _SAGA,
        "cancel_return_label": _SAGA,
        "get_shipment_of_order": _SAGA,
        "look_up_tariff": _SAGA,
    }
)
