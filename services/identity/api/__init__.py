"""Identity over HTTP."""

from services.identity.api import accounts, internal, pages, security, sessions, users

ROUTERS = [
    internal.keys,
    accounts.auth,
    accounts.me,
    pages.links,
    sessions.auth,
    sessions.users,
    users.users,
    security.log,
    internal.internal,
    internal.mails,
]
