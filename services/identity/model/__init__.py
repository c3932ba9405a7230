"""Users, their sessions and the guard against guessing: state, rules, and the events that tell of a change."""

from services.identity.model.guards import FAILURE_WINDOW, FAILURES_ALLOWED, LoginGuard
from services.identity.model.sessions import REFRESH_TOKEN_LASTS, RefreshFamily
from services.identity.model.tables import metadata, outbox
from services.identity.model.users import User, wrong_credentials

__all__ = [
    "FAILURES_ALLOWED",
    "FAILURE_WINDOW",
    "REFRESH_TOKEN_LASTS",
    "LoginGuard",
    "RefreshFamily",
    "User",
    "metadata",
    "outbox",
    "wrong_credentials",
]
