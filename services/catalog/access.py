"""Who may do what in the catalogue: everybody reads, admins change."""

from chassis.access import AccessTable, Open, Reach
from contracts.identity import Role

_CHANGE = {Role.ADMIN: Reach.ALL}

ACCESS = AccessTable(
    {
        "list_products": Open.PUBLIC,
        "get_product": Open.PUBLIC,
        "create_product": _CHANGE,
        "import_products": _CHANGE,
        "change_product": _CHANGE,
        "set_price": _CHANGE,
        "delete_product": _CHANGE,
        "list_categories": Open.PUBLIC,
        "get_category": Open.PUBLIC,
        "create_category": _CHANGE,
        "change_category": _CHANGE,
        "delete_category": _CHANGE,
        "look_up_products": {Role.SERVICE: Reach.ALL},
    }
)
