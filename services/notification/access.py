"""Who may do what with notifications. One names its customer and order: for those two and support, not for a warehouse. The inbox
and what is chosen are everybody's own."""

from chassis.access import AccessTable, Open, Reach
from contracts.identity import Role

_READ = {Role.CUSTOMER: Reach.OWN, Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_READ_TEXTS = {Role.SUPPORT: Reach.ALL, Role.ADMIN: Reach.ALL}
_WRITE_TEXTS = {Role.ADMIN: Reach.ALL}
_OWN = dict.fromkeys((Role.CUSTOMER, Role.SUPPORT, Role.WAREHOUSE, Role.ADMIN), Reach.OWN)

ACCESS = AccessTable(
    {
        "list_notifications": _READ,
        "get_notification": _READ,
        "list_texts": _READ_TEXTS,
        "get_text": _READ_TEXTS,
        "list_text_versions": _READ_TEXTS,
        "get_text_version": _READ_TEXTS,
        "preview_text": _READ_TEXTS,
        "create_text": _WRITE_TEXTS,
        "put_text": _WRITE_TEXTS,
        "choose_version": _WRITE_TEXTS,
        "send_test": _WRITE_TEXTS,
        "list_templates": _READ_TEXTS,
        "get_template": _READ_TEXTS,
        "put_template": _WRITE_TEXTS,
        "get_preferences": _OWN,
        "put_preferences": _OWN,
        "put_phone": _OWN,
        "prove_phone": _OWN,
        "delete_phone": _OWN,
        "get_push_key": Open.PUBLIC,
        "add_push_subscription": _OWN,
        "list_push_subscriptions": _OWN,
        "remove_push_subscription": _OWN,
        "test_push_subscription": _OWN,
        "show_push_page": Open.PUBLIC,
        "push_page_script": Open.PUBLIC,
        "push_service_worker": Open.PUBLIC,
        "twilio_webhook": Open.PROOF,
        "email_webhook": Open.PROOF,
        "list_inbox": _OWN,
        "stream_inbox": _OWN,
        "mark_read": _OWN,
        "read_all": _OWN,
        "show_unsubscribing": Open.PROOF,
        "unsubscribe": Open.PROOF,
        "send_notification": {Role.SERVICE: Reach.ALL},
    }
)
