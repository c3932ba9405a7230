"""Kinds of notifications; command of the saga to notification, and its reply."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from contracts.base import Command, Contract, Told


class NotificationKind(StrEnum):
    """What somebody is told; each kind has its texts."""

    ORDER_CONFIRMED = "order_confirmed"
    ORDER_SHIPPED = "order_shipped"
    ORDER_DELIVERED = "order_delivered"
    PART_SHIPPED = "part_shipped"
    """One of several parcels has left."""
    PART_DELIVERED = "part_delivered"
    PAYMENT_DUE = "payment_due"
    """The card was declined, and another one may be tried."""
    CARD_NEEDED = "card_needed"
    """What is to be taken for a confirmed order cannot be taken, or not be held any more: another card may be named."""
    ORDER_HELD_UP = "order_held_up"
    """It takes long until it is confirmed; the customer need not do anything."""
    GOODS_DELAYED = "goods_delayed"
    """What a parcel waits for comes later."""
    ORDER_CANCELLED = "order_cancelled"
    ORDER_UNDELIVERED = "order_undelivered"
    """The parcel is lost, or came back."""
    ORDER_REFUNDED = "order_refunded"
    """It did not arrive, and the money goes back."""
    ORDER_AMENDED = "order_amended"
    """It was changed before anything of it had left."""
    PART_CANCELLED = "part_cancelled"
    """Some of the order was cancelled."""
    RETURN_APPROVED = "return_approved"
    """Its goods may come, and how; of a claim: it is settled next."""
    RETURN_REJECTED = "return_rejected"
    RETURN_REMINDER = "return_reminder"
    """Its goods have not come yet, and until when they may."""
    RETURN_RECEIVED = "return_received"
    RETURN_COMPLETED = "return_completed"
    RETURN_EXPIRED = "return_expired"
    VERIFY_EMAIL = "verify_email"
    ACCOUNT_EXISTS = "account_exists"
    """Somebody entered an address that is taken as their own."""
    PASSWORD_RESET = "password_reset"  # noqa: S105
    EMAIL_CHANGE_OLD = "email_change_old"
    """To the address that an account is about to leave."""
    EMAIL_CHANGE_NEW = "email_change_new"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    PHONE_CODE = "phone_code"
    """Proves that a telephone number is the person's: a code that is sent there, and stored nowhere."""
    PAYMENT_ACTION = "payment_action"
    """The customer has to do something before the money is there: confirm the payment at the bank, or transfer it."""
    REFUND_FAILED = "refund_failed"
    """To finance: money did not get back to a customer. So are the next two."""
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_CLOSED = "dispute_closed"
    DECISION_NEEDED = "decision_needed"
    """To support: an order's parcel does not arrive, and somebody has to decide."""
    CUSTOMER_UNREACHED = "customer_unreached"
    """To support: a customer who has to do something could not be told."""
    LOW_STOCK = "low_stock"
    """To a warehouse: what is running out there, once a day."""
    PRODUCT_WITHDRAWN = "product_withdrawn"
    """To warehouses: it is not sold any more."""


class SendNotification(Command):
    """Tell a customer something about an order, by the channels that the customer wants. Idempotent by `key`. A mail is sent if
    the customer's address is verified."""

    key: Annotated[str, Field(max_length=200)]
    """Same key, same notification: it is sent once by each channel."""
    kind: NotificationKind
    customer_id: UUID
    order_id: UUID
    values: Annotated[dict[Annotated[str, Field(max_length=40)], Told], Field(max_length=20)]
    """What the template may name, e.g. `total`, `tracking_number`."""


class NotificationQueued(Contract):
    notification_id: UUID
