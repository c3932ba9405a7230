"""Users, their sessions and devices, the guard against guessing, the security log: state, rules, and the events that tell of a
change."""

from services.identity.model import secret_tokens
from services.identity.model.devices import DEVICES_KEPT, Device
from services.identity.model.guards import FORGOTTEN_AFTER, NEAR, WIDE, Limit, LoginGuard
from services.identity.model.security import Budget, SecurityEvent, SecurityRecord
from services.identity.model.sessions import REFRESH_TOKEN_LASTS, EndReason, Session
from services.identity.model.tables import metadata, outbox
from services.identity.model.users import User, wrong_credentials

__all__ = [
    "DEVICES_KEPT",
    "FORGOTTEN_AFTER",
    "NEAR",
    "REFRESH_TOKEN_LASTS",
    "WIDE",
    "Budget",
    "Device",
    "EndReason",
    "Limit",
    "LoginGuard",
    "SecurityEvent",
    "SecurityRecord",
    "Session",
    "User",
    "metadata",
    "outbox",
    "secret_tokens",
    "wrong_credentials",
]
