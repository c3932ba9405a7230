"""Notifications, their deliveries, people, texts: state, rules, and the events that tell of a change."""

from services.notification.model.notifications import (
    COUNTED,
    DEFAULT_LANGUAGE,
    IN_VAIN,
    SUPPRESSED_FOR,
    TO_SEND,
    UNSENT,
    Attempt,
    Audience,
    Delivery,
    DeliveryStatus,
    Notification,
    Outcome,
    first_delivery,
    next_channel,
    pause_after,
)
from services.notification.model.people import CODE_TRIES, MOST_BROWSERS, InboxReader, Person, ReadMark, languages_of, nobody_yet
from services.notification.model.stock import LowStock, last_digest, listed
from services.notification.model.tables import inbox, metadata, outbox
from services.notification.model.templates import Template, TextVersion

__all__ = [
    "CODE_TRIES",
    "COUNTED",
    "DEFAULT_LANGUAGE",
    "IN_VAIN",
    "MOST_BROWSERS",
    "SUPPRESSED_FOR",
    "TO_SEND",
    "UNSENT",
    "Attempt",
    "Audience",
    "Delivery",
    "DeliveryStatus",
    "InboxReader",
    "LowStock",
    "Notification",
    "Outcome",
    "Person",
    "ReadMark",
    "Template",
    "TextVersion",
    "first_delivery",
    "inbox",
    "languages_of",
    "last_digest",
    "listed",
    "metadata",
    "next_channel",
    "nobody_yet",
    "outbox",
    "pause_after",
]
