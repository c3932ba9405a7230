"""Identity over HTTP."""

from services.identity.api import accounts, internal, sessions, users

ROUTERS = [internal.keys, accounts.auth, sessions.auth, users.users, internal.internal]
