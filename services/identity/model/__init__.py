"""Users, their sessions, devices and links, the guards against guessing and flooding, the security log: state, rules, and the
events that tell of a change."""

from services.identity.model import secret_tokens
from services.identity.model.devices import DEVICES_KEPT, Device
from services.identity.model.guards import FORGOTTEN_AFTER, PER_ACCOUNT, PER_GUESSER, Limit, LoginGuard
from services.identity.model.links import EMAIL_CHANGE, MAIL_WINDOW, AccountLink, LinkPurpose, MailGuard, invalid_link
from services.identity.model.security import Budget, SecurityEvent, SecurityRecord
from services.identity.model.sessions import REFRESH_TOKEN_LASTS, EndReason, Session
from services.identity.model.tables import metadata, outbox
from services.identity.model.users import User, unknown_user, wrong_credentials

__all__ = [
    "DEVICES_KEPT",
    "EMAIL_CHANGE",
    "FORGOTTEN_AFTER",
    "MAIL_WINDOW",
    "PER_ACCOUNT",
    "PER_GUESSER",
    "REFRESH_TOKEN_LASTS",
    "AccountLink",
    "Budget",
    "Device",
    "EndReason",
    "Limit",
    "LinkPurpose",
    "LoginGuard",
    "MailGuard",
    "SecurityEvent",
    "SecurityRecord",
    "Session",
    "User",
    "invalid_link",
    "metadata",
    "outbox",
    "secret_tokens",
    "unknown_user",
    "wrong_credentials",
]
