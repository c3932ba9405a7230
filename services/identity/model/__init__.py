"""Users, their sessions and the guard against guessing: state, rules, and the events that tell of a change."""

from services.identity.model import secret_tokens
from services.identity.model.guards import FAILURE_WINDOW, FAILURES_ALLOWED, LoginGuard
from services.identity.model.sessions import REFRESH_TOKEN_LASTS, EndReason, Session
from services.identity.model.tables import metadata, outbox
from services.identity.model.users import User, wrong_credentials

__all__ = [
    "FAILURES_ALLOWED",
    "FAILURE_WINDOW",
    "REFRESH_TOKEN_LASTS",
    "EndReason",
    "LoginGuard",
    "Session",
    "User",
    "metadata",
    "outbox",
    "secret_tokens",
    "wrong_credentials",
]
