"""Identity over HTTP."""

from services.identity.api import accounts, internal, security, sessions, users

ROUTERS = [internal.keys, accounts.auth, sessions.auth, sessions.users, users.users, security.log, internal.internal]
