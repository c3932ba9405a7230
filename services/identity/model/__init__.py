"""Users, their sessions and links, the guards against guessing and flooding: state, rules, and the events of a change."""

from services.identity.model.guards import FAILURE_WINDOW, FAILURES_ALLOWED, LoginGuard
from services.identity.model.links import (
    EMAIL_CHANGE,
    MAIL_WINDOW,
    MAILS_ALLOWED,
    AccountLink,
    LinkPurpose,
    MailGuard,
    hash_of,
    invalid_link,
)
from services.identity.model.sessions import REFRESH_TOKEN_LASTS, RefreshFamily
from services.identity.model.tables import metadata, outbox
from services.identity.model.users import User, wrong_credentials

__all__ = [
    "EMAIL_CHANGE",
    "FAILURES_ALLOWED",
    "FAILURE_WINDOW",
    "MAILS_ALLOWED",
    "MAIL_WINDOW",
    "REFRESH_TOKEN_LASTS",
    "AccountLink",
    "LinkPurpose",
    "LoginGuard",
    "MailGuard",
    "RefreshFamily",
    "User",
    "hash_of",
    "invalid_link",
    "metadata",
    "outbox",
    "wrong_credentials",
]
