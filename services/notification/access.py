"""Who may do what with mails. A mail names its customer and order: for those two and support, not for a warehouse."""

from chassis.access import AccessTable, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_READ_TEXTS = {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}

ACCESS = AccessTable(
    {
        "list_notifications": _READ,
        "get_notification": _READ,
        "list_templates": _READ_TEXTS,
        "get_template": _READ_TEXTS,
        "put_template": {Role.ADMIN: Reach.ALL},
        "send_notification": {Role.SERVICE: Reach.ALL},
    }
)
