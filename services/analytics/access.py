"""Who may see which report: what the shop earns is for admins; support sees the customer whom it talks to."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_EARNINGS = {Role.ADMIN: Reach.ALL}

ACCESS = AccessTable(
    {
        "summary": _EARNINGS,
        "sales_by_day": _EARNINGS,
        "top_products": _EARNINGS,
        "customers": _EARNINGS,
        "customer": {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL},
    }
)
