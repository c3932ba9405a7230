"""Who may do what with accounts: everybody with their own, support looks people up, admins give and take rights."""

from chassis.access import AccessTable, Open, Reach
from contracts.identity import Role

_ONESELF = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.OWN, Role.WAREHOUSE: Reach.OWN, Role.ADMIN: Reach.OWN}
_RIGHTS = {Role.ADMIN: Reach.ALL}

ACCESS = AccessTable(
    {
        "key_set": Open.PUBLIC,
        "register": Open.PUBLIC,
        "verify_email": Open.PROOF,
        "ask_for_verification": _ONESELF,
        "ask_for_reset": Open.PUBLIC,
        "reset_password": Open.PROOF,
        "ask_for_email_change": _ONESELF,
        "show": Open.PUBLIC,
        "submit": Open.PROOF,
        "log_in": Open.PROOF,
        "refresh": Open.PROOF,
        "log_out": Open.PUBLIC,
        "change_password": _ONESELF,
        "erase_me": _ONESELF,
        "get_me": _ONESELF,
        "change_profile": _ONESELF,
        "list_my_sessions": _ONESELF,
        "end_my_other_sessions": _ONESELF,
        "end_my_session": _ONESELF,
        "get_user": {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.WAREHOUSE: Reach.OWN, Role.ADMIN: Reach.ALL},
        "list_users": _RIGHTS,
        "set_roles": _RIGHTS,
        "disable": _RIGHTS,
        "enable": _RIGHTS,
        "erase_user": _RIGHTS,
        "list_sessions": _RIGHTS,
        "end_sessions": _RIGHTS,
        "end_session": _RIGHTS,
        "list_security_log": _RIGHTS,
        "service_token": Open.PROOF,
        "ended_sessions": Open.PUBLIC,
        "look_up_contacts": {Role.SERVICE: Reach.ALL},
        "prepare_mail": {Role.SERVICE: Reach.ALL},
    }
)
