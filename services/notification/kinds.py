"""What each kind of notification is: its group, by which channels it goes, how urgent it is, and what its texts may name.

All of it is policy, written as data. Kinds are `contracts.notifications.NotificationKind`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from contracts.notifications import NotificationKind
from services.notification.channels import Channel

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Group(StrEnum):
    """Kinds that a person chooses channels for together."""

    ORDERS = "orders"
    DELIVERIES = "deliveries"
    RETURNS = "returns"
    REMINDERS = "reminders"
    ACCOUNT = "account"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """`is_required`: a person may choose by which channel, but not to hear nothing. `is_chosen`: people choose at all."""

    about: str
    is_required: bool
    is_chosen: bool = True


GROUPS: Mapping[Group, GroupPolicy] = {
    Group.ORDERS: GroupPolicy("What becomes of your orders and of your money", is_required=True),
    Group.DELIVERIES: GroupPolicy("Where your parcels are", is_required=False),
    Group.RETURNS: GroupPolicy("What becomes of your returns and claims", is_required=True),
    Group.REMINDERS: GroupPolicy("Reminders", is_required=False),
    Group.ACCOUNT: GroupPolicy("Your account: always by mail, or where it was asked for", is_required=True, is_chosen=False),
    Group.STAFF: GroupPolicy("Work of the staff: to the addresses and roles that the settings name", True, is_chosen=False),
}
CHOSEN_GROUPS = tuple(group for group, policy in GROUPS.items() if policy.is_chosen)


@dataclass(frozen=True, slots=True)
class KindPolicy:
    """`values`: what the texts may name, with an example: nothing that customers write themselves, or the shop would mail their
    words to whoever they like. A value that a notification lacks is empty there."""

    group: Group
    values: Mapping[str, str]
    channels: tuple[Channel, ...] = (Channel.EMAIL, Channel.PUSH, Channel.INBOX)
    """Where it goes if the person has chosen nothing. SMS only where it was asked for: each costs money."""
    fallback: tuple[Channel, ...] = ()
    """Which channels are tried, in this order, when another one has failed for good."""
    is_urgent: bool = False
    """It does not wait for the end of quiet hours."""


_C = Channel
_MAIL_ALONE = (_C.EMAIL,)
_STAFF = (_C.EMAIL, _C.INBOX)
_MUST_HEAR = (_C.EMAIL, _C.SMS, _C.PUSH)
_ORDER = {"order_id": "6f1c2a52-6d0b-5d0e-9c0e-2f6f4a0f7c11"}
_PART = {"tracking_number": "TRK123456", "parcel": "2", "parcels": "3"}
_RETURN = _ORDER | {"number": "1", "is_claim": ""}
_LINK = {"link": "https://shop.example/api/v1/auth/links/verify-email?token=2Fq9"}
_DISPUTE = _ORDER | {"payment_id": "1b4e28ba-2fa1-51d2-883f-0016d3cca427", "amount": "42.50 USD"}


def _orders(values: Mapping[str, str] = _NOTHING, **more: bool | tuple[Channel, ...]) -> KindPolicy:
    return KindPolicy(Group.ORDERS, {**_ORDER, **values}, **more)  # type: ignore[arg-type]


def _deliveries(values: Mapping[str, str]) -> KindPolicy:
    return KindPolicy(Group.DELIVERIES, {**_ORDER, **values})


def _returns(values: Mapping[str, str] = _NOTHING, fallback: tuple[Channel, ...] = ()) -> KindPolicy:
    return KindPolicy(Group.RETURNS, {**_RETURN, **values}, fallback=fallback)


def _account(values: Mapping[str, str]) -> KindPolicy:
    return KindPolicy(Group.ACCOUNT, values, _MAIL_ALONE, is_urgent=True)


def _staff(values: Mapping[str, str], channels: tuple[Channel, ...] = _STAFF) -> KindPolicy:
    return KindPolicy(Group.STAFF, values, channels, is_urgent=True)


_ACTION = {
    "total": "42.50 USD",
    "until": "2026-12-01 14:30 UTC",
    "url": "https://bank.example/confirm",
    "recipient": "Shop",
    "iban": "DE89370400440532013000",
    "reference": "RF18539007547034",
}
_K = NotificationKind
KINDS: Mapping[NotificationKind, KindPolicy] = {
    _K.ORDER_CONFIRMED: _orders({"total": "42.50 USD", "lines": "3", "tracking_number": "TRK123456"}),
    _K.ORDER_SHIPPED: _deliveries({"tracking_number": "TRK123456"}),
    _K.ORDER_DELIVERED: _deliveries({"tracking_number": "TRK123456"}),
    _K.PART_SHIPPED: _deliveries(_PART),
    _K.PART_DELIVERED: _deliveries(_PART),
    _K.PAYMENT_DUE: _orders({"total": "42.50 USD", "pay_until": "2026-12-01 14:30 UTC"}, fallback=_MUST_HEAR, is_urgent=True),
    _K.PAYMENT_ACTION: _orders(_ACTION, fallback=_MUST_HEAR, is_urgent=True),
    _K.CARD_NEEDED: _orders({"pay_until": "2026-12-01 14:30 UTC"}, fallback=_MUST_HEAR, is_urgent=True),
    _K.ORDER_HELD_UP: _orders({"total": "42.50 USD"}),
    _K.GOODS_DELAYED: _deliveries({"expected_on": "2026-12-08", "was_expected_on": "2026-12-01"}),
    _K.ORDER_AMENDED: _orders({"total": "42.50 USD", "charged": "12.50 USD", "refunded": ""}),
    _K.ORDER_CANCELLED: _orders({"total": "42.50 USD", "refunded": "42.50 USD"}, fallback=_MUST_HEAR),
    _K.ORDER_UNDELIVERED: _orders({"trouble": "lost"}),
    _K.ORDER_REFUNDED: _orders({"total": "42.50 USD", "refunded": "42.50 USD"}),
    _K.PART_CANCELLED: _orders({"units": "2", "refunded": "12.50 USD"}),
    _K.RETURN_APPROVED: _returns(
        {"tracking_number": "RET123456", "warehouse": "410", "until": "2026-12-22"}, fallback=_MUST_HEAR
    ),
    _K.RETURN_REJECTED: _returns(),
    _K.RETURN_REMINDER: KindPolicy(Group.REMINDERS, _RETURN | {"until": "2026-12-22"}),
    _K.RETURN_RECEIVED: _returns(),
    _K.RETURN_COMPLETED: _returns(
        {"refunded": "12.50 USD", "replacement_id": "0d4a0c2e-6a5c-5d34-8a5b-2f8f6b0e3c55", "is_resend": ""}
    ),
    _K.RETURN_EXPIRED: _returns(),
    _K.VERIFY_EMAIL: _account(_LINK),
    _K.ACCOUNT_EXISTS: _account(_LINK),
    _K.PASSWORD_RESET: _account(_LINK),
    _K.EMAIL_CHANGE_OLD: _account(_LINK),
    _K.EMAIL_CHANGE_NEW: _account(_LINK),
    _K.PASSWORD_CHANGED: KindPolicy(Group.ACCOUNT, _NOTHING, (_C.EMAIL, _C.INBOX), fallback=_MUST_HEAR, is_urgent=True),
    _K.PHONE_CODE: KindPolicy(Group.ACCOUNT, {"code": "204816"}, (_C.SMS,), is_urgent=True),
    _K.REFUND_FAILED: _staff(_ORDER | {"amount": "42.50 USD", "failure": "expired_or_canceled_card"}),
    _K.DISPUTE_OPENED: _staff(_DISPUTE | {"why": "product_not_received"}),
    _K.DISPUTE_CLOSED: _staff(_DISPUTE | {"is_won": "yes"}),
    _K.DECISION_NEEDED: _staff(_ORDER | {"trouble": "lost", "parcel": "2"}),
    _K.CUSTOMER_UNREACHED: _staff(_ORDER | {"about": "payment_due", "channel": "email"}, (_C.INBOX,)),
    _K.LOW_STOCK: _staff({"warehouse": "410", "products": "milk: 3 left of 5 wanted\ncheese: 0 left of 2 wanted", "count": "2"}),
    _K.PRODUCT_WITHDRAWN: _staff({"product_id": "milk"}, (_C.INBOX,)),
}


def is_refusable(kind: NotificationKind) -> bool:
    """Whether a person may switch this kind off wholly: then its mails say how."""
    policy = GROUPS[KINDS[kind].group]
    return policy.is_chosen and not policy.is_required
